"""How a review queue is worked on: the block of the settings."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gateway.config.faults import quoted
from gateway.config.fields import Block, Count, Name, Number, Share, Text, as_list, wrong

__all__ = ["Queue"]

_LONGEST_NAME = 128


def _gold(value: float) -> float:
    if value > 0.5:
        raise wrong(f"{value:g}", "0.5 at most", "half of the reviewers' work would make no label")
    return value


class Queue(Block):
    """A review queue: how many answers a task needs, who settles disagreement, and how reviewers are measured."""

    usual: ClassVar[str] = "{reviews_required: 2, adjudicate_in: leads, gold_share: 0.05}"

    reviews_required: Annotated[Count, Field(le=9)] = Field(
        1, description="reviewers who must answer a task, each without knowing of the others"
    )
    adjudicate_in: Name | None = Field(
        None,
        description="queue that a task goes to where they disagree: one answer there settles it; "
        "if absent, one more reviewer's",
    )
    max_skips: Annotated[Count, Field(le=64)] = Field(
        3, description="skips after which a task goes to adjudicate_in, where there is one"
    )
    gold_share: Annotated[Share, AfterValidator(_gold)] = Field(
        0.0, description="of tasks given out whose truth is known; `gateway gold` makes them"
    )
    lease_s: Annotated[Number, Field(ge=1, le=3600)] = Field(
        300.0, description="how long a task is kept for its reviewer, where the reviewer's tool does not say"
    )
    reviewers: Annotated[
        tuple[Text, ...], BeforeValidator(as_list, json_schema_input_type=str | tuple[str, ...])
    ] = Field((), max_length=1000, description="who may work on it; everybody if absent")
    blind: bool = Field(
        False, description="refuse to show the model's answer before the reviewer's, even where asked for"
    )

    @model_validator(mode="after")
    def _reviewers(self) -> Queue:
        for index, name in enumerate(self.reviewers):
            if not 1 <= len(name) <= _LONGEST_NAME:
                raise wrong(
                    f"a name of {len(name)} characters", f"1 to {_LONGEST_NAME}", at=("reviewers", index)
                )
            if name in self.reviewers[:index]:
                raise wrong(f"{quoted(name)} stands there already", "each once", at=("reviewers", index))
        if 0 < len(self.reviewers) < self.reviews_required:
            raise wrong(
                f"{len(self.reviewers)} reviewers can never give {self.reviews_required} answers",
                f"{self.reviews_required} reviewers or more",
                at=("reviewers",),
            )
        return self
