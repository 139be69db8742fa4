"""What a route holds: the match, and all the policy for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gateway.config.autonomy import Autonomy, autonomy_block
from gateway.config.checks import Check
from gateway.config.costs import Costs
from gateway.config.described import Request
from gateway.config.drift import Drift
from gateway.config.exploring import Explore
from gateway.config.faults import did_you_mean, quoted
from gateway.config.fields import Block, Milliseconds, Name, Text, as_list, wrong
from gateway.config.gates import Gate, gates_of_objective
from gateway.config.hedging import Hedge
from gateway.config.memory import LoopGuard, RouteStats, Session
from gateway.config.objective import Objective
from gateway.config.predictions import Confidence, Prediction
from gateway.config.sampling import Holdout, Mirror, Review
from gateway.types import STATUS_NAMES

__all__ = [
    "STATUSES",
    "Match",
    "Route",
    "Rule",
    "Then",
]

STATUSES = STATUS_NAMES[1:]
"""gRPC's status names but OK."""


class Match(Block):
    """Which calls are the route's; all of it must hold."""

    usual: ClassVar[str] = "{model: spam, metadata: {x-tenant: acme}}"

    model: Text | None = Field(
        None,
        min_length=1,
        description="model name in the request; the route's own name if neither model nor method stands here",
    )
    method: Text | None = Field(
        None,
        pattern=r"^/[^/\s]+/(\*|[^/*\s]+)$",
        description="RPC as /package.Service/Method, or /package.Service/*",
    )
    metadata: Mapping[str, Text] = Field(
        default_factory=dict, description="metadata that the call must carry, by exact value"
    )

    @model_validator(mode="after")
    def _keys(self) -> Match:
        for key in self.metadata:
            _metadata_key(key)
        return self


def _metadata_key(key: str) -> None:
    if not key or key != key.lower() or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in key):
        raise wrong(f"{quoted(key)} is no metadata key", "lower-case letters, digits and - _ .")
    if key.endswith("-bin"):
        raise wrong(f"{quoted(key)} is binary metadata", "a key whose values are text")
    if key.startswith("grpc-"):
        raise wrong(f"{quoted(key)} belongs to gRPC itself", "a key of your own")


def _then(value: Any) -> Any:
    if isinstance(value, str):
        if value in ("next", "review"):
            return {value: True}
        words = ("next", "review", "to", "answer", "reject")
        raise wrong(
            f"{quoted(value)}",
            "next, review, {to: backend}, {answer: backend} or {reject: STATUS, message: why}",
            did_you_mean(value, words),
        )
    if isinstance(value, dict) and ("next" in value or "review" in value):
        raise wrong("next or review as a block", "the word alone", "write then: next")
    return value


class Then(Block):
    """What a rule does: exactly one of these."""

    usual: ClassVar[str] = (
        "next, review, {to: backend}, {answer: backend} or {reject: INVALID_ARGUMENT, message: why}"
    )

    next: bool = False
    review: bool = False
    to: Text | None = None
    answer: Text | None = None
    reject: Text | None = None
    message: Text = Field("", max_length=1024)

    @model_validator(mode="after")
    def _one(self) -> Then:
        given = [name for name in ("next", "review", "to", "answer", "reject") if getattr(self, name)]
        if len(given) != 1:
            raise wrong(
                " and ".join(given) if given else "nothing to do",
                "one of next, review, {to: backend}, {answer: backend}, {reject: STATUS, message: why}",
            )
        if self.reject is not None and self.reject not in STATUSES:
            raise wrong(
                f"{quoted(self.reject)} is no gRPC status that refuses",
                "a status such as INVALID_ARGUMENT",
                did_you_mean(self.reject, STATUSES),
                at=("reject",),
            )
        if self.message and self.reject is None:
            raise wrong(
                "a message without reject",
                "reject beside it",
                "write {reject: INVALID_ARGUMENT, message: ...}",
            )
        return self


def _otherwise(value: Any) -> Any:
    return value if isinstance(value, bool) else _then(value)


def _function(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", value):
        mend = "a module's parts are parted by points, the function by a colon" if value else ""
        raise wrong(f"{quoted(value)} names no function", "package.module:function", mend)
    return value


class Rule(Block):
    """A CEL expression, or a function in Python, and what happens where it holds."""

    usual: ClassVar[str] = "{name: big, on: request, when: 'request.rows > 64', then: next}"

    name: Name | None = Field(None, description="shown as reason `rule:<name>`; rule-1, rule-2 ... if absent")
    on: Literal["request", "prediction"] = Field(
        "request", description="before the backend is called, or on its prediction"
    )
    when: Text = Field(
        "true",
        min_length=1,
        max_length=8192,
        description="CEL that yields true or false; python is asked where it holds",
    )
    python: Annotated[Text, AfterValidator(_function)] | None = Field(
        None, description="package.module:function, which says whether the rule holds"
    )
    timeout_ms: Milliseconds = Field(50, description="how long a call waits for python")
    otherwise: (
        Annotated[
            bool | Then,
            BeforeValidator(_otherwise, json_schema_input_type=bool | Literal["next", "review"] | Then),
        ]
        | None
    ) = Field(
        None, description="what counts when python is late, raises or is busy: true, false, or as in then"
    )
    then: Annotated[Then, BeforeValidator(_then, json_schema_input_type=Literal["next", "review"] | Then)] = (
        Field(description="next, review, {to: backend}, {answer: backend} or {reject: STATUS, message: why}")
    )

    @model_validator(mode="after")
    def _judged(self) -> Rule:
        given = self.model_fields_set
        if self.python is None and "when" not in given:
            raise wrong(
                "neither when nor python", "what the rule goes by", "for example when: 'request.rows > 64'"
            )
        if self.python is not None and self.otherwise is None:
            raise wrong(
                "python without otherwise",
                "what counts when the function is late, raises or is busy",
                "for example otherwise: false",
                at=("python",),
            )
        for name in ("timeout_ms", "otherwise"):
            if self.python is None and name in given:
                raise wrong(
                    f"{name} without python",
                    "python: package.module:function",
                    f"take {name} out",
                    at=(name,),
                )
        return self


class Route(Block):
    """What a call is matched to."""

    usual: ClassVar[str] = "{chain: [model, static]}"

    match: Match = Field(
        default_factory=Match, description="which calls; the model of the route's name if absent"
    )
    chain: Annotated[
        tuple[Text, ...], BeforeValidator(as_list, json_schema_input_type=str | tuple[str, ...])
    ] = Field(min_length=1, max_length=16, description="backends in order, within one deadline")
    deadline_ms: Milliseconds | None = Field(
        None, description="for the whole chain; never longer than the caller's"
    )
    on_miss: Literal["call", "rows"] = Field(
        "call", description="a batch falls back whole, or only the rows that missed go on along the chain"
    )
    request: Request | None = Field(
        None, description="where everything stands in a request of a described service"
    )
    prediction: Prediction | None = Field(
        None, description="what is read out of an answer; nothing if absent"
    )
    check: Check = Field(default_factory=Check, description="what a prediction must be")
    confidence: Confidence | None = Field(None, description="when a prediction is sure enough")
    rules: tuple[Rule, ...] = Field((), max_length=256, description="in order; the first that holds decides")
    holdout: Holdout | None = Field(None, description="units that never meet the model")
    explore: Explore | None = Field(None, description="models that take turns at being asked first")
    mirror: tuple[Mirror, ...] = Field((), max_length=8, description="backends that get copies")
    review: Review | None = Field(None, description="sample for people")
    objective: Objective | None = Field(
        None, description="which mistake is worse, and from what numbers on it is good"
    )
    costs: Costs | None = Field(None, description="what mistakes and reviews cost")
    gates: tuple[Gate, ...] = Field(
        (), max_length=64, description="what must hold; made from the objective's numbers if absent"
    )
    kill_switch: bool = Field(False, description="skip every model; static answers and people go on")
    loop_guard: LoopGuard | None = Field(
        None, description="the way out for a unit that keeps meeting fallbacks or the same negative answer"
    )
    hedge: Hedge | None = Field(
        None, description="ask the next model as well when the first is late; never if absent"
    )
    autonomy: (
        Annotated[Autonomy, BeforeValidator(autonomy_block, json_schema_input_type=str | Autonomy)] | None
    ) = Field(None, description="how much the model does alone: shadow, suggest, assisted or autonomous")
    drift: Drift = Field(default_factory=Drift, description="how changes of the traffic are watched for")
    session: Session = Field(default_factory=Session, description="what rules see as `session`")
    stats: RouteStats = Field(default_factory=RouteStats, description="what rules see as `stats`")

    @property
    def watched(self) -> tuple[Gate, ...]:
        """The gates in force: those that are written, else those that the objective makes."""
        return self.gates or gates_of_objective(self.objective)

    def rule_name(self, index: int) -> str:
        """The rule's name, given or made."""
        return self.rules[index].name or f"rule-{index + 1}"
