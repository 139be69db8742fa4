"""What is asked and answered, without a socket: the synchronous and the asyncio client both go by this.

Sent twice, an item counts once: so whatever may have been lost on its way is sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import tenacity

from gateway.errors import FeedbackUnsent, LabelError, NotFound, ReceiptError
from gateway.v1 import feedback_pb2 as pb

__all__ = ["MAX_ITEMS", "Backlog", "Exchange", "Result", "checked", "conversation", "retry_options"]

MAX_ITEMS: Final = 1_000
"""Items that one call takes."""

Exchange = Generator[pb.SubmitFeedbackRequest, pb.SubmitFeedbackResponse | grpc.RpcError, list["Result"]]

_AGAIN: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
_REFUSED: Final = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
_ERROR_TRAILER: Final = "gateway-error"
_PUSHBACK_TRAILER: Final = "grpc-retry-pushback-ms"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an item: `accepted`, `duplicate`, `corrected`, `pending`, `superseded` or `refused`.

    `code`, `message`: why it was refused. docs/feedback.md has the codes.
    """

    status: str
    code: str = ""
    message: str = ""
    decision_id: str = ""
    row: int = 0

    @property
    def refused(self) -> bool:
        return self.status == "refused"


def conversation(items: Sequence[pb.FeedbackItem], source: str) -> Exchange:
    """Yields requests, is sent their responses (or errors that are final), returns the items' results in order.

    Raises: FeedbackUnsent, with the results until then and the items that are left.
    """
    results: list[Result] = []
    for start in range(0, len(items), MAX_ITEMS):
        some = items[start : start + MAX_ITEMS]
        answer = yield pb.SubmitFeedbackRequest(items=some, source=source)
        if isinstance(answer, pb.SubmitFeedbackResponse):
            results += [_result(one) for one in answer.results]
            continue
        refused = _refusal(answer, some)
        if refused is None:
            raise FeedbackUnsent(_words(answer, len(items) - start), results, items[start:]) from answer
        results.append(refused)
    return results


def checked(result: Result) -> Result:
    """A result that was not refused.

    Raises: ReceiptError, NotFound or LabelError, as the service says it.
    """
    if not result.refused:
        return result
    if result.code.startswith("receipt_"):
        raise ReceiptError(result.code, result.message)
    if result.code == "unknown_decision":
        raise NotFound(result.message)
    raise LabelError(result.code, result.message)


def retry_options(give_up_after_s: float) -> dict[str, Any]:
    """For tenacity: what is tried again, after how long, and until when. The server's own hint is heeded."""
    wait = tenacity.wait_random_exponential(multiplier=0.1, max=5.0)

    def pause(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        hint = _trailers(error).get(_PUSHBACK_TRAILER, "")
        return int(hint) / 1000 if hint.isdecimal() else wait(state)

    return {
        "retry": tenacity.retry_if_exception(_may_help),
        "wait": pause,
        "stop": tenacity.stop_before_delay(give_up_after_s),
        "reraise": True,
    }


@dataclass(slots=True)
class Backlog:
    """Items that wait to be sent together; at most `most`, all told."""

    batch: int
    most: int
    items: list[pb.FeedbackItem] = field(default_factory=list)

    def add(self, item: pb.FeedbackItem) -> bool:
        """Take an item. Returns: whether there are enough of them to be sent.

        Raises: FeedbackUnsent, when as many wait as may, since none could be sent.
        """
        if len(self.items) >= self.most:
            words = f"{len(self.items):,} items wait already, as none could be sent; flush them, or drop them"
            raise FeedbackUnsent(words, [], [item])
        self.items.append(item)
        return len(self.items) >= self.batch

    @contextmanager
    def sending(self) -> Iterator[list[pb.FeedbackItem]]:
        """All that wait, to be sent within; what could not be sent waits on, before what came meanwhile."""
        taken, self.items = self.items, []
        try:
            yield taken
        except FeedbackUnsent as error:
            self.items[:0] = error.unsent
            raise
        except BaseException:  # broken off: nobody knows what arrived, and sent twice it counts once
            self.items[:0] = taken
            raise


def _may_help(error: BaseException) -> bool:
    return isinstance(error, grpc.RpcError) and _code(error) in _AGAIN


def _code(error: Any) -> grpc.StatusCode | None:
    code: Callable[[], grpc.StatusCode] | None = getattr(error, "code", None)
    return code() if code is not None else None


def _trailers(error: Any) -> dict[str, str]:
    trailing = getattr(error, "trailing_metadata", None)
    return {str(key): str(value) for key, value in (trailing() if trailing is not None else None) or ()}


def _refusal(error: Any, items: Sequence[pb.FeedbackItem]) -> Result | None:
    """A single item that is refused fails its call: it is a result like others. None where something else is wrong."""
    word = _trailers(error).get(_ERROR_TRAILER)
    if len(items) != 1 or word is None or _code(error) not in _REFUSED:
        return None
    return Result("refused", word, error.details() or "", items[0].decision_id, items[0].row)


def _words(error: Any, count: int) -> str:
    code, details = _code(error), getattr(error, "details", str)() or "no words with it"
    name = code.name if code is not None else type(error).__name__
    return f"{count:,} items were not acknowledged: {name}: {details}; send them again, what was kept counts once"


def _result(one: pb.FeedbackResult) -> Result:
    status = pb.FeedbackResult.Status.Name(one.status).lower()
    return Result(status, one.code, one.message, one.decision_id, one.row)
