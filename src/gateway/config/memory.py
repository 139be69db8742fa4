"""What a route remembers between calls: the loop guard, sessions and statistics for its rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from gateway.config.fields import Block, Count, Name, Text, as_list
from gateway.config.origins import Origin

__all__ = ["LoopGuard", "RouteStats", "Session"]

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
