"""What a batch holds of the routes that have a review budget: predictions by cell, and what their reviews cost.

Sums and nothing else, so that those of a fleet's controls add up to what one process would have counted.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gateway.autopilot.division import CELLS, Floats
from gateway.types import NO_INDEX, NO_STRING, Stratum

if TYPE_CHECKING:
    from gateway.ledger.tallies import Batch

__all__ = ["Counted", "count_batch"]

UNCOUNTED: Final = 0xFF
"""In place of a stratum: predictions that were counted before, and now cost more."""


@dataclass(slots=True)
class Counted:
    """Of one route. `came`: predictions by cell, shape (5, 2); `spent`: expected reviews, the sum of probabilities."""

    came: Floats = field(default_factory=lambda: np.zeros(CELLS))
    spent: float = 0.0

    def add(self, other: Counted) -> None:
        """Add another sum to this one."""
        self.came += other.came
        self.spent += other.spent

    def since(self, before: Counted | None) -> Counted:
        """What was added to a sum that only grows since it stood at `before`."""
        return self if before is None else Counted(self.came - before.came, self.spent - before.spent)

    def kept(self) -> dict[str, Any]:
        """As JSON; `of` reads it."""
        return {"came": self.came.tolist(), "spent": self.spent}

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Counted | None:
        """None where it is of another form, as another version may have kept it."""
        try:
            came, spent = np.asarray(kept["came"], dtype=np.float64), float(kept["spent"])
        except (KeyError, TypeError, ValueError):
            return None
        return cls(came, spent) if came.shape == CELLS and np.isfinite([*came.flat, spent]).all() else None


def count_batch(
    batch: Batch, routes: Container[str], factors: Mapping[str, Mapping[str, float]]
) -> dict[str, Counted]:
    """The sums of one batch, by route.

    Args:
        routes: those that are counted. factors: by route, what the settings multiply the shares of a segment by: such
            predictions weigh as much more.
    """
    found: dict[str, Counted] = {}
    for columns, reviews in _tables(batch, segmented=bool(factors)):
        if not len(columns[0]):
            continue
        keys, inverse = _groups(columns)
        counts = np.bincount(inverse)
        cost = np.bincount(inverse, weights=reviews, minlength=len(counts))
        for (policy, index, stratum, flagged, *segment), count, spent in zip(
            keys, counts.tolist(), cost.tolist(), strict=True
        ):
            names = batch.names.get(int(policy))
            route = names.route(int(index)) if names else None
            if route is None or route not in routes:
                continue
            of = found.setdefault(route, Counted())
            of.spent += spent
            if stratum != UNCOUNTED:
                text = batch.strings[segment[0]] if segment and segment[0] != NO_STRING else ""
                of.came[stratum, int(flagged == 1)] += count * _factor(factors.get(route, {}), text)
    return found


def _tables(batch: Batch, *, segmented: bool) -> Iterator[tuple[list[Any], Any]]:
    """Policy, route, stratum, side (and segment) of what is counted, and what each one's review costs."""
    records, mirrors, raises = batch.records, batch.mirrors, batch.raises
    known = (records["stratum"] <= max(Stratum)) & (records["route"] != NO_INDEX)
    names = ["policy", "route", "stratum", "flagged"] + (["segment"] if segmented else [])
    yield [records[name][known] for name in names], records["review_pi"][known]
    if len(mirrors.get("route", ())):
        # A comparison does not say on which side its row is: all of them stand with the unflagged.
        contradicted = (mirrors["agree"] == 0) & (mirrors["noise"] == 0)
        keys = [mirrors[name][contradicted] for name in ("policy", "route")]
        kind = np.full(len(keys[0]), int(Stratum.DISAGREEMENT), np.uint8)
        yield [*keys, kind, np.zeros_like(kind)], np.zeros(len(kind))
    if len(raises.get("row", ())):
        keys = [raises[name] for name in ("policy", "route")]
        more = raises["review_pi"].astype(np.float64) - raises["review_pi_before"]
        kind = np.full(len(more), UNCOUNTED, np.uint8)
        yield [*keys, kind, np.zeros_like(kind)], more


def _factor(factors: Mapping[str, float], segment: str) -> float:
    """What the data plane multiplies by: the product over the call's segments."""
    product = 1.0
    for pair in segment.split(",") if factors and segment else ():
        product *= factors.get(pair, 1.0)
    return product


def _groups(columns: list[Any]) -> tuple[list[tuple[int, ...]], Any]:
    """Distinct rows of some columns, and which of them each row is; a tenth of the time of np.unique with an axis."""
    code = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        if column.min() != column.max():
            values, index = np.unique(column, return_inverse=True)
            code = code * len(values) + index
            # numbered anew, so that the next product cannot overflow
            _, code = np.unique(code, return_inverse=True)
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    return list(zip(*(column[first].tolist() for column in columns), strict=True)), inverse
