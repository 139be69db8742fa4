"""What control has not acknowledged is kept in order, within bounds, and through kill -9."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fleet.outbox import Limits, Outbox
from gateway.fleet.spool import HEAD, Spool

RUN = b"r" * 16
SIZE = 100


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def outbox(folder: Path, clock: Callable[[], float] | None = None, **limits: float) -> Outbox:
    bounds = Limits(**{"memory_bytes": 1000, "spool_bytes": 10_000, "window": 100, **limits})  # type: ignore[arg-type]
    return Outbox(Spool(folder, bounds.spool_bytes), bounds, clock=clock or Clock())


def put(box: Outbox, *sequences: int, run: bytes = RUN) -> None:
    for sequence in sequences:
        box.put(run, sequence, 10, bytes([sequence % 256]) * SIZE)


def sent(box: Outbox) -> list[int]:
    """What a conversation would send from where it stands."""
    found = []
    while (item := box.next()) is not None:
        assert item.data == bytes([item.sequence % 256]) * SIZE
        found.append(item.sequence)
    return found


def test_batches_are_sent_in_order_and_forgotten_when_acknowledged(tmp_path: Path) -> None:
    """Control takes no batch that is older than one it has."""
    box = outbox(tmp_path)
    put(box, 1, 2, 3)
    assert sent(box) == [1, 2, 3]
    box.acknowledged(RUN, 1)
    put(box, 4)
    assert sent(box) == [4]
    assert box.counters()["waiting.batches"] == 3
    assert box.counters()["acknowledged.records"] == 10


def test_a_new_conversation_sends_what_has_no_answer_again(tmp_path: Path) -> None:
    """Whether the old control had it only the next one can tell."""
    box = outbox(tmp_path)
    put(box, 1, 2, 3)
    assert sent(box) == [1, 2, 3]
    box.acknowledged(RUN, 1)
    box.begin()
    assert sent(box) == [2, 3]


def test_no_more_than_the_window_is_on_its_way(tmp_path: Path) -> None:
    """What a slow control has not read would fill both ends."""
    box = outbox(tmp_path, window=2)
    put(box, 1, 2, 3)
    assert sent(box) == [1, 2]
    box.acknowledged(RUN, 1)
    assert sent(box) == [3]


def test_large_batches_on_their_way_are_bounded_by_their_bytes(tmp_path: Path) -> None:
    """What is sent from disk is in memory until it is answered; a single one goes, however large."""
    box = outbox(tmp_path, window_bytes=SIZE * 2 + 1)
    put(box, 1, 2, 3)
    assert sent(box) == [1, 2]
    box.acknowledged(RUN, 1)
    assert sent(box) == [3]
    small = outbox(tmp_path / "small", window_bytes=1)
    put(small, 1, 2)
    assert sent(small) == [1]


def test_an_answer_to_anything_but_the_oldest_is_left_alone(tmp_path: Path) -> None:
    """A late answer of an old conversation must not take a batch away that nobody has."""
    box = outbox(tmp_path)
    put(box, 1, 2)
    box.acknowledged(RUN, 2)
    box.acknowledged(b"x" * 16, 1)
    assert box.counters()["waiting.batches"] == 2


def test_what_control_refuses_is_dropped_and_counted(tmp_path: Path) -> None:
    """It would be refused again, and block all that comes after."""
    box = outbox(tmp_path)
    put(box, 1, 2)
    sent(box)
    box.acknowledged(RUN, 1, refused="records.route[0] is 9")
    counters = box.counters()
    assert (counters["dropped.records.refused"], counters["dropped.batches.refused"]) == (10, 1)
    assert counters["waiting.batches"] == 1


def test_old_batches_go_to_disk_and_young_ones_do_not(tmp_path: Path) -> None:
    """Kill -9 costs what is in memory: that is bounded by time."""
    clock = Clock()
    box = outbox(tmp_path, clock, spool_after_s=2.0)
    put(box, 1)
    clock.now = 1.5
    put(box, 2)
    box.settle()
    assert not list(tmp_path.glob("*.batch"))
    clock.now = 2.0
    box.settle()
    assert [int(file.stem[-20:]) for file in tmp_path.glob("*.batch")] == [1]
    assert sent(box) == [1, 2]


def test_memory_beyond_its_bound_goes_to_disk(tmp_path: Path) -> None:
    """A sidecar is small, however busy."""
    box = outbox(tmp_path)
    for sequence in range(1, 31):
        put(box, sequence)
        assert box.counters()["waiting.memory_bytes"] <= 1000
    assert sent(box) == list(range(1, 31))


def test_what_is_on_disk_survives_a_killed_process(tmp_path: Path) -> None:
    """The next process sends it first, in its order, under its own run."""
    box = outbox(tmp_path)
    put(box, 1, 2)
    box.settle(everything=True)
    put(box, 3)  # in memory: lost
    again = outbox(tmp_path)
    put(again, 1, run=b"s" * 16)
    again.settle(everything=True)
    third = outbox(tmp_path)
    put(third, 1, run=b"a" * 16)
    found = [(item.run, item.sequence) for item in iter(third.next, None)]
    assert found == [(RUN, 1), (RUN, 2), (b"s" * 16, 1), (b"a" * 16, 1)]
    for run, sequence in found:
        third.acknowledged(run, sequence)
    assert not list(tmp_path.glob("*.batch"))
    assert third.counters()["waiting.spool_bytes"] == 0


def test_a_full_spool_drops_the_newest_whole_and_counts_them(tmp_path: Path) -> None:
    """The disk of a node is not the fleet's to fill."""
    size = SIZE + HEAD.size
    box = outbox(tmp_path, spool_bytes=size * 3, memory_bytes=SIZE)
    put(box, *range(1, 11))
    box.settle(everything=True)
    counters = box.counters()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) == size * 3
    assert sent(box) == [1, 2, 3]
    assert counters["dropped.batches.spool_full"] == 7
    assert counters["dropped.records.spool_full"] == 70


def test_what_is_on_its_way_is_not_dropped(tmp_path: Path) -> None:
    """Control may have counted it: it would be told of as dropped, and counted."""
    box = outbox(tmp_path, spool_bytes=0)
    put(box, 1, 2)
    assert sent(box) == [1, 2]
    put(box, 3)
    box.settle(everything=True)
    assert box.counters()["dropped.batches.spool_full"] == 1
    box.acknowledged(RUN, 1)
    box.acknowledged(RUN, 2)
    assert box.counters()["waiting.batches"] == 0
    assert box.counters()["acknowledged.records"] == 20


def test_a_torn_file_is_dropped_and_counted_and_the_next_is_sent(tmp_path: Path) -> None:
    """After a power cut: half a batch must never be counted as one."""
    box = outbox(tmp_path)
    put(box, 1, 2, 3)
    box.settle(everything=True)
    files = sorted(tmp_path.glob("*.batch"))
    files[0].write_bytes(files[0].read_bytes()[:-1])
    files[1].write_bytes(b"")
    again = outbox(tmp_path)
    assert sent(again) == [3]
    assert again.counters()["dropped.batches.spool_torn"] == 2
    assert again.counters()["dropped.records.spool_torn"] == 10  # the second has no head that tells
    assert len(list(tmp_path.glob("*.batch"))) == 1


def test_a_disk_that_refuses_keeps_batches_in_memory_while_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk may be well again before memory is full; then nothing was lost."""
    clock = Clock()
    box = outbox(tmp_path, clock)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", refuse)
    put(box, *range(1, 6))
    clock.now = 100.0
    box.settle()
    assert box.counters()["waiting.batches"] == 5
    put(box, *range(6, 21))
    counters = box.counters()
    assert counters["waiting.memory_bytes"] <= 1000
    assert counters["dropped.batches.spool_failed"] + counters["waiting.batches"] == 20
    assert not list(tmp_path.iterdir())


def test_what_is_on_disk_is_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour without control leaves files by the hundred thousand, and twice a second a batch may be old enough."""
    looks = 0

    class Counting(deque[object]):
        def __getitem__(self, at: object) -> object:
            nonlocal looks
            looks += 1
            return super().__getitem__(at)  # type: ignore[index]

        def __iter__(self) -> Iterator[object]:
            nonlocal looks
            looks += len(self)
            return super().__iter__()

    monkeypatch.setattr("gateway.fleet.outbox.deque", Counting)
    many = 500
    before = outbox(tmp_path, spool_bytes=1_000_000)
    put(before, *range(1, many + 1))
    before.settle(everything=True)
    after = outbox(tmp_path, spool_bytes=1_000_000, window=8)
    for box in (before, after):
        box.begin()
        put(box, many + 1)
        looks = 0
        box.settle(everything=True)
        assert box.counters()["waiting.batches"] == many + 1
        assert box.counters()["waiting.memory_bytes"] == 0
        assert looks <= 110  # the window, and what is new


def test_what_was_kept_on_its_way_is_settled_once_it_waits_again(tmp_path: Path) -> None:
    """The disk was full while it was sent; the next conversation must not find it in memory for ever."""
    box = outbox(tmp_path, spool_bytes=0, window=2)
    put(box, 1, 2, 3)
    assert sent(box) == [1, 2]
    box.settle(everything=True)
    assert box.counters()["waiting.batches"] == 2
    box.begin()
    box.settle(everything=True)
    assert box.counters()["waiting.memory_bytes"] == 0
    assert box.counters()["dropped.batches.spool_full"] == 3


@pytest.mark.parametrize("step", ["next", "acknowledged"])
def test_a_slow_disk_does_not_hold_up_who_drains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """While a file is read or removed batches come in: the data plane's queue is short."""
    box = outbox(tmp_path)
    put(box, 1)
    box.settle(everything=True)
    came: list[bool] = []

    def slow(real: Callable[..., object]) -> Callable[..., object]:
        def done(*args: object, **kwargs: object) -> object:
            drains = threading.Thread(target=put, args=(box, 2), daemon=True)
            drains.start()
            drains.join(10)
            came.append(not drains.is_alive())
            return real(*args, **kwargs)

        return done

    monkeypatch.setattr(
        Path,
        *{"next": ("read_bytes", slow(Path.read_bytes)), "acknowledged": ("unlink", slow(Path.unlink))}[step],
    )
    if step == "next":
        assert box.next() is not None
    else:
        box.acknowledged(RUN, 1)
        assert not list(tmp_path.glob("*.batch"))
    assert came == [True]


def test_a_late_thread_of_an_old_conversation_takes_nothing(tmp_path: Path) -> None:
    """It would count as sent what the new conversation never saw, and control would take the next before it."""
    box = outbox(tmp_path)
    put(box, 1, 2)
    old = box.begin()
    assert box.next(old) is not None
    new = box.begin()
    assert box.next(old) is None
    assert (first := box.next(new)) is not None
    assert first.sequence == 1


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(("put", "next", "ack", "begin", "settle", "restart")), max_size=60))
def test_whatever_happens_each_batch_is_acknowledged_once_dropped_or_waiting(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    """The sum over all fates is what was taken, and what is sent is never out of order."""
    folder = tmp_path_factory.mktemp("spool")
    box, run, sequence, taken, on_way = outbox(folder), 0, 0, 0, []
    acknowledged: list[tuple[bytes, int]] = []
    for step in steps:
        if step == "put":
            sequence, taken = sequence + 1, taken + 1
            put(box, sequence, run=bytes([run]) * 16)
        elif step == "next" and (item := box.next()) is not None:
            on_way.append((item.run, item.sequence))
        elif step == "ack" and on_way:
            acknowledged.append(on_way.pop(0))
            box.acknowledged(*acknowledged[-1])
        elif step == "begin":
            on_way = []
            box.begin()
        elif step == "settle":
            box.settle(everything=True)
        elif step == "restart":
            box.settle(everything=True)
            box, run, sequence, on_way = outbox(folder), run + 1, 0, []
    assert len(acknowledged) == len(set(acknowledged))
    assert acknowledged == sorted(acknowledged)
    assert len(acknowledged) + box.counters()["waiting.batches"] == taken
