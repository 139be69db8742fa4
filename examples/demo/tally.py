"""What callers saw, with and without the net; counted by the demo itself, which knows the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .traffic import Exchange

__all__ = ["Quality", "endings", "lost_by_phase", "quality"]


@dataclass(frozen=True)
class Quality:
    """How good a way to get answers was, over the same images.

    failed: calls that came back with an error. useless: images whose answer held no number. An eight without a usable
    answer was missed.
    """

    images: int
    failed: int
    useless: int
    flagged: int
    eights: int
    found: int

    @property
    def precision(self) -> float | None:
        return self.found / self.flagged if self.flagged else None

    @property
    def recall(self) -> float | None:
        return self.found / self.eights if self.eights else None


def _counts(exchange: Exchange) -> bool:
    """Whether the model was meant to answer: holdout and refused calls say nothing about it."""
    outcomes = exchange.gateway.by_row("outcome")
    return not {"holdout", "rejected"} & set(outcomes) and exchange.gateway.error != "INVALID_ARGUMENT"


def quality(exchanges: Iterable[Exchange], *, net: bool) -> Quality:
    """With the net (through the gateway), or without (the primary alone, on the same images)."""
    images = failed = useless = flagged = eights = found = 0
    for exchange in filter(_counts, exchanges):
        answer = exchange.gateway if net else exchange.alone
        failed += answer.error is not None
        for sample, eight in zip(exchange.call.samples, answer.eights, strict=True):
            images += 1
            useless += answer.error is None and eight is None
            flagged += bool(eight)
            eights += sample.is_eight
            found += bool(eight) and sample.is_eight
    return Quality(images, failed, useless, flagged, eights, found)


def endings(exchanges: Iterable[Exchange]) -> Counter[tuple[str, str]]:
    """(outcome, reason) of every call, by its first image; as callers were told, so not of tritonclient's failures."""
    found: Counter[tuple[str, str]] = Counter()
    for exchange in exchanges:
        if exchange.gateway.said:
            found[exchange.gateway.by_row("outcome")[0], exchange.gateway.by_row("reason")[0]] += 1
    return found


def lost_by_phase(exchanges: Sequence[Exchange]) -> list[tuple[str, int, int, int]]:
    """(phase, calls, calls without a usable answer from the primary alone, the same through the gateway)."""

    def lost(phase: str, pick: Callable[[Exchange], tuple[bool | None, ...]]) -> int:
        return sum(
            None in pick(exchange) for exchange in exchanges if exchange.phase == phase and _counts(exchange)
        )

    phases = dict.fromkeys(exchange.phase for exchange in exchanges)
    return [
        (
            phase,
            sum(exchange.phase == phase for exchange in exchanges),
            lost(phase, lambda exchange: exchange.alone.eights),
            lost(phase, lambda exchange: exchange.gateway.eights),
        )
        for phase in phases
    ]
