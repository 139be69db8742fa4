"""What is known of a route's arms: as it is remembered in the ledger, and as a report reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gateway.errors import QualityError
from gateway.ledger.arms import Rewarded
from gateway.ledger.labels import REVIEW
from gateway.quality.bandits import Posteriors, Stop, posteriors, stop
from gateway.quality.off_policy import Moments, OffPolicy, moments, off_policy
from gateway.quality.rewards import Rewards, RewardSums

if TYPE_CHECKING:
    from gateway.config import Route
    from gateway.config.exploring import Explore

__all__ = ["ArmsState", "Known", "describe", "known", "rewarded"]


@dataclass(frozen=True, slots=True)
class Known:
    """What sums say: what is believed of each arm, its value by SNIPS, and whether the best is known."""

    moments: Moments
    beliefs: Posteriors
    values: OffPolicy
    stop: Stop
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ArmsState:
    """What is remembered of one route's exploration.

    `mark`: what the evidence belongs to. `settled_us`: predictions before it are in `settled` for good; `all` has the
    younger ones as well. `winner`: latched; `decided`: why, `decided_us`: when. `moved_us`: when shares moved last, 0:
    never; `published`: to what. `why`: why shares stay or moved. `frozen`: why they must not move, None where they may.
    `arms`: for a report.
    """

    mark: str
    settled_us: int
    settled: RewardSums
    all: RewardSums
    winner: str | None = None
    decided: str = ""
    decided_us: int = 0
    moved_us: int = 0
    why: str = ""
    frozen: str | None = None
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    published: Mapping[str, float] | None = None

    @classmethod
    def begin(cls, mark: str, arms: Sequence[str], explore: Explore, since_us: int) -> ArmsState:
        """Without evidence."""
        none: list[float] = []
        low, high = explore.range.low, explore.range.high
        sums = RewardSums.of(Rewards.of(none, none, none, len(arms), low=low, high=high))
        return cls(mark, since_us, sums, sums)

    @classmethod
    def of(
        cls, kept: Mapping[str, Any], mark: str, arms: Sequence[str], explore: Explore
    ) -> ArmsState | None:
        """As it was kept; None where it belongs to something else, or is of another form."""
        try:
            sums = RewardSums.of_kept(kept["settled"], explore.range.low, explore.range.high)
            if kept["mark"] != mark or kept["order"] != list(arms) or len(sums.w) != len(arms):
                return None
            return cls(
                mark,
                int(kept["settled_us"]),
                sums,
                sums,
                kept["winner"],
                kept["decided"],
                int(kept["decided_us"]),
                int(kept["moved_us"]),
                published=kept["published"],
            )
        except (KeyError, TypeError, ValueError, QualityError):
            return None

    def kept(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "mark": self.mark,
            "settled_us": self.settled_us,
            "settled": self.settled.kept(),
            "winner": self.winner,
            "decided": self.decided,
            "decided_us": self.decided_us,
            "moved_us": self.moved_us,
            "published": self.published,
            "why": self.why,
            "frozen": self.frozen,
            "arms": {name: dict(one) for name, one in self.arms.items()},
            "order": list(self.arms),
        }


def rewarded(route: Route) -> Rewarded | None:
    """What counts as a reward of a route; None where it explores nothing, or nobody said what is good."""
    explore = route.explore
    if explore is None:
        return None
    low, high = explore.range.low, explore.range.high
    positive = route.prediction is not None and route.prediction.positive is not None
    reward = explore.reward or ("label" if positive else None)
    if reward is None:
        return None
    if reward == "label":
        return Rewarded("label", "", explore.source or (REVIEW if route.review is not None else None))
    if reward == "outcome":
        return Rewarded("outcome", "", explore.source, low, high)
    return Rewarded("signal", reward.removeprefix("signal:"), explore.source, low, high)


def known(sums: RewardSums, explore: Explore) -> Known:
    """What the sums say."""
    low, high = sums.low, sums.high
    found = moments(sums, "snips")
    beliefs = posteriors(found.value, found.effective, np.diag(found.covariance), low, high)
    decided = stop(found, explore.delta, low=low, high=high)
    return Known(found, beliefs, off_policy(sums, "snips"), decided, low, high)


def describe(arms: Sequence[str], shares: Mapping[str, float], told: Known) -> dict[str, dict[str, Any]]:
    """By arm, as a report prints it: its share, what is believed of it in the rewards' unit, its value by SNIPS."""
    width = told.high - told.low
    low, high = told.beliefs.interval()
    return {
        name: {
            "share": float(shares.get(name, 0.0)),
            "mean": round(told.low + width * float(told.beliefs.mean[index]), 6),
            "low": round(told.low + width * float(low[index]), 6),
            "high": round(told.low + width * float(high[index]), 6),
            "labels": int(told.moments.labels[index]),
            "effective": round(float(told.moments.effective[index]), 3),
            "snips": told.values.arms[index].as_dict(),
        }
        for index, name in enumerate(arms)
    }
