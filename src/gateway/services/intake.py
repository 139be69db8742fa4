"""What is said of predictions, judged before it is kept: the same for a call and for an import.

In: statements with a receipt or a decision id. Out: rows for the ledger, or why a statement cannot be kept, in order.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.errors import GatewayError, LabelError, LedgerUnavailable, NotFound, ReceiptError
from gateway.ledger import REVIEW, Facts, LabelRow, Ledger, PendingRow, RouteClasses, Truth, truth_of
from gateway.types import Outcome

__all__ = ["Classes", "FeedbackRules", "Intake", "Judged", "Statement", "Verify"]

_OUTCOMES: Final = {outcome.name.lower(): int(outcome) for outcome in Outcome}
_SOURCE: Final = re.compile(r"[a-z0-9_.-]{1,64}")

Verify = Callable[[str], Mapping[str, Any]]
Classes = Callable[[str], RouteClasses | None]
Judged = LabelRow | PendingRow | GatewayError


@dataclass(frozen=True, slots=True)
class FeedbackRules:
    """What of feedback is believed; the settings' block `receipts`.

    `max_age_h`: older receipts are refused. `clock_skew_s`: what clocks may differ by. `pending_s`: how old a decision
    may be for its record to be still on its way.
    """

    max_age_h: float = 2160.0
    clock_skew_s: float = 300.0
    pending_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing that somebody says about one prediction; what was not said is None."""

    source: str
    receipt: str | None = None
    decision_id: str | None = None
    row: int = 0
    label: str | None = None
    positive: bool | None = None
    value: float | None = None
    signal: str | None = None
    event_us: int | None = None
    """When it happened, microseconds since 1970."""
    delay_s: float | None = None
    """Or how long after the prediction."""


@dataclass(frozen=True, slots=True)
class _Prediction:
    """What a statement is about; `facts` is None while the ledger was not asked yet."""

    decision: bytes
    row: int
    facts: Facts | None


class Intake:
    """Judges statements; thread-safe.

    Args:
        verify: a receipt -> its fields; raises ReceiptError.
        classes: a route -> its classes, None for one that is not served; may raise LedgerUnavailable.
        rules: as they are now; the settings may change.
        clock_us: the time, microseconds since 1970.
    """

    def __init__(
        self,
        ledger: Ledger,
        verify: Verify,
        classes: Classes,
        rules: Callable[[], FeedbackRules],
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._ledger = ledger
        self._verify = verify
        self.classes = classes
        self._rules = rules
        self._clock_us = clock_us

    def judge(self, said: Sequence[Statement], author: str = "") -> list[Judged]:
        """Each statement as what is to be kept, or why it cannot be. Asks the ledger about decision ids.

        Raises: LedgerUnavailable when the ledger cannot be read, or it is not known yet which routes there are.
        """
        receipts: dict[str, Mapping[str, Any] | ReceiptError] = {}
        found: list[_Prediction | GatewayError] = []
        for statement in said:
            try:
                found.append(self._prediction(statement, receipts))
            except GatewayError as error:
                found.append(error)
        asked = [(p.decision, p.row) for p in found if isinstance(p, _Prediction) and p.facts is None]
        facts = self._ledger.find_facts(asked) if asked else {}
        judged: list[Judged] = []
        for statement, about in zip(said, found, strict=True):
            if isinstance(about, GatewayError):
                judged.append(about)
                continue
            try:
                known = about.facts or facts.get((about.decision, about.row))
                judged.append(self._row(statement, about, known, author))
            except LedgerUnavailable:  # nothing is wrong with the statement: all of them may be sent again
                raise
            except GatewayError as error:
                judged.append(error)
        return judged

    def _prediction(
        self, statement: Statement, receipts: dict[str, Mapping[str, Any] | ReceiptError]
    ) -> _Prediction:
        if statement.receipt is None:
            if statement.decision_id is None:
                raise LabelError(
                    "no_decision", "neither receipt nor decision_id is set; send the receipt of the answer"
                )
            if not 0 <= statement.row < 2**31:
                raise LabelError("no_such_row", f"row {statement.row}, but no batch has so many")
            return _Prediction(_decision(statement.decision_id), statement.row, None)
        receipt = receipts.get(statement.receipt)
        if receipt is None:
            receipt = receipts[statement.receipt] = self._checked(statement.receipt)
        if isinstance(receipt, ReceiptError):
            raise receipt
        last = len(receipt["rows"]) - 1
        if not 0 <= statement.row <= last:
            raise LabelError("no_such_row", f"row {statement.row}, but the receipt has rows 0 to {last}")
        return _Prediction(
            bytes(receipt["id"]), statement.row, _facts(receipt, receipt["rows"][statement.row])
        )

    def _checked(self, text: str) -> Mapping[str, Any] | ReceiptError:
        """A receipt's fields, or why it is refused: once for all statements that have it."""
        try:
            receipt = self._verify(text)
        except ReceiptError as error:
            return ReceiptError(f"receipt_{error.kind.removeprefix('receipt_')}", str(error))
        rules = self._rules()
        age_h = (self._clock_us() // 1000 - int(receipt["time_ms"])) / 3_600_000
        if age_h > rules.max_age_h:
            return ReceiptError(
                "receipt_expired",
                f"the receipt is {age_h:,.0f} h old, wanted at most {rules.max_age_h:,.0f} h; "
                "truth that comes later is taken once receipts.max_age_h is raised in the settings",
            )
        if age_h * 3600 < -rules.clock_skew_s:
            return ReceiptError(
                "receipt_early",
                f"the receipt is of a call {-age_h * 3600:,.0f} s from now, by this gateway's clock; wanted at most "
                f"{rules.clock_skew_s:,.0f} s (receipts.clock_skew_s): one of the clocks is wrong, set it right",
            )
        return receipt

    def _row(
        self, statement: Statement, prediction: _Prediction, facts: Facts | None, author: str
    ) -> LabelRow | PendingRow:
        source = statement.source
        if not _SOURCE.fullmatch(source) or source == REVIEW:
            raise LabelError(
                "bad_source",
                f"source {source[:64]!r}: wanted a-z, 0-9, `_`, `-`, `.`, at most 64 of them, and not `{REVIEW}`",
            )
        if facts is None:
            return self._pending(statement, prediction, author)
        said = {
            "label": statement.label,
            "positive": statement.positive,
            "value": statement.value,
            "signal": statement.signal,
        }
        return LabelRow(
            decision=prediction.decision,
            row=prediction.row,
            source=source,
            truth=truth_of(facts.route, self.classes(facts.route), **said),  # type: ignore[arg-type]
            facts=facts,
            received_us=self._clock_us(),
            author=author,
            event_us=self._event_us(statement, facts.time_us),
        )

    def _pending(self, statement: Statement, prediction: _Prediction, author: str) -> PendingRow:
        """A statement that may wait for its decision's record; what it means is not known before.

        Raises: NotFound, when no record can be on its way.
        """
        now_us, time_us = self._clock_us(), _time_us(prediction.decision)
        rules = self._rules()
        age_s = None if time_us is None else (now_us - time_us) / 1e6
        if time_us is None or age_s is None or not -rules.clock_skew_s <= age_s < rules.pending_s:
            raise _Unknown(
                f"decision {uuid.UUID(bytes=prediction.decision)} row {prediction.row} is not in the ledger, "
                "which keeps those sampled for review; send the receipt"
            )
        return PendingRow(
            decision=prediction.decision,
            row=prediction.row,
            source=statement.source,
            truth=_as_said(statement),
            received_us=now_us,
            expires_us=time_us + round(rules.pending_s * 1e6),
            author=author,
            event_us=self._event_us(statement, time_us),
        )

    def _event_us(self, statement: Statement, prediction_us: int) -> int | None:
        """When it happened, where that was said.

        Raises: LabelError, `bad_time`, outside of what clocks may differ by.
        """
        event_us, skew_us = statement.event_us, round(self._rules().clock_skew_s * 1e6)
        if statement.delay_s is not None:
            if not -1e9 < statement.delay_s < 1e10:  # also NaN; 300 years
                raise LabelError(
                    "bad_time", f"delay_s is {statement.delay_s}, wanted seconds after the prediction"
                )
            event_us = prediction_us + round(statement.delay_s * 1e6)
        if event_us is None:
            return None
        ahead_s, before_s = (event_us - self._clock_us()) / 1e6, (prediction_us - event_us) / 1e6
        mend = "set the sender's clock right, or leave the time out: then it is taken to happen when it comes"
        allowed = f"wanted at most {skew_us / 1e6:,.0f} s (receipts.clock_skew_s)"
        if event_us - self._clock_us() > skew_us:
            raise LabelError(
                "bad_time",
                f"it happened {ahead_s:,.0f} s from now, by this gateway's clock; {allowed}; {mend}",
            )
        if prediction_us - event_us > skew_us:
            raise LabelError(
                "bad_time", f"it happened {before_s:,.0f} s before the prediction; {allowed}; {mend}"
            )
        return event_us


class _Unknown(NotFound):
    """Feedback by the id of a decision that was not kept."""

    kind = "unknown_decision"


def _decision(text: str) -> bytes:
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        raise LabelError(
            "bad_decision_id", "decision_id is not a UUID; send gateway-decision-id as it came"
        ) from None


def _time_us(decision: bytes) -> int | None:
    """When a decision was made, by its id (UUIDv7, RFC 9562), to the millisecond; None where it is no such id."""
    if decision[6] >> 4 != 7:
        return None
    return int.from_bytes(decision[:6], "big") * 1000


def _as_said(statement: Statement) -> Truth:
    """A truth as far as it means the same for every route.

    Raises: LabelError, as `truth_of` does.
    """
    if statement.signal is not None or statement.value is not None:
        return truth_of("", None, value=statement.value, signal=statement.signal)
    if statement.label is not None:
        return Truth(label=truth_of("", RouteClasses(), label=statement.label).label)
    return truth_of("", None, positive=statement.positive)


def _facts(receipt: Mapping[str, Any], row: Mapping[str, Any]) -> Facts:
    return Facts(
        time_us=int(receipt["time_ms"]) * 1000,
        policy=int(receipt["policy"]),
        route=str(receipt["route"]),
        backend=str(receipt["backend"]),
        segment=str(receipt["segment"]),
        outcome=_OUTCOMES[row["outcome"]],
        score=None if row["score"] is None else float(row["score"]),
        flagged=row["flagged"],
        review_pi=float(row["review_pi"]),
        sampled=bool(row["sampled"]),
        arm=receipt["arm"],
        propensity=float(receipt["propensity"]),
    )
