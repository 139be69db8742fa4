"""What a route is for: which mistake is worse, and from what precision and recall on it is worth using."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from gateway.config.fields import Block, Number, wrong

__all__ = ["PRESETS", "Objective", "Preset", "Wanted"]

Preset = Literal[
    "anomaly_detection",
    "compliance",
    "fraud_detection",
    "limited_space",
    "recommendations",
    "content_moderation",
]
"""Uses by which a product person knows the answer, where the words precision and recall say nothing."""

PRESETS: Final[Mapping[Preset, Literal["precision", "recall"]]] = {
    "anomaly_detection": "recall",
    "compliance": "recall",
    "fraud_detection": "recall",
    "limited_space": "precision",
    "recommendations": "precision",
    "content_moderation": "precision",
}
"""What comes first in each; why stands in docs/gates.md."""


def _rate(value: float) -> float:
    if not 0 < value < 1:
        mend = f"write {value / 100:g} for {value:g} %" if 1 < value < 100 else ""
        raise wrong(f"found {value:g}", "a rate between 0 and 1, neither of them", mend)
    return value


Wanted = Annotated[Number, AfterValidator(_rate)]
"""A rate that one label cannot refute: neither 0 nor 1."""


class Objective(Block):
    """What the route's model is to be good at; makes gates where the route has none, and divides the review budget."""

    usual: ClassVar[str] = (
        "{prioritise: precision, precision: 0.95, recall: 0.60}, or {preset: fraud_detection}"
    )

    preset: Preset | None = Field(
        None,
        description="by use: anomaly_detection, compliance, fraud_detection (recall first), limited_space, "
        "recommendations, content_moderation (precision first)",
    )
    prioritise: Literal["precision", "recall"] | None = Field(
        None,
        description="precision where a false alarm is worse, recall where a miss is; if absent, the one that alone has "
        "a number, else both",
    )
    precision: Wanted | None = Field(None, description="of what is flagged, the share that must be right")
    recall: Wanted | None = Field(None, description="of what is positive, the share that must be flagged")

    @model_validator(mode="after")
    def _says_something(self) -> Objective:
        if self.preset is not None and self.prioritise is not None:
            raise wrong(
                "prioritise beside preset",
                "one of them",
                f"{self.preset} puts {PRESETS[self.preset]} first",
                at=("prioritise",),
            )
        if not (self.preset or self.prioritise or self.precision or self.recall):
            raise wrong(
                "nothing is wanted", "preset, prioritise, precision or recall", f"for example {self.usual}"
            )
        return self

    @property
    def first(self) -> Literal["precision", "recall", "both"]:
        """What is to be known and kept first."""
        if self.preset is not None:
            return PRESETS[self.preset]
        if self.prioritise is not None:
            return self.prioritise
        if (self.precision is None) == (self.recall is None):
            return "both"
        return "precision" if self.precision is not None else "recall"
