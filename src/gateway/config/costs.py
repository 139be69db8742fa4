"""What mistakes cost, in whatever unit the operator counts in."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from gateway.config.fields import Block, Number, wrong

__all__ = ["Costs"]


class Costs(Block):
    """What each kind of decision costs, and a review; all in one unit, below 0 for a gain.

    Only what they are beside each other counts: `gateway threshold` finds the threshold at which they add up to least.
    """

    usual: ClassVar[str] = "{false_positive: 5.0, false_negative: 1.0, review: 0.4}"

    false_positive: Number = Field(description="to flag what is not positive")
    false_negative: Number = Field(description="not to flag what is positive")
    true_positive: Number = Field(0.0, description="to flag what is positive")
    true_negative: Number = Field(0.0, description="not to flag what is not positive")
    review: Annotated[Number, Field(ge=0)] = Field(0.0, description="a person who decides instead")

    @model_validator(mode="after")
    def _mistakes_cost_more(self) -> Costs:
        for mistake, right in (("false_positive", "true_negative"), ("false_negative", "true_positive")):
            dear, cheap = getattr(self, mistake), getattr(self, right)
            if not dear > cheap:
                raise wrong(
                    f"a {mistake} costs {dear:g}, no more than a {right} ({cheap:g})",
                    "mistakes that cost more than being right",
                    f"raise {mistake} or lower {right}; a gain stands below 0",
                    at=(mistake,),
                )
        return self
