"""What a route demands of an answer, besides that its prediction is present, finite and of the right shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from gateway.config.fields import Block, Number, Text, wrong

__all__ = ["Check", "OutputCheck"]

Datatype = Literal[
    "BOOL",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "FP16",
    "BF16",
    "FP32",
    "FP64",
    "BYTES",
]


def ordered(value: Any) -> Any:
    if (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(type(v) in (int, float) for v in value)
        and value[0] > value[1]
    ):
        raise wrong(
            f"the range starts at {value[0]} and ends at {value[1]}",
            "the lower end first",
            f"write [{value[1]}, {value[0]}]",
        )
    return value


Range = Annotated[tuple[Number, Number], AfterValidator(ordered)]


class OutputCheck(Block):
    """What an output of an answer must be. Numbers must be finite in any case."""

    usual: ClassVar[str] = "{datatype: FP32, shape: [-1, 2], range: [0, 1]}"

    datatype: Datatype | None = Field(None, description="any if absent")
    shape: tuple[Annotated[int, Field(ge=-1)], ...] | None = Field(
        None, max_length=8, description="-1 for a dimension of any size"
    )
    range: Range | None = Field(None, description="every number lies in it, ends included")
    labels: tuple[Text, ...] | None = Field(
        None, min_length=1, description="texts that it may hold; of an output of BYTES"
    )
    optional: bool = Field(False, description="whether it may be missing")

    @model_validator(mode="after")
    def _fits(self) -> OutputCheck:
        if self.labels is not None and self.datatype not in (None, "BYTES"):
            found = f"labels of an output of {self.datatype}"
            raise wrong(found, "BYTES, whose elements are texts", "write datatype: BYTES", at=("labels",))
        if self.range is not None and (self.datatype == "BYTES" or self.labels is not None):
            raise wrong("a range of texts", "a datatype of numbers", at=("range",))
        return self


class Check(Block):
    """What a prediction must be besides present, finite and of the right shape."""

    usual: ClassVar[str] = "{range: [0, 1], sum: 1.0}"

    range: Range | None = Field(None, description="every score or value lies in it, ends included")
    sum: Number | None = Field(None, description="what the scores of a row add up to")
    sum_tolerance: Annotated[Number, Field(ge=0)] = Field(0.001, description="how far the sum may be off")
    labels: tuple[Text, ...] | None = Field(
        None, min_length=1, description="labels that may be answered; the classes if absent"
    )
    outputs: Mapping[Text, OutputCheck] = Field(
        default_factory=dict,
        max_length=64,
        description="what outputs must be, by name: also those that the prediction is not read from",
    )
    unknown_outputs: Literal["allow", "miss"] = Field(
        "allow",
        description="an output that is neither read nor named under outputs; miss makes the answer invalid",
    )
    rows: Literal["same"] | None = Field(
        None, description="same: as many rows as the request has, in the prediction and in every output named"
    )
