"""Each caller may send so much: what is more is refused whole, and told how long to wait."""

from __future__ import annotations

import contextlib
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RateLimited
from gateway.services import Rate
from gateway.services.errors import ERROR_TRAILER, PUSHBACK_TRAILER
from gateway.services.feedback import CALLER_METADATA, _caller
from gateway.services.rates import MAX_CALLERS, Rates
from gateway.v1 import feedback_pb2 as pb
from tests.services.control_plane import Plane, receipt, running


class Hands:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_caller_has_a_burst_and_then_its_rate() -> None:
    """And the error says how long to wait, to the moment."""
    clock = Hands()
    rates = Rates(lambda: Rate(per_s=10, burst=20), clock)
    rates.take("a", 20)
    with pytest.raises(RateLimited, match=r"feedback\.per_caller_per_s") as refused:
        rates.take("a", 5)
    assert refused.value.wait_s == pytest.approx(0.5)
    rates.take("b", 20)
    clock.now_s += refused.value.wait_s
    rates.take("a", 5)
    with pytest.raises(RateLimited):
        rates.take("a", 1)


def test_a_call_longer_than_a_burst_is_taken_once_the_bucket_is_full_and_paid_for_afterwards() -> None:
    """Else it could never be sent, whatever its caller waits."""
    clock = Hands()
    rates = Rates(lambda: Rate(per_s=10, burst=20), clock)
    rates.take("a", 100)
    with pytest.raises(RateLimited) as refused:
        rates.take("a", 1)
    assert refused.value.wait_s == pytest.approx(8.1)


def test_the_settings_of_now_count() -> None:
    """A limit that is raised or taken away holds at once."""
    rate: list[Rate | None] = [Rate(per_s=1, burst=1)]
    rates = Rates(lambda: rate[0], Hands())
    rates.take("a", 1)
    with pytest.raises(RateLimited):
        rates.take("a", 1)
    rate[0] = None
    rates.take("a", 1_000_000)


def test_callers_beyond_the_table_share_one_bucket() -> None:
    """Memory is bounded, and nobody gets a fresh bucket by pushing others out."""
    clock = Hands()
    rates = Rates(lambda: Rate(per_s=1, burst=2), clock)
    for number in range(MAX_CALLERS):
        rates.take(f"caller-{number}", 2)
    rates.take("late-1", 1)
    rates.take("late-2", 1)
    with pytest.raises(RateLimited):
        rates.take("late-3", 1)
    with pytest.raises(RateLimited):
        rates.take("caller-0", 1)
    assert len(rates._buckets) <= MAX_CALLERS + 1
    clock.now_s += 3
    rates.take("late-3", 2)  # the longest silent one is as good as new, and makes room
    rates.take("late-4", 2)
    assert len(rates._buckets) <= MAX_CALLERS + 1


@given(
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 12)), max_size=60),
    per_s=st.floats(0.5, 20),
    burst=st.integers(1, 30),
)
def test_no_caller_ever_gets_more_than_its_rate_and_one_burst(
    steps: list[tuple[float, int]], per_s: float, burst: int
) -> None:
    """Over any time from the start, but for the one call that may overdraw."""
    clock = Hands()
    rates = Rates(lambda: Rate(per_s, burst), clock)
    taken = 0
    for passes_s, count in steps:
        clock.now_s += passes_s
        with contextlib.suppress(RateLimited):
            rates.take("a", count)
            taken += count
        assert taken <= burst + (clock.now_s - 100.0) * per_s + 12 + 1e-6


async def submit(plane: Plane, number: int, count: int, caller: str) -> pb.SubmitFeedbackResponse:
    items = [pb.FeedbackItem(receipt=receipt(number + n), positive=True) for n in range(count)]
    return await plane.feedback.Submit(
        pb.SubmitFeedbackRequest(items=items), metadata=((CALLER_METADATA, caller),)
    )


async def test_who_sends_too_much_is_told_when_to_come_back_and_others_go_on(tmp_path: Path) -> None:
    """RESOURCE_EXHAUSTED with gRPC's own hint, nothing kept, counted."""
    async with running(tmp_path, Rate(per_s=1, burst=3)) as plane:
        await submit(plane, 1, 3, "addr:10.0.0.1")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await submit(plane, 10, 2, "addr:10.0.0.1")
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        trailers = dict(refused.value.trailing_metadata() or ())
        assert trailers[ERROR_TRAILER] == "rate_limited"
        assert 1000 <= int(trailers[PUSHBACK_TRAILER]) <= 2000
        assert "10.0.0.1" in (refused.value.details() or "")
        assert len((await submit(plane, 20, 3, "tls:web")).results) == 3
        assert plane.control.feedback.limited == 2
        assert len(plane.ledger.reader.labelled().positive) == 6


class Call:
    """What of gRPC's context says who calls."""

    def __init__(self, peer: str, said: str) -> None:
        self._peer, self._said = peer, said

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ((CALLER_METADATA, self._said),)


@pytest.mark.parametrize(
    ("peer", "caller"),
    [
        ("unix:", "tls:web"),
        ("unix:/run/control", "tls:web"),
        ("ipv4:10.0.0.9:5000", "peer:ipv4:10.0.0.9"),
        ("ipv6:%5B::1%5D:5000", "peer:ipv6:%5B::1%5D"),
    ],
)
def test_only_the_data_plane_is_believed_who_calls(peer: str, caller: str) -> None:
    """A control's port is open to others: whoever names a new caller there each time gets no new allowance."""
    assert _caller(Call(peer, "tls:web")) == caller


async def test_calls_without_items_are_counted_too(tmp_path: Path) -> None:
    """Nobody may knock without end."""
    async with running(tmp_path, Rate(per_s=0.001, burst=1)) as plane:
        codes = []
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await submit(plane, 1, 0, "unix")
            codes.append(refused.value.code().name)
        assert codes == ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"]
