"""How much a model does alone, and how far the gateway may change that by itself."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, model_validator

from gateway.config.fields import Block, Count, Number, wrong

__all__ = ["LEVELS", "Autonomy", "Autopilot", "autonomy_block"]

LEVELS: Final = ("shadow", "suggest", "assisted", "autonomous")
"""Least first."""

Level = Literal["shadow", "suggest", "assisted", "autonomous"]


def autonomy_block(value: Any) -> Any:
    """A level alone is where the route stays unless a gate moves it down."""
    return {"level": value} if isinstance(value, str) else value


class Autonomy(Block):
    """Where a route begins, and how far up evidence may lead it. A failed gate moves it down at once."""

    usual: ClassVar[str] = "assisted, or {level: suggest, most: autonomous}"

    level: Level = Field(
        description="shadow: the model gets copies and what is behind it in the chain answers; suggest: it answers, "
        "and people look at every answer; assisted: people look at what was below the floor; autonomous: as the "
        "route says otherwise"
    )
    most: Level | None = Field(
        None, description="how far it may move up by itself; not above `level` if absent"
    )
    min_labels: Annotated[Count, Field(ge=10)] = Field(
        200, description="reviewed predictions that a move up rests on, since the last move"
    )
    rest_h: Annotated[Number, Field(ge=0, le=8760)] = Field(
        24, description="how long it stays on a level before it may move up"
    )

    @model_validator(mode="after")
    def _order(self) -> Autonomy:
        if self.most is not None and LEVELS.index(self.most) < LEVELS.index(self.level):
            raise wrong(
                f"most {self.most} is below level {self.level}",
                "a level at or above it",
                at=("most",),
            )
        return self


class Autopilot(Block):
    """How often the gateway looks at what it has learnt: gates, acts, levels, explorations."""

    usual: ClassVar[str] = "{every_s: 10}"

    every_s: Annotated[Number, Field(ge=0.1, le=3600)] = Field(
        10.0, description="from the beginning of one look to that of the next"
    )
