"""What a file of cases may hold: calls that are thought of, and what must become of them.

Read like settings: every fault at once, with its line and the mend. What the cases refer to (backends, routes, rules)
is looked up in the settings that they are about, so that a misspelt name is not a case that fails for a year.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from gateway.config.faults import Fault, Path, did_you_mean, listed, quoted
from gateway.config.fields import Block, Name, Number, Text, as_list, wrong
from gateway.config.load import file_text
from gateway.config.memory import ThoughtMet, ThoughtSession, ThoughtStats
from gateway.config.routes import STATUSES
from gateway.config.settings import Settings
from gateway.config.source import NumberText, Source, WholeText, read_yaml
from gateway.config.validate import validate
from gateway.types import STATUS_NAMES, Outcome, Reason

__all__ = ["Case", "Cases", "Expect", "Given", "LoadedCases", "Said", "ThoughtCall", "read_cases"]

OUTCOMES = tuple(outcome.text for outcome in Outcome)
REASONS = tuple(reason.text for reason in Reason if reason is not Reason.RULE)


def _parameter(value: Any) -> Any:
    """As YAML wrote it: a whole number stays one."""
    if isinstance(value, (WholeText, NumberText)):
        return int(value) if isinstance(value, WholeText) else float(value)
    if not isinstance(value, (bool, int, float, str)):
        raise wrong("a parameter that is a list, a block or nothing", "a text, a number, true or false")
    return value


class ThoughtCall(Block):
    """The call: what a decision sees of it."""

    usual: ClassVar[str] = "{model: spam, metadata: {x-user-id: ada}}"

    model: Text | None = Field(None, description="model name in the request")
    method: Text | None = Field(
        None, pattern=r"^/[^/\s]+/[^/\s]+$", description="/package.Service/Method; ModelInfer if absent"
    )
    metadata: Mapping[str, Text] = Field(default_factory=dict, description="metadata of the call")
    params: Mapping[str, Annotated[Any, BeforeValidator(_parameter)]] = Field(
        default_factory=dict, description="request parameters"
    )
    caller: tuple[Text, ...] | None = Field(
        None, description="names of the caller's certificate, its id first; plain text if absent"
    )
    rows: Annotated[int, Field(ge=1, le=1024)] = Field(1, description="rows of the batch")
    id: Text = Field("", description="request id")


def _said(value: Any) -> Any:
    """`0.9`, `[0.1, 0.9]`, `UNAVAILABLE` and `timeout` for short."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return {"score": value}
    if isinstance(value, list):
        return {"scores": value}
    if value == "timeout":
        return {"timeout": True}
    if isinstance(value, str):
        if value.upper() in STATUSES:
            return {"error": value.upper()}
        raise wrong(
            quoted(value),
            "a score, a list of scores, a gRPC status, timeout, or a block such as {label: spam}",
            did_you_mean(value.upper(), STATUSES),
        )
    return value


class Said(Block):
    """What a backend is thought to answer: the same for every row, but for those that `rows` names one by one."""

    usual: ClassVar[str] = "{score: 0.9}, {label: spam, confidence: 0.7}, UNAVAILABLE or timeout"

    score: Number | None = Field(None, description="of `positive`")
    scores: tuple[Number, ...] | None = Field(None, min_length=1, description="of all classes")
    label: Text | None = None
    confidence: Number | None = None
    value: Number | None = None
    error: Text | None = Field(None, description="the gRPC status it fails with")
    timeout: bool = False
    rows: tuple[Annotated[Said, BeforeValidator(_said)], ...] = Field(
        (), max_length=1024, description="answers to the rows of a batch, one by one"
    )

    @model_validator(mode="after")
    def _one(self) -> Said:
        fails = [name for name in ("error", "timeout") if getattr(self, name)]
        says = [name for name in ("score", "scores", "label", "value") if getattr(self, name) is not None]
        if self.rows and any(row.error or row.timeout or row.rows for row in self.rows):
            raise wrong(
                "a row that fails by itself",
                "rows that are answered; a backend fails as a whole",
                at=("rows",),
            )
        if self.rows and not fails and not says:
            return self
        if not fails and not says:
            raise wrong("an answer without anything in it", "score, scores, label, value, error or timeout")
        if len(fails) > 1 or (fails and says) or {"score", "scores"} <= set(says):
            raise wrong(" and ".join(says + fails), "one of them")
        if self.error is not None and self.error not in STATUSES:
            raise wrong(
                f"{quoted(self.error)} is no gRPC status that fails",
                "a status such as UNAVAILABLE",
                did_you_mean(self.error, STATUSES),
                at=("error",),
            )
        return self

    def as_dict(self) -> dict[str, Any]:
        """As the data plane's `explain` takes it."""
        return self.model_dump(mode="json", exclude_defaults=True)


Answered = Annotated[Said, BeforeValidator(_said)]


class Given(Block):
    """What chance would decide is given, so that a case comes out the same every time."""

    usual: ClassVar[str] = "{holdout: true}"

    holdout: bool = Field(False, description="whether the unit is in the route's holdout")
    arm: Text | None = Field(None, description="the arm it draws; the first of the chain if absent")
    loop_guard: ThoughtMet | None = Field(None, description="what the loop guard has counted of the unit")
    session: ThoughtSession | None = Field(None, description="what rules see as `session`")
    stats: ThoughtStats | None = Field(None, description="what rules see as `stats`")

    def past(self) -> dict[str, Any]:
        """What is remembered, as the data plane's `explain` takes it."""
        past = self.model_dump(mode="json", exclude={"holdout", "arm"}, exclude_none=True)
        return {name: block for name, block in past.items() if block}


class Expect(Block):
    """What must become of the call; what is not named may be anything."""

    usual: ClassVar[str] = "{outcome: static, reason: low_confidence, backend: ham}"

    route: Text | None = Field(None, description="the route that takes the call")
    outcome: Text | None = None
    reason: Text | None = Field(
        None, description="why the first choice did not answer; rule:<name> for a rule"
    )
    backend: Text | None = Field(None, description="who answers")
    attempts: tuple[Text, ...] | None = Field(
        None, description="who is asked, in order, as backend:reason; the reason may be left away"
    )
    outcomes: tuple[Text, ...] | None = Field(None, description="the outcome of each row of a batch")
    label: Text | None = None
    score: Number | None = None
    flagged: bool | None = None
    segment: Text | None = Field(None, description="as device=phone,country=de")
    status: Text | None = Field(None, description="gRPC status that the caller gets; OK if it is answered")
    message: Text | None = Field(None, description="words that the status's message holds")
    review_probability: Number | None = Field(None, description="of the first row")
    arm: Text | None = Field(None, description="the backend that was drawn to be asked first")

    @model_validator(mode="after")
    def _something(self) -> Expect:
        if not self.model_fields_set:
            raise wrong("nothing is expected", "at least one of " + listed(type(self).model_fields, 20))
        for name, known in (("outcome", OUTCOMES), ("status", STATUS_NAMES)):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise wrong(
                    f"{quoted(value)} is no {name}", listed(known, 20), did_you_mean(value, known), at=(name,)
                )
        for index, value in enumerate(self.outcomes or ()):
            if value not in OUTCOMES:
                guess = did_you_mean(value, OUTCOMES)
                raise wrong(
                    f"{quoted(value)} is no outcome", listed(OUTCOMES, 20), guess, at=("outcomes", index)
                )
        if self.reason is not None and self.reason not in REASONS and not self.reason.startswith("rule:"):
            raise wrong(
                f"{quoted(self.reason)} is no reason",
                f"{listed(REASONS, 20)}, or rule:<name>",
                did_you_mean(self.reason, REASONS),
                at=("reason",),
            )
        return self


class Case(Block):
    """One call and what must become of it."""

    usual: ClassVar[str] = (
        "{name: unsure, call: {model: spam}, answers: {spam-v3: 0.6}, expect: {backend: ham}}"
    )

    name: Text = Field(min_length=1, max_length=200, description="what the case is about, in words")
    call: ThoughtCall = Field(default_factory=ThoughtCall)
    answers: Mapping[Name, Answered] = Field(
        default_factory=dict, description="what backends answer, by name; who is not named is UNAVAILABLE"
    )
    others: Annotated[Said | None, BeforeValidator(_said)] = Field(
        None, description="what all backends answer that `answers` does not name"
    )
    given: Given = Field(default_factory=Given)
    settings: Annotated[tuple[Text, ...], BeforeValidator(as_list)] = Field(
        (), description="settings that go before the file's, as path=value"
    )
    expect: Expect


class Cases(Block):
    """The whole file."""

    usual: ClassVar[str] = "cases: [{name: ..., call: {model: spam}, expect: {outcome: model}}]"

    cases: tuple[Case, ...] = Field(
        min_length=1, max_length=10_000, description="in the order they are tried"
    )


@dataclass(slots=True)
class LoadedCases:
    """What came of a file: the cases (empty if there are faults), faults, and where everything stands."""

    source: Source
    cases: tuple[Case, ...] = ()
    faults: list[Fault] = field(default_factory=list)


def read_cases(path: str | FilePath, settings: Settings, env: Mapping[str, str] | None = None) -> LoadedCases:
    """Read a file of cases and check it against the settings that it is about. Never raises."""
    text = file_text(path)
    if isinstance(text, Fault):
        return LoadedCases(Source(str(path)), faults=[text])
    source = read_yaml(str(path), text, os.environ if env is None else env)
    checked = validate(source, Cases)
    faults = source.faults + checked.faults
    if checked.settings is not None:
        for index, case in enumerate(checked.settings.cases):
            where = checked.original(("cases", index))
            faults += _references(case, where, settings, source)
    faults = sorted(dict.fromkeys(faults), key=lambda fault: (fault.line or 0, fault.column or 0))
    loaded = LoadedCases(source, faults=faults)
    if not faults and checked.settings is not None:
        loaded.cases = checked.settings.cases
    return loaded


def _references(case: Case, at: Path, settings: Settings, source: Source) -> Iterator[Fault]:
    backends, routes = list(settings.backends), list(settings.routes)
    for name in case.answers:
        yield from _known(source, (*at, "answers", name), name, "backend", backends, key=True)
    expect, where = case.expect, (*at, "expect")
    if case.given.arm is not None:
        yield from _known(source, (*at, "given", "arm"), case.given.arm, "backend", backends)
    if expect.arm is not None:
        yield from _known(source, (*where, "arm"), expect.arm, "backend", backends)
    if expect.backend is not None:
        yield from _known(source, (*where, "backend"), expect.backend, "backend", backends)
    if expect.route is not None:
        yield from _known(source, (*where, "route"), expect.route, "route", routes)
    rules = [
        rule for route in settings.routes.values() for rule in map(route.rule_name, range(len(route.rules)))
    ]
    if expect.reason is not None and expect.reason.startswith("rule:"):
        yield from _known(source, (*where, "reason"), expect.reason.removeprefix("rule:"), "rule", rules)
    for index, attempt in enumerate(expect.attempts or ()):
        name, _, reason = attempt.partition(":")
        yield from _known(source, (*where, "attempts", index), name, "backend", backends)
        if reason.startswith("rule:"):
            yield from _known(
                source, (*where, "attempts", index), reason.removeprefix("rule:"), "rule", rules
            )
        elif reason and reason not in REASONS:
            yield source.fault(
                (*where, "attempts", index),
                f"{quoted(reason)} is no reason",
                listed(REASONS, 20),
                did_you_mean(reason, REASONS),
            )


def _known(
    source: Source, path: Path, name: str, what: str, known: Sequence[str], *, key: bool = False
) -> Iterable[Fault]:
    if name in known:
        return
    wanted = listed(known) if known else f"the settings have no {what}"
    yield source.fault(path, f"there is no {what} {name}", wanted, did_you_mean(name, known), key=key)
