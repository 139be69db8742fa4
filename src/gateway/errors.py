"""The one tree of errors.

    GatewayError
    ├── SettingsError       faults in a settings file, all of them at once
    ├── ReceiptError        a receipt that cannot be trusted
    ├── LabelError          a label that cannot be counted
    ├── LedgerError         the ledger cannot do what was asked
    │   └── LedgerUnavailable   nothing was kept; the caller may retry
    ├── LeaseLost           a review task is no longer the reviewer's
    ├── TooLate             what was said about a review task cannot be changed any more
    ├── NotAllowed          a queue is not for this reviewer
    ├── NotFound            no decision or review task of that id
    ├── PolicyConflict      another policy came first
    ├── Forbidden           who asks may not, or cannot be told from who may
    ├── FeedbackUnsent      a client could not hand its feedback over
    ├── LabelToolError      a label tool cannot be worked with as it is
    ├── RateLimited         the caller sends more than it may
    ├── QualityError        arrays from which no number can be had
    └── DataSetError        a data set that cannot be made, or not there

Every class has a `code` that dashboards may match (it never changes) and the gRPC status that a caller sees. A text
says where, what was found, what was wanted, and the mend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

__all__ = [
    "DataSetError",
    "FeedbackUnsent",
    "Forbidden",
    "GatewayError",
    "LabelError",
    "LabelToolError",
    "LeaseLost",
    "LedgerError",
    "LedgerUnavailable",
    "NotAllowed",
    "NotFound",
    "PolicyConflict",
    "QualityError",
    "RateLimited",
    "ReceiptError",
    "SettingsError",
    "TooLate",
]


class GatewayError(Exception):
    """Anything the gateway itself raises."""

    code: ClassVar[str] = "internal"
    grpc_status: ClassVar[int] = 13  # INTERNAL


class SettingsError(GatewayError):
    """The settings have faults; `faults` holds every one, in the order of the file."""

    code = "faulty_settings"
    grpc_status = 3  # INVALID_ARGUMENT

    def __init__(self, faults: list[object]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


class ReceiptError(GatewayError):
    """A receipt was not made by this gateway, was changed, or is too old."""

    code = "bad_receipt"
    grpc_status = 3  # INVALID_ARGUMENT

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class LabelError(GatewayError):
    """A label that cannot be counted; `kind` says in one word why: no such row, class or source."""

    code = "bad_label"
    grpc_status = 3  # INVALID_ARGUMENT

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class LedgerError(GatewayError):
    """The ledger holds something else than what was asked for."""

    code = "ledger"
    grpc_status = 9  # FAILED_PRECONDITION


class LedgerUnavailable(LedgerError):
    """The ledger cannot be written or read now; nothing of the request was kept."""

    code = "ledger_unavailable"
    grpc_status = 14  # UNAVAILABLE: the caller may retry


class LeaseLost(GatewayError):
    """The lease on a review task ran out and the task went to somebody else."""

    code = "lease_lost"
    grpc_status = 9  # FAILED_PRECONDITION


class TooLate(GatewayError):
    """Others work on what the reviewer said, so it stands as it is."""

    code = "too_late"
    grpc_status = 9  # FAILED_PRECONDITION


class NotAllowed(GatewayError):
    """The settings name the reviewers of a queue, and this one is not among them."""

    code = "not_allowed"
    grpc_status = 7  # PERMISSION_DENIED


class NotFound(GatewayError):
    """Nothing of that id is kept."""

    code = "not_found"
    grpc_status = 5  # NOT_FOUND


class PolicyConflict(GatewayError):
    """A policy was made to follow one that is not the latest any more."""

    code = "policy_conflict"
    grpc_status = 10  # ABORTED: look again and decide again


class Forbidden(GatewayError):
    """Wants a role that the caller did not show."""

    code = "forbidden"
    grpc_status = 7  # PERMISSION_DENIED


class FeedbackUnsent(GatewayError):
    """The gateway did not acknowledge these items. What is sent again and was kept after all counts once.

    `results`: of the items before them. `unsent`: the items.
    """

    code = "feedback_unsent"
    grpc_status = 14  # UNAVAILABLE: the same may be sent again

    def __init__(self, message: str, results: Sequence[Any], unsent: Sequence[Any]) -> None:
        super().__init__(message)
        self.results = list(results)
        self.unsent = list(unsent)


class LabelToolError(GatewayError):
    """A label tool is away, refuses, or holds something else than was wanted; `kind` says in one word why."""

    code = "label_tool"
    grpc_status = 9  # FAILED_PRECONDITION

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class RateLimited(GatewayError):
    """The caller sends more than it may; nothing was kept, and after `wait_s` seconds it may send the same again."""

    code = "rate_limited"
    grpc_status = 8  # RESOURCE_EXHAUSTED

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class QualityError(GatewayError):
    """Arrays whose shapes or values allow no estimate."""

    code = "quality"
    grpc_status = 3  # INVALID_ARGUMENT


class DataSetError(GatewayError):
    """A data set cannot be made of what there is, or cannot be written there; nothing was."""

    code = "data_set"
    grpc_status = 9  # FAILED_PRECONDITION
