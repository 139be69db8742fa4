"""What a route explores: which models take turns at being asked first, by which shares, and what those follow."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from gateway.config.faults import quoted
from gateway.config.fields import Block, Number, Seconds, Share, Text, wrong

__all__ = ["Explore", "Range"]

LEAST_FLOOR: Final = 0.05
"""Of an arm while shares are learnt: a row of an arm weighs one over its share, and twenty is as much as one may."""

_SIGNAL: Final = re.compile(r"signal:[a-z0-9_.-]{1,64}\Z")

_LEARNT_ONLY: Final = ("floor", "cap", "epsilon", "every_s")


def _arms(value: Any) -> Any:
    """A list of names has equal shares."""
    if isinstance(value, str):
        return {value: 1.0}
    if isinstance(value, (list, tuple)):
        if not all(isinstance(name, str) for name in value):
            raise wrong(
                "a list that holds more than names", "[spam-v3, spam-v4] or {spam-v3: 0.9, spam-v4: 0.1}"
            )
        twice = next((name for index, name in enumerate(value) if name in value[:index]), None)
        if twice is not None:
            raise wrong(f"{twice} is an arm already", "each backend once")
        return {name: 1.0 / len(value) for name in value}
    return value


def _range(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return {"low": value[0], "high": value[1]}
    return value


class Range(Block):
    """The least and the most of one reward."""

    usual: ClassVar[str] = "[0, 1]"

    low: Number = Field(description="nothing is worth less")
    high: Number = Field(description="nothing is worth more")

    @model_validator(mode="after")
    def _rises(self) -> Range:
        if self.low >= self.high:
            raise wrong(f"{self.low:g} to {self.high:g}", "the lower number first, for example [1, 5]")
        return self


class Explore(Block):
    """Backends that take turns at being asked first, with the probability recorded."""

    usual: ClassVar[str] = "{arms: {spam-v3: 0.9, spam-v4: 0.1}}"

    arms: Annotated[
        Mapping[str, Share],
        BeforeValidator(_arms, json_schema_input_type=tuple[str, ...] | Mapping[str, Share]),
    ] = Field(
        description="models by share, which add up to 1; a list has equal shares, or where they are learnt, `cap` for "
        "all but the first of the chain"
    )
    sticky: Literal["unit", "call"] = Field(
        "unit", description="a unit keeps its arm, or each call draws anew"
    )
    algorithm: Literal["fixed", "thompson", "epsilon_greedy"] = Field(
        "fixed", description="shares stay as they are, or follow what was learnt"
    )
    floor: Annotated[Share, Field(le=0.5)] = Field(
        LEAST_FLOOR, description="the least share of an arm while shares are learnt; 0.05 or more"
    )
    cap: Share = Field(
        0.2,
        description="the most that all arms but the first of the chain get together while shares are learnt",
    )
    epsilon: Share = Field(
        0.1, description="part that epsilon_greedy divides equally; the rest is the best arm's"
    )
    reward: Text | None = Field(
        None,
        description="what is good: label (a right prediction), outcome or signal:<name>; label if absent, where the "
        "route has a positive class",
    )
    source: Text | None = Field(
        None,
        min_length=1,
        description="whose word counts; if absent, reviewers' where the reward is label and the route is reviewed, "
        "else everybody else's",
    )
    range: Annotated[Range, BeforeValidator(_range, json_schema_input_type=Range | tuple[float, float])] = (
        Field(
            default_factory=lambda: Range(low=0.0, high=1.0),
            description="of an outcome or a signal, [low, high]; what lies outside does not count",
        )
    )
    delay_h: Annotated[Number, Field(ge=0, le=8760)] = Field(
        0.0,
        description="predictions younger than this do not count, nor does what is said later; 0: what is there counts",
    )
    every_s: Seconds = Field(3600.0, description="shares move no more often than this")
    until: Literal["winner", "never"] = Field(
        "winner", description="shares stay once the best arm is known, or go on following"
    )
    delta: Annotated[Number, Field(gt=0, le=0.5)] = Field(0.05, description="probability of a wrong winner")

    @model_validator(mode="after")
    def _sum(self) -> Explore:
        if len(self.arms) < 2:
            raise wrong("a single arm", "two models or more", "nothing is explored by one", at=("arms",))
        if len(self.arms) > 16:
            raise wrong(f"{len(self.arms)} arms", "16 at most", at=("arms",))
        total = math.fsum(self.arms.values())
        if abs(total - 1.0) > 1e-6:
            raise wrong(
                f"the shares add up to {total:g}", "1", "give what is left to one of them", at=("arms",)
            )
        return self

    @model_validator(mode="after")
    def _learning(self) -> Explore:
        given = self.model_fields_set
        if not self.learns:
            for name in _LEARNT_ONLY:
                if name in given:
                    mend = "algorithm: thompson learns shares"
                    raise wrong(f"{name} beside fixed shares", f"no {name}", mend, at=(name,))
            return self
        if "epsilon" in given and self.algorithm != "epsilon_greedy":
            raise wrong(
                f"epsilon beside {self.algorithm}",
                "algorithm: epsilon_greedy",
                "or no epsilon",
                at=("epsilon",),
            )
        if self.floor < LEAST_FLOOR:
            mend = "a reward of a rarer arm would weigh more than twenty others"
            raise wrong(f"found {self.floor:g}", f"{LEAST_FLOOR:g} or more", mend, at=("floor",))
        least = self.floor * (len(self.arms) - 1)
        if least > self.cap + 1e-9:
            found = f"{least:g} at least for all arms but the first, and a cap of {self.cap:g}"
            raise wrong(
                found, f"a cap of {least:g} or more", "or fewer arms", at=("cap",) if "cap" in given else ()
            )
        if self.cap > 1.0 - self.floor and "cap" in given and self.cap < 1.0:
            raise wrong(
                f"a cap of {self.cap:g} leaves the first of the chain less than the floor of {self.floor:g}",
                f"{1 - self.floor:g} at most, or 1 for no cap",
                at=("cap",),
            )
        return self

    @model_validator(mode="after")
    def _rewarded(self) -> Explore:
        reward = self.reward
        if reward is not None and reward not in ("label", "outcome") and not _SIGNAL.match(reward):
            wanted = "label, outcome or signal:<name>, of a-z, 0-9, `_`, `-`, `.`"
            mend = f"signal:{reward}" if _SIGNAL.match(f"signal:{reward}") else ""
            raise wrong(quoted(reward), wanted, mend and f"write {mend}", at=("reward",))
        if reward in (None, "label") and "range" in self.model_fields_set:
            raise wrong(
                "range beside a label",
                "reward: outcome or signal:<name>, or no range",
                "a prediction is right or wrong, 0 or 1",
                at=("range",),
            )
        return self

    @property
    def learns(self) -> bool:
        """Whether shares follow what was learnt."""
        return self.algorithm != "fixed"

    @property
    def even(self) -> bool:
        """Whether the arms were given by name alone, or with equal shares."""
        return max(self.arms.values()) - min(self.arms.values()) < 1e-9

    def start(self, first: str) -> dict[str, float]:
        """The shares before anything is learnt; equal ones of arms that are learnt keep within the cap.

        Args:
            first: the first of the chain.
        """
        others = len(self.arms) - 1
        explored = min(self.cap, 1.0 - self.floor)
        if not self.learns or first not in self.arms or not self.even or others / (others + 1) <= explored:
            return dict(self.arms)
        # Whole ten-thousandths, as those that are learnt.
        each = math.floor(explored / others * 10_000 + 1e-6) / 10_000
        return {name: round(1.0 - each * others, 4) if name == first else each for name in self.arms}
