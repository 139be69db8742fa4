"""Feedback: what callers learn later about predictions they got, by receipt."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc

from gateway.errors import GatewayError, LabelError, NotFound, ReceiptError
from gateway.ledger import REVIEW, Facts, Kept, LabelRow, Ledger, RouteClasses, truth_of
from gateway.services.errors import error_word
from gateway.types import Outcome
from gateway.v1 import feedback_pb2 as pb
from gateway.v1 import feedback_pb2_grpc

__all__ = ["DEFAULT_SOURCE", "MAX_ITEMS", "FeedbackService"]

MAX_ITEMS: Final = 1_000
"""Items in one call; they are committed together."""

DEFAULT_SOURCE: Final = "feedback"

_SOURCE: Final = re.compile(r"[a-z0-9_.-]{1,64}")
_STATUS: Final = {
    Kept.ACCEPTED: pb.FeedbackResult.ACCEPTED,
    Kept.DUPLICATE: pb.FeedbackResult.DUPLICATE,
    Kept.CORRECTED: pb.FeedbackResult.CORRECTED,
}

Verify = Callable[[str], Mapping[str, Any]]
Classes = Callable[[str], RouteClasses | None]


@dataclass(frozen=True, slots=True)
class _Prediction:
    """What an item is about; `facts` is None while the ledger was not asked yet."""

    decision: bytes
    row: int
    facts: Facts | None


class FeedbackService(feedback_pb2_grpc.FeedbackServiceServicer):
    """`gateway.v1.FeedbackService`.

    Args:
        verify: a receipt -> its fields; raises ReceiptError.
        classes: a route -> its classes, None for one that is not served.
        receipt_max_age_h: older receipts are refused.
        clock_us: the time, microseconds since 1970.
    """

    def __init__(
        self,
        ledger: Ledger,
        verify: Verify,
        classes: Classes,
        receipt_max_age_h: float,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._ledger = ledger
        self._verify = verify
        self._classes = classes
        self._max_age_h = receipt_max_age_h
        self._clock_us = clock_us

    async def Submit(  # noqa: N802 - the name in the proto
        self,
        request: pb.SubmitFeedbackRequest,
        context: grpc.aio.ServicerContext[pb.SubmitFeedbackRequest, pb.SubmitFeedbackResponse],
    ) -> pb.SubmitFeedbackResponse:
        """Keep what can be kept, and say of each item what became of it."""
        count = len(request.items)
        if not 1 <= count <= MAX_ITEMS:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{count} items, wanted 1 to {MAX_ITEMS:,}; send several calls",
            )
        results = [pb.FeedbackResult(row=item.row) for item in request.items]
        rows = await self._rows(request, results)
        if count == 1 and isinstance(rows[0], GatewayError):
            raise rows[0]
        good = [row for row in rows if isinstance(row, LabelRow)]
        done = await asyncio.wrap_future(self._ledger.submit_labels(good)) if good else []
        kept = iter(done)
        for row, result in zip(rows, results, strict=True):
            if isinstance(row, LabelRow):
                result.status = _STATUS[next(kept)]
            else:
                result.status = pb.FeedbackResult.REFUSED
                result.code, result.message = error_word(row), str(row)
        return pb.SubmitFeedbackResponse(results=results)

    async def _rows(
        self, request: pb.SubmitFeedbackRequest, results: list[pb.FeedbackResult]
    ) -> list[LabelRow | GatewayError]:
        """Each item as what is to be kept, or why it cannot be."""
        receipts: dict[str, Mapping[str, Any] | ReceiptError] = {}
        found: list[_Prediction | GatewayError] = []
        for item, result in zip(request.items, results, strict=True):
            try:
                prediction = self._prediction(item, receipts)
            except GatewayError as error:
                found.append(error)
            else:
                found.append(prediction)
                result.decision_id = str(uuid.UUID(bytes=prediction.decision))
        asked = [(p.decision, p.row) for p in found if isinstance(p, _Prediction) and p.facts is None]
        facts = await asyncio.to_thread(self._ledger.find_facts, asked) if asked else {}
        rows: list[LabelRow | GatewayError] = []
        for item, about in zip(request.items, found, strict=True):
            if isinstance(about, GatewayError):
                rows.append(about)
                continue
            try:
                known = about.facts or facts.get((about.decision, about.row))
                rows.append(self._row(item, about, known, item.source or request.source or DEFAULT_SOURCE))
            except GatewayError as error:
                rows.append(error)
        return rows

    def _prediction(
        self, item: pb.FeedbackItem, receipts: dict[str, Mapping[str, Any] | ReceiptError]
    ) -> _Prediction:
        named = item.WhichOneof("decision")
        if named is None:
            raise LabelError(
                "no_decision", "neither receipt nor decision_id is set; send the receipt of the answer"
            )
        if named == "decision_id":
            try:
                return _Prediction(uuid.UUID(item.decision_id).bytes, item.row, None)
            except ValueError:
                raise LabelError(
                    "bad_decision_id",
                    "decision_id is not a UUID; send gateway-decision-id as it came",
                ) from None
        receipt = receipts.get(item.receipt)
        if receipt is None:
            receipt = receipts[item.receipt] = self._checked(item.receipt)
        if isinstance(receipt, ReceiptError):
            raise receipt
        last = len(receipt["rows"]) - 1
        if item.row > last:
            raise LabelError("no_such_row", f"row {item.row}, but the receipt has rows 0 to {last}")
        return _Prediction(bytes(receipt["id"]), item.row, _facts(receipt, receipt["rows"][item.row]))

    def _checked(self, text: str) -> Mapping[str, Any] | ReceiptError:
        """A receipt's fields, or why it is refused: once for all items that have it."""
        try:
            receipt = self._verify(text)
        except ReceiptError as error:
            return ReceiptError(f"receipt_{error.kind.removeprefix('receipt_')}", str(error))
        age_h = (self._clock_us() // 1000 - int(receipt["time_ms"])) / 3_600_000
        if age_h > self._max_age_h:
            return ReceiptError(
                "receipt_expired",
                f"the receipt is {age_h:,.0f} h old, wanted at most {self._max_age_h:,.0f} h (receipts.max_age_h)",
            )
        return receipt

    def _row(
        self, item: pb.FeedbackItem, prediction: _Prediction, facts: Facts | None, source: str
    ) -> LabelRow:
        if not _SOURCE.fullmatch(source) or source == REVIEW:
            raise LabelError(
                "bad_source",
                f"source {source[:64]!r}: wanted a-z, 0-9, `_`, `-`, `.`, at most 64 of them, and not `{REVIEW}`",
            )
        if facts is None:
            raise _Unknown(
                f"decision {uuid.UUID(bytes=prediction.decision)} row {prediction.row} is not in the ledger, "
                "which keeps those sampled for review; send the receipt"
            )
        said = item.WhichOneof("truth")
        return LabelRow(
            decision=prediction.decision,
            row=prediction.row,
            source=source,
            truth=truth_of(
                facts.route,
                self._classes(facts.route),
                label=item.label if said == "label" else None,
                positive=item.positive if said == "positive" else None,
                value=item.value if said == "value" else None,
            ),
            facts=facts,
            received_us=self._clock_us(),
        )


class _Unknown(NotFound):
    """Feedback by the id of a decision that was not kept."""

    kind = "unknown_decision"


def _facts(receipt: Mapping[str, Any], row: Mapping[str, Any]) -> Facts:
    return Facts(
        time_us=int(receipt["time_ms"]) * 1000,
        policy=int(receipt["policy"]),
        route=str(receipt["route"]),
        backend=str(receipt["backend"]),
        segment=str(receipt["segment"]),
        outcome=int(Outcome[str(row["outcome"]).upper()]),
        score=None if row["score"] is None else float(row["score"]),
        flagged=row["flagged"],
        review_pi=float(row["review_pi"]),
        sampled=bool(row["sampled"]),
        arm=receipt["arm"],
        propensity=float(receipt["propensity"]),
    )
