"""Feedback: what callers learn later about predictions they got, by receipt or by decision id."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import grpc

from gateway.errors import GatewayError, LabelError, RateLimited
from gateway.ledger import Kept, LabelRow, Ledger, PendingRow
from gateway.services.errors import error_word
from gateway.services.gathering import Gathering
from gateway.services.intake import Intake, Judged, Statement
from gateway.services.pending import Waiting
from gateway.services.rates import Rates
from gateway.v1 import feedback_pb2 as pb
from gateway.v1 import feedback_pb2_grpc

__all__ = ["CALLER_METADATA", "DEFAULT_SOURCE", "MAX_ITEMS", "FeedbackService", "refusal_of"]

MAX_ITEMS: Final = 1_000
"""Items in one call; they are committed together."""

DEFAULT_SOURCE: Final = "feedback"

CALLER_METADATA: Final = "gateway-caller"
"""Who calls, as the data plane says it: `tls:<name>`, `addr:<address>` or `unix`. Callers cannot say it; whoever may
use the admin port, which is the operators', can."""

_STATUS: Final = {
    Kept.ACCEPTED: pb.FeedbackResult.ACCEPTED,
    Kept.DUPLICATE: pb.FeedbackResult.DUPLICATE,
    Kept.CORRECTED: pb.FeedbackResult.CORRECTED,
    Kept.PENDING: pb.FeedbackResult.PENDING,
    Kept.SUPERSEDED: pb.FeedbackResult.SUPERSEDED,
}
_NAMES: Final = {number: name.lower() for name, number in pb.FeedbackResult.Status.items()}
_KINDS: Final = {"signal": "signal", "value": "outcome", None: ""}
_WORDS: Final = {
    Kept.CROWDED: "64 other statements about this row are kept, by source, kind and name; use fewer names",
    Kept.FULL: "too many statements wait for the records of their decisions; send the receipt, which never waits",
}
_PENDING_WORDS: Final = (
    "the decision's record has not come; this counts when it does, and is dropped if none comes "
    "(only decisions sampled for review have one): send the receipt to be sure"
)
_SUPERSEDED_WORDS: Final = "what this source said before happened later, and counts"


class FeedbackService(feedback_pb2_grpc.FeedbackServiceServicer):
    """`gateway.v1.FeedbackService`. `results`: items by (kind, status, code), since the start.

    Args:
        waiting: told when something waits for its decision's record.
    """

    def __init__(self, ledger: Ledger, intake: Intake, rates: Rates, waiting: Waiting) -> None:
        self._ledger = ledger
        self._gathering = Gathering(ledger)
        self._intake = intake
        self._rates = rates
        self._waiting = waiting
        self.results: Counter[tuple[str, str, str]] = Counter()
        self.limited = 0
        """Items that were refused as their caller sends too many."""

    async def Submit(  # noqa: N802 - the name in the proto
        self,
        request: pb.SubmitFeedbackRequest,
        context: grpc.aio.ServicerContext[pb.SubmitFeedbackRequest, pb.SubmitFeedbackResponse],
    ) -> pb.SubmitFeedbackResponse:
        """Keep what can be kept, and say of each item what became of it."""
        count = len(request.items)
        caller = _caller(context)
        try:
            self._rates.take(caller, max(1, count))
        except RateLimited:
            self.limited += max(1, count)
            raise
        if not 1 <= count <= MAX_ITEMS:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{count} items, wanted 1 to {MAX_ITEMS:,}; send several calls",
            )
        said = [_statement(item, item.source or request.source or DEFAULT_SOURCE) for item in request.items]
        # An address is no name: who came from there stands for nobody later.
        judged = await self._judged(said, caller if caller.startswith("tls:") else "")
        if count == 1 and isinstance(judged[0], GatewayError):
            self._count(request.items[0], "refused", error_word(judged[0]))
            raise judged[0]
        kept = await self._keep(judged)
        results = [
            self._result(item, of, what) for item, of, what in zip(request.items, judged, kept, strict=True)
        ]
        if count == 1 and kept[0] is not None and (refused := refusal_of(kept[0])) is not None:
            raise refused
        return pb.SubmitFeedbackResponse(results=results)

    async def _judged(self, said: Sequence[Statement], author: str) -> list[Judged]:
        """Receipts are judged here and now; the ledger, where it must be asked, in a thread."""
        if all(statement.receipt is not None for statement in said):
            return self._intake.judge(said, author)
        return await asyncio.to_thread(self._intake.judge, said, author)

    async def _keep(self, judged: Sequence[Judged]) -> list[Kept | None]:
        """What became of each in the ledger; None for those that were refused before."""
        rows = [row for row in judged if isinstance(row, LabelRow)]
        held = [row for row in judged if isinstance(row, PendingRow)]
        if held:
            kept, waits = await asyncio.wrap_future(self._ledger.submit_feedback(rows, held))
            self._waiting.expect()
        else:
            kept = await self._gathering.keep(rows) if rows else []
            waits = []
        of_rows, of_held = iter(kept), iter(waits)
        return [
            next(of_rows)
            if isinstance(row, LabelRow)
            else next(of_held)
            if isinstance(row, PendingRow)
            else None
            for row in judged
        ]

    def _result(self, item: pb.FeedbackItem, judged: Judged, kept: Kept | None) -> pb.FeedbackResult:
        result = pb.FeedbackResult(row=item.row)
        refused = judged if isinstance(judged, GatewayError) else None
        if kept is not None:
            refused = refusal_of(kept)
        if isinstance(judged, (LabelRow, PendingRow)):
            result.decision_id = _spelled(judged.decision)
        if refused is not None:
            result.status = pb.FeedbackResult.REFUSED
            result.code, result.message = error_word(refused), str(refused)
        elif kept is not None:
            result.status = _STATUS[kept]
            if kept is Kept.PENDING:
                result.message = _PENDING_WORDS
            elif kept is Kept.SUPERSEDED:
                result.message = _SUPERSEDED_WORDS
        self._count(item, _NAMES[result.status], result.code)
        return result

    def _count(self, item: pb.FeedbackItem, status: str, code: str) -> None:
        self.results[_KINDS.get(item.WhichOneof("truth"), "label"), status, code] += 1


def refusal_of(kept: Kept) -> GatewayError | None:
    """The error that a statement is refused by which the ledger had no place for; None for what was not refused."""
    if kept is Kept.FULL:
        return _Full(_WORDS[kept])
    return LabelError(kept.value, _WORDS[kept]) if kept in _WORDS else None


class _Full(RateLimited):
    """As many statements wait for their decisions' records as may."""

    kind = "pending_full"

    def __init__(self, message: str) -> None:
        super().__init__(message, wait_s=1.0)


def _spelled(decision: bytes) -> str:
    """As `str(uuid.UUID(bytes=decision))`, in a third of the time."""
    said = decision.hex()
    return f"{said[:8]}-{said[8:12]}-{said[12:16]}-{said[16:20]}-{said[20:]}"


def _caller(context: Any) -> str:
    """Who calls: as the data plane says it on its socket, empty where it does not. What comes from elsewhere is handed
    on by a sidecar, or pretends to be: there the address is all that is known.
    """
    peer = str(context.peer())
    if not peer.startswith("unix:"):
        return f"peer:{peer.rsplit(':', 1)[0]}"
    metadata = context.invocation_metadata() or ()
    return next((str(value) for key, value in metadata if key == CALLER_METADATA), "")


def _statement(item: pb.FeedbackItem, source: str) -> Statement:
    named, said, happened = (item.WhichOneof(name) for name in ("decision", "truth", "happened"))
    value = item.value if said == "value" else None
    signal = None
    if said == "signal":
        signal = item.signal.name
        value = item.signal.value if item.signal.HasField("value") else None
    return Statement(
        source=source,
        receipt=item.receipt if named == "receipt" else None,
        decision_id=item.decision_id if named == "decision_id" else None,
        row=item.row,
        label=item.label if said == "label" else None,
        positive=item.positive if said == "positive" else None,
        value=value,
        signal=signal,
        event_us=item.time_ms * 1000 if happened == "time_ms" else None,
        delay_s=item.delay_s if happened == "delay_s" else None,
    )
