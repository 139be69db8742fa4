"""What a route reads out of an answer, what it demands of it, and when it is sure enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from gateway.config.faults import did_you_mean, listed, quoted
from gateway.config.fields import Block, Number, Share, Text, wrong

__all__ = ["MEASURES", "Confidence", "Prediction"]


class Prediction(Block):
    """What is read out of an answer, one per row of the batch."""

    usual: ClassVar[str] = "{scores: probabilities, classes: [ham, spam], positive: spam}"

    scores: Text | None = Field(
        None,
        min_length=1,
        description="output with scores: [rows, classes], or [rows] for the score of `positive`; of a described "
        "service a path",
    )
    label: Text | None = Field(
        None, min_length=1, description="output with the label, BYTES or a class index"
    )
    confidence: Text | None = Field(None, min_length=1, description="output with the model's own confidence")
    value: Text | None = Field(
        None, min_length=1, description="output with a number that is neither score nor label"
    )
    classes: tuple[Text, ...] = Field((), max_length=4096, description="labels in the order of the scores")
    positive: Text | None = Field(None, description="the class that precision and recall are about")
    threshold: Share = Field(0.5, description="flagged when score(positive) is at least this")
    datatype: Literal["FP16", "BF16", "FP32", "FP64"] = Field(
        "FP32", description="type of scores in a static answer"
    )

    @model_validator(mode="after")
    def _whole(self) -> Prediction:
        example = "for example {scores: probabilities, classes: [ham, spam], positive: spam}"
        if not (self.scores or self.label or self.value):
            raise wrong("nothing is read", "scores, label or value, each with the name of an output", example)
        if self.value and (self.scores or self.label):
            raise wrong("both value and scores or label", "value alone, or scores and label", at=("value",))
        if self.scores and len(self.classes) < 2:
            mend = "for example classes: [ham, spam]"
            raise wrong(
                "scores without classes", "the classes in the order of the scores", mend, at=("classes",)
            )
        for index, name in enumerate(self.classes):
            if name in self.classes[:index]:
                raise wrong(
                    f"the class {quoted(name)} stands here twice", "each class once", at=("classes", index)
                )
        if self.positive is not None:
            if self.value:
                raise wrong("positive beside value", "no positive: a value has no classes", at=("positive",))
            if not self.classes:
                mend = "for example classes: [ham, spam]"
                raise wrong("positive without classes", "the classes beside it", mend, at=("positive",))
            if self.positive not in self.classes:
                raise wrong(
                    f"{quoted(self.positive)} is not among the classes",
                    listed(self.classes),
                    did_you_mean(self.positive, self.classes),
                    at=("positive",),
                )
        return self


MEASURES = ("max_probability", "margin", "entropy")


def _measure(value: str) -> str:
    if value not in MEASURES and not (value.startswith("output:") and len(value) > 7):
        wanted = "max_probability, margin, entropy or output:<name>"
        raise wrong(f"there is no measure {quoted(value)}", wanted, did_you_mean(value, MEASURES))
    return value


class Confidence(Block):
    """When a prediction is sure enough to be given to the caller."""

    usual: ClassVar[str] = "{floor: 0.8}"

    measure: Annotated[Text, AfterValidator(_measure)] = Field(
        "max_probability",
        description="max_probability, margin, entropy (normalised, higher is surer), or output:<name>",
    )
    floor: Number | None = Field(None, description="below it the prediction is a miss")
    per_label: Mapping[str, Number] = Field(default_factory=dict, description="floor by predicted label")
    per_segment: Mapping[str, Number] = Field(
        default_factory=dict, description='floor by segment, "device=phone"'
    )

    @model_validator(mode="after")
    def _within(self) -> Confidence:
        if self.measure.startswith("output:"):
            return self
        floors: list[tuple[tuple[str, ...], float | None]] = [(("floor",), self.floor)]
        floors += [(("per_label", name), floor) for name, floor in self.per_label.items()]
        floors += [(("per_segment", name), floor) for name, floor in self.per_segment.items()]
        for at, floor in floors:
            if floor is not None and not 0 <= floor <= 1:
                mend = f"write {floor / 100:g} for {floor:g} %" if 1 < floor <= 100 else ""
                raise wrong(f"found {floor:g}", f"0 to 1, which is where {self.measure} lies", mend, at=at)
        return self
