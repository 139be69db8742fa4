"""People who answer while the caller waits: the block, and what cannot be checked in it alone."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from gateway.config.faults import quoted
from gateway.config.fields import Block, Count, Name, Number, Text, wrong

__all__ = ["People", "redacted"]


def redacted(names: tuple[str, ...], roots: tuple[str, ...] = ("inputs.",)) -> None:
    """Raise where a name is none of an input, or, with `request.` among the roots, no path."""
    for index, name in enumerate(names):
        if not name.startswith(roots) or name.endswith("."):
            raise wrong(
                f"{quoted(name)}",
                "inputs.<name of an input>",
                f"write inputs.{name}" if name else "",
                at=("redact", index),
            )


class People(Block):
    """People who answer through the review queue while the caller waits."""

    usual: ClassVar[str] = "{queue: moderation, timeout_s: 20}"

    queue: Name = Field("default", description="queue that their tasks go to, ahead of all others")
    timeout_s: Annotated[Number, Field(gt=0, le=86_400)] = Field(
        20.0, description="how long a call waits for them, within its deadline; then the chain goes on"
    )
    max_waiting: Count = Field(
        1000, description="calls that wait for them; what is more is a miss (overload)"
    )
    max_rows: Annotated[Count, Field(le=1024)] = Field(
        16, description="rows of a call: each is a task of its own; a larger batch is a miss (overload)"
    )
    redact: tuple[Text, ...] = Field(
        (), description="what they are not shown: inputs.<name>; besides what the route's review redacts"
    )

    @model_validator(mode="after")
    def _redact(self) -> People:
        redacted(self.redact)
        return self
