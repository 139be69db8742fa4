"""Gates: what must hold of a route's quality, and what is done where it does not."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from gateway.config.faults import did_you_mean, quoted
from gateway.config.fields import Block, Count, Name, Number, Text, wrong
from gateway.config.objective import Objective, Wanted

__all__ = ["ACTS", "Act", "Gate", "Metric", "gates_of_objective"]

Metric = Literal["precision", "recall", "f1", "f2", "f0.5", "accuracy", "false_positive_rate"]

ActName = Literal["notify", "roll_back", "raise_floor", "stop_exploring", "kill"]

ACTS: Final[tuple[ActName, ...]] = ("notify", "roll_back", "raise_floor", "stop_exploring", "kill")


def _act(value: Any) -> Any:
    if isinstance(value, str):
        if value in ACTS:
            return {value: True}
        raise wrong(
            f"{quoted(value)}",
            "notify, roll_back, {roll_back: backend}, raise_floor, stop_exploring or kill",
            did_you_mean(value, ACTS),
        )
    return value


def _back(value: Any) -> Any:
    if not isinstance(value, (bool, str)):
        raise wrong("no name", "the name of a backend, or true for the next of the chain")
    return value


class Act(Block):
    """What is done where a gate fails: exactly one of these."""

    usual: ClassVar[str] = "notify, roll_back, {roll_back: spam-lite}, raise_floor, stop_exploring or kill"

    notify: bool = Field(False, description="say so, and nothing else")
    roll_back: Annotated[bool | Text, BeforeValidator(_back, json_schema_input_type=bool | str)] = Field(
        False,
        description="the next of the chain answers in its place; or the backend of the chain that is named",
    )
    raise_floor: bool = Field(False, description="of confidence, so that more falls back")
    stop_exploring: bool = Field(False, description="the first of the chain gets every call again")
    kill: bool = Field(False, description="open the kill switch: no model is asked")

    @model_validator(mode="after")
    def _one(self) -> Act:
        given = [name for name in ACTS if getattr(self, name)]
        if len(given) != 1:
            raise wrong(
                " and ".join(given) if given else "nothing to do",
                "one of notify, roll_back, {roll_back: backend}, raise_floor, stop_exploring, kill",
            )
        return self

    @property
    def name(self) -> ActName:
        """Which one it is."""
        return next(name for name in ACTS if getattr(self, name))

    @property
    def backend(self) -> str | None:
        """Which backend it is rolled back to, where one is named."""
        return self.roll_back if isinstance(self.roll_back, str) else None


class Gate(Block):
    """A metric with a bound, watched label by label, and what follows where it does not hold."""

    usual: ClassVar[str] = "{name: precision-holds, metric: precision, at_least: 0.93, then: roll_back}"

    name: Name = Field(description="what it is called in verdicts, acts and metrics")
    metric: Metric = Field(
        description="precision, recall, f1, f2 (recall weighs more), f0.5 (precision does), accuracy or "
        "false_positive_rate"
    )
    at_least: Wanted | None = Field(None, description="what it must not fall below; this or at_most")
    at_most: Wanted | None = Field(None, description="what it must not rise above")
    pass_at: Wanted | None = Field(
        None,
        description="what must be shown for a pass, where that is more than the bound; the bound if absent",
    )
    window_h: Annotated[Number, Field(ge=1, le=8760)] = Field(
        168.0, description="predictions that the number is of; an alarm holds as long"
    )
    label_delay_h: Annotated[Number, Field(ge=0, le=8760)] | None = Field(
        None,
        description="how long the answer to an open review task is waited for, as labels count in the order of their "
        "predictions; a day, or a quarter of the window, if absent",
    )
    min_labels: Count = Field(50, description="fewer are never a verdict")
    segment: Text | None = Field(
        None,
        description='"device=phone" for that one alone, "device" for each of its values; all together if absent',
    )
    consecutive: Annotated[Count, Field(le=1000)] = Field(
        1, description="failures in a row, each with new labels, before anything is done"
    )
    on_inconclusive: Literal["inconclusive", "fail", "keep_last"] = Field(
        "inconclusive",
        description="what it counts as that neither is shown; keep_last: as the last pass or fail",
    )
    on_no_data: Literal["inconclusive", "fail", "keep_last"] = Field(
        "inconclusive", description="what it counts as that no label has come for the whole window"
    )
    dry_run: bool = Field(False, description="say what would be done, and do nothing")
    then: Annotated[
        Act,
        BeforeValidator(
            _act,
            json_schema_input_type=Literal["notify", "roll_back", "raise_floor", "stop_exploring", "kill"]
            | Act,
        ),
    ] = Field(
        default_factory=lambda: Act(notify=True),
        description="notify, roll_back (the next of the chain answers), {roll_back: backend}, raise_floor, "
        "stop_exploring or kill; notify if absent",
    )
    cooldown_h: Annotated[Number, Field(ge=0, le=8760)] = Field(
        6.0, description="after an act, until this gate may act again"
    )
    max_per_day: Annotated[Count, Field(le=1000)] = Field(2, description="acts of this gate in any 24 hours")
    approval: bool = Field(False, description="an operator must agree before it is done")

    @model_validator(mode="after")
    def _bounds(self) -> Gate:
        if (self.at_least is None) == (self.at_most is None):
            found = "neither at_least nor at_most" if self.at_least is None else "at_least and at_most"
            raise wrong(found, "one of them", "for example at_least: 0.93")
        if self.pass_at is not None and (
            self.pass_at < self.bound if self.at_least is not None else self.pass_at > self.bound
        ):
            side = "at least" if self.at_least is not None else "at most"
            raise wrong(
                f"pass_at {self.pass_at:g} would pass what fails at {self.bound:g}",
                f"{side} {self.bound:g}",
                at=("pass_at",),
            )
        if self.label_delay_h is not None and self.label_delay_h >= self.window_h:
            raise wrong(
                f"label_delay_h {self.label_delay_h:g} leaves nothing of a window of {self.window_h:g} h",
                f"less than {self.window_h:g}",
                "what is not answered within the window can be waited for no longer",
                at=("label_delay_h",),
            )
        return self

    @property
    def bound(self) -> float:
        """What it is compared with."""
        return self.at_least if self.at_least is not None else self.at_most or 0.0

    @property
    def passes_at(self) -> float:
        """What must be shown for a pass."""
        return self.bound if self.pass_at is None else self.pass_at

    @property
    def waits_h(self) -> float:
        """How long an open review task is waited for."""
        return min(24.0, self.window_h / 4) if self.label_delay_h is None else self.label_delay_h

    @property
    def flagged_only(self) -> bool:
        """Whether labels of what was flagged are all that it takes."""
        return self.metric == "precision"


def gates_of_objective(objective: Objective | None) -> tuple[Gate, ...]:
    """The gates of a route that has an objective and no gates: one for each number, that tell and do nothing."""
    if objective is None:
        return ()
    wanted: dict[Metric, float | None] = {"precision": objective.precision, "recall": objective.recall}
    return tuple(
        Gate(name=f"objective-{metric}", metric=metric, at_least=bound)
        for metric, bound in wanted.items()
        if bound is not None
    )
