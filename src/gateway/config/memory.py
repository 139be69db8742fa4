"""What a route remembers between calls: the loop guard, sessions and statistics for its rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from gateway.config.fields import Block, Count, Name, Number, Share, Text, as_list, no_bool
from gateway.config.origins import Origin

__all__ = ["LoopGuard", "RouteStats", "Session", "ThoughtMet", "ThoughtSession", "ThoughtStats"]

Seconds = Annotated[Count, Field(le=604_800)]
"""A week at most."""


class LoopGuard(Block):
    """The way out for a unit that keeps meeting fallbacks, or the same negative answer."""

    usual: ClassVar[str] = "{limit: 3, within_s: 600, then: moderators}"

    limit: Annotated[Count, Field(le=255)] = Field(
        3, description="a unit that met so many within the time goes the way out with its next call"
    )
    within_s: Seconds = Field(
        600, description="what was met counts for so long, and at most a seventh longer"
    )
    then: Text = Field(description="the way out: a backend that is not the first of the chain")
    on: (
        Annotated[
            tuple[Literal["fallback", "same_negative"], ...],
            BeforeValidator(as_list, json_schema_input_type=str | tuple[str, ...]),
        ]
        | None
    ) = Field(
        None,
        min_length=1,
        description="fallback: another backend, a static answer, or nobody; same_negative: the same negative "
        "answer, with no other between; both if absent",
    )
    negative: Annotated[
        tuple[Text, ...], BeforeValidator(as_list, json_schema_input_type=str | tuple[str, ...])
    ] = Field((), description="labels that are negative answers; what is flagged if absent")


class Session(Block):
    """What rules see of a unit's own recent calls on the route, as `session`."""

    usual: ClassVar[str] = '{idle_s: 1800, remember: {quantity: "param:quantity"}}'

    idle_s: Seconds = Field(1800, description="a session ends when its unit has not called for so long")
    remember: Mapping[Name, Origin] = Field(
        default_factory=dict,
        max_length=4,
        description="numbers of the last answered request: metadata:<key> or param:<name>",
    )


class RouteStats(Block):
    """What rules see of all recent calls of the route, as `stats`."""

    usual: ClassVar[str] = "{within_s: 600}"

    within_s: Seconds = Field(600, description="how far back they look")


Met = Annotated[int, BeforeValidator(no_bool), Field(ge=0, le=2**31 - 1)]


class ThoughtMet(Block):
    """What a loop guard has counted, in a case of `gateway test`."""

    usual: ClassVar[str] = "{fallbacks: 3}"

    fallbacks: Met = Field(0, description="fallbacks within the time")
    negatives: Met = Field(0, description="times that the same negative answer came in a row")


class ThoughtSession(Block):
    """What is remembered of a unit, in a case of `gateway test`."""

    usual: ClassVar[str] = "{calls: 3, answered: 3, last_score: 0.9}"

    calls: Met = 0
    answered: Met = 0
    fallbacks: Met = 0
    flagged: Met = 0
    repeats: Met = 0
    last_label: Text = ""
    last_score: Number = 0.0
    last_confidence: Number = 0.0
    last_value: Number = 0.0
    remembered: Mapping[str, Number] = Field(default_factory=dict)


class ThoughtStats(Block):
    """What is known of a route's recent calls, in a case of `gateway test`."""

    usual: ClassVar[str] = "{calls: 300, flagged_share: 0.6}"

    calls: Met = 0
    fallback_share: Share = 0.0
    predictions: Met = 0
    flagged_share: Share = 0.0
    score_mean: Number = 0.0
    score_sd: Number = 0.0
    value_mean: Number = 0.0
    value_sd: Number = 0.0
