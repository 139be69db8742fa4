"""Rewards of explored arms, added up by the database: what was said about calls, by the arm that was drawn for them.

One query reads all routes that reward alike and look at the same stretch of time; what comes back grows with the number
of shares and review probabilities that were in force, not with the labels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from gateway.ledger import schema
from gateway.ledger.labels import REVIEW, superseded
from gateway.ledger.reading import Reader

__all__ = ["ArmRewards", "Rewarded", "Stretch", "arm_rewards"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rewarded:
    """What counts as a reward of a route.

    `kind`: a label's is 1 where the prediction was right and 0 where it was wrong; of outcomes and signals it is their
    value, within `low` and `high`. `name`: of the signal. `source`: whose word counts; None: everybody's but that of
    reviewers, whose labels count where they were sampled, and weigh by that probability.
    """

    kind: Literal["label", "outcome", "signal"]
    name: str = ""
    source: str | None = None
    low: float = 0.0
    high: float = 1.0

    def rests_on(self, source: str) -> bool:
        """Whether a source counts, by its name, with the signal behind it for what is no label: `app (thumbs)`."""
        who, _, what = source.partition(" (")
        told = "" if self.kind == "label" else f"{self.name or 'outcome'})"
        return what == told and self.source in (None, who)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Predictions from `since_us` on and before `until_us`, microseconds since 1970; of what was said about them only
    what came within `within_us` of the prediction, if that is not None."""

    since_us: int
    until_us: int
    within_us: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ArmRewards:
    """One route's rewards, columns of shape (n,): a row for each arm, propensity and probability of review.

    `count`, `total`, `squares`: rewards, their sum, the sum of their squares.
    """

    arm: NDArray[np.str_]
    propensity: Floats
    pi: Floats
    count: NDArray[np.int64]
    total: Floats
    squares: Floats


def arm_rewards(reader: Reader, wanted: Mapping[str, Rewarded], stretch: Stretch) -> dict[str, ArmRewards]:
    """The rewards of each route that has any; what was corrected counts as it was said last.

    Raises: LedgerUnavailable when the ledger cannot be read now.
    """
    alike: dict[Rewarded, list[str]] = defaultdict(list)
    for route, reward in wanted.items():
        alike[reward].append(route)
    rows: dict[str, list[Any]] = defaultdict(list)
    for reward, routes in alike.items():
        query = _query(reward, routes, stretch)
        for route, *row in reader.snapshot(lambda connection, query=query: connection.execute(query).all()):  # type: ignore[misc]
            rows[route].append(row)
    return {route: _columns(found) for route, found in rows.items()}


def _query(reward: Rewarded, routes: list[str], stretch: Stretch) -> sa.Select[Any]:
    label = schema.labels
    right = sa.case((label.c.flagged == label.c.positive, 1.0), else_=0.0)
    value = right if reward.kind == "label" else label.c.value
    pi = label.c.review_pi if reward.source == REVIEW else sa.literal(1.0, sa.Double)
    keys = (label.c.route, label.c.arm, label.c.propensity)
    grouped = (*keys, label.c.review_pi) if reward.source == REVIEW else keys
    query = (
        sa.select(*keys, pi, sa.func.count(), sa.func.sum(value), sa.func.sum(value * value))
        .where(
            label.c.time_us >= stretch.since_us,
            label.c.time_us < stretch.until_us,
            label.c.arm.is_not(None),
            label.c.route.in_(routes),
            label.c.kind == reward.kind,
            *_counts(reward),
            ~superseded(label),
        )
        .group_by(*grouped)
    )
    if stretch.within_us is not None:
        query = query.where(label.c.received_us - label.c.time_us <= stretch.within_us)
    return query


def _counts(reward: Rewarded) -> list[sa.ColumnElement[bool]]:
    label = schema.labels
    clauses = [label.c.source != REVIEW if reward.source is None else label.c.source == reward.source]
    if reward.source == REVIEW:
        clauses.append(label.c.sampled.is_(True))
    if reward.kind == "label":
        return [*clauses, label.c.flagged.is_not(None), label.c.positive.is_not(None)]
    return [*clauses, label.c.name == reward.name, label.c.value.between(reward.low, reward.high)]


def _columns(rows: list[Any]) -> ArmRewards:
    arm, propensity, pi, count, total, squares = zip(*rows, strict=True)
    return ArmRewards(
        np.array(arm, dtype=np.str_),
        np.array(propensity, dtype=np.float64),
        np.array(pi, dtype=np.float64),
        np.array(count, dtype=np.int64),
        np.array(total, dtype=np.float64),
        np.array(squares, dtype=np.float64),
    )
