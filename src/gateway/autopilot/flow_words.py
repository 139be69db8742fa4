"""Which source of feedback stopped, where, and since when: in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from gateway.autopilot.drift_words import date
from gateway.quality.starvation import STARVED

__all__ = ["SourceFlow", "StreamFlow", "tell"]

Verdict = Literal["flowing", "starved", "learning", "unknown"]

STOPPED: Final = 0.1
"""A source that gives less than this part of what is expected has stopped; above it it has fallen."""


BACK_DAYS: Final = 3


@dataclass(frozen=True, slots=True)
class StreamFlow:
    """One source in one segment, or in all of the route where `segment` is "".

    `learnt`, `wanted`: days of the reference so far. `rate`: labels a call, in the reference. `evidence`: how many
    times as much as an alarm takes. `since`: the day the change began, else None. `labels`, `expected`: since then,
    else of the last week. `days`: (day, labels, expected). `reason`: why nothing can be expected.
    """

    segment: str
    learnt: int
    wanted: int
    rate: float | None = None
    evidence: float = 0.0
    since: int | None = None
    labels: float = 0.0
    expected: float = 0.0
    days: tuple[tuple[int, float, float], ...] = ()
    reason: str | None = None

    @property
    def left(self) -> float:
        """The part of what is expected that comes."""
        return self.labels / self.expected if self.expected > 0 else 1.0

    @property
    def back(self) -> bool:
        """Whether the last days are as they should be again: evidence sinks more slowly than it rises."""
        last = self.days[-BACK_DAYS:]
        expected = sum(day[2] for day in last)
        return expected > 0 and sum(day[1] for day in last) >= STARVED * expected

    @property
    def verdict(self) -> Verdict:
        if self.rate is None or self.reason is not None:
            return "unknown" if self.reason is not None else "learning"
        return "starved" if self.evidence >= 1.0 and self.left < STARVED and not self.back else "flowing"


@dataclass(frozen=True, slots=True)
class SourceFlow:
    """One source. `starved`: the segments in which it is, ("",) where in all of the route. `words`: a sentence."""

    source: str
    verdict: Verdict
    words: str
    starved: tuple[str, ...]
    streams: tuple[StreamFlow, ...]

    @property
    def whole(self) -> StreamFlow | None:
        """In all of the route."""
        return next((one for one in self.streams if not one.segment), None)

    def as_dict(self) -> dict[str, Any]:
        """As `gateway report --json` prints it."""
        whole = self.whole
        since = [one.since for one in self.streams if one.segment in self.starved and one.since is not None]
        return {
            "verdict": self.verdict,
            "starved": [segment or "(all)" for segment in self.starved],
            "since": date(min(since)) if since else None,
            "labels_per_call": None if whole is None else whole.rate,
            "words": self.words,
        }


def tell(source: str, streams: Sequence[StreamFlow]) -> SourceFlow:
    """Where a source is starved, put as shortly as it is true.

    All of a route is starved where every segment is that is watched; where some are, it is these, though the route's
    own count falls with them, and may do so sooner than theirs can be told from chance.
    """
    whole = next((one for one in streams if not one.segment), None)
    segments = [one for one in streams if one.segment and one.rate is not None]
    fell = whole is not None and whole.verdict == "starved"
    low = [one for one in segments if one.left < STARVED and not one.back]
    dead = [one for one in low if one.verdict == "starved" or (fell and one.since is not None)]
    # A country falls with the phones that are in it: what stopped explains what fell.
    dead = [one for one in dead if one.left < STOPPED] or dead
    living = [one for one in segments if one not in dead and one.back]
    every = tuple(streams)
    if whole is not None and fell and not (dead and living):
        words = f"The source {source} {_fate(whole)}. What rests on it is unknown until it comes back."
        return SourceFlow(source, "starved", words, ("",), every)
    if dead:
        told = "; ".join(f"in segment {one.segment} it {_fate(one)}" for one in dead[:5])
        more = f"; and in {len(dead) - 5} more segments" if len(dead) > 5 else ""
        if len(dead) == 1:
            words = f"The source {source} {_fate(dead[0], f' in segment {dead[0].segment}')}."
        else:
            words = f"The source {source}: {told}{more}."
        return SourceFlow(source, "starved", words, tuple(one.segment for one in dead), every)
    if whole is None or whole.verdict == "learning":
        learnt, wanted = (0, 0) if whole is None else (whole.learnt, whole.wanted)
        words = f"What is usual for the source {source} is still being learnt: {learnt} of {wanted} days."
        return SourceFlow(source, "learning", words, (), every)
    if whole.verdict == "unknown":
        words = f"Whether the source {source} stops would not be noticed: {whole.reason}."
        return SourceFlow(source, "unknown", words, (), every)
    last = whole.days[-7:]
    labels, expected = (sum(day[at] for day in last) for at in (1, 2))
    if not last:
        words = f"The source {source} comes as it did: {_often(whole.rate or 0.0)}."
    elif labels >= STARVED * expected:
        words = (
            f"The source {source} comes as it did: {labels:,.0f} in the last {len(last)} days, where about "
            f"{expected:,.0f} were to be expected."
        )
    else:
        words = (
            f"The source {source} is quieter than usual, which may be chance: {labels:,.0f} in the last {len(last)} "
            f"days, where about {expected:,.0f} were to be expected."
        )
    return SourceFlow(source, "flowing", words, (), every)


def _fate(stream: StreamFlow, where: str = "") -> str:
    first = stream.since if stream.since is not None else stream.days[-1][0]
    counts = f"{stream.labels:,.0f} came where about {stream.expected:,.0f} were to be expected"
    if stream.left < STOPPED:
        return f"stopped{where} since {date(first)}: {counts}"
    return f"fell{where} to {100 * stream.left:.0f} % since {date(first)}: {counts}"


def _often(rate: float) -> str:
    return f"about one for each {1 / rate:,.0f} calls" if 0 < rate < 0.5 else f"{rate:.2f} for each call"
