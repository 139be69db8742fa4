"""What can answer, and how it is called: endpoints, repeats, when it is left alone."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gateway.config.faults import quoted
from gateway.config.fields import (
    Block,
    Count,
    Endpoint,
    Milliseconds,
    Number,
    Seconds,
    Share,
    Text,
    as_list,
    no_bool,
    wrong,
)
from gateway.config.people import People
from gateway.config.tls import EncryptedBackend

__all__ = ["Answer", "Backend", "Circuit", "Dns", "Retry"]


class Answer(Block):
    """A static answer, in the terms of the route's prediction."""

    usual: ClassVar[str] = "{label: ham, score: 0.0}"

    label: Text | None = Field(None, description="a class")
    score: Share | None = Field(None, description="of `positive`")
    scores: tuple[Share, ...] | None = Field(None, min_length=1, description="of all classes")
    value: Number | None = Field(None, description="for routes that read a value")

    @model_validator(mode="after")
    def _something(self) -> Answer:
        if self.label is None and self.score is None and self.scores is None and self.value is None:
            raise wrong(
                "an answer without anything in it",
                "label, score, scores or value",
                "for example {label: ham, score: 0.0}",
            )
        return self


def _name_server(value: str) -> str:
    host, _, port = value.rpartition(":")
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        good = port.isdecimal() and 0 < int(port) < 65536
    except ValueError:
        good = False
    if not good:
        bare = value.removeprefix("[").removesuffix("]")
        mend = ""
        with contextlib.suppress(ValueError):
            mend = f"write {bare}:53" if ipaddress.ip_address(bare).version == 4 else f"write [{bare}]:53"
        raise wrong(f"{quoted(value)} is no address of a name server", "ADDRESS:PORT", mend)
    return value


def _method(value: str) -> str:
    if not re.match(r"/[\w.]+/(\w+|\*)\Z", value):
        mend = f"write /{value}" if re.match(r"[\w.]+/(\w+|\*)\Z", value) else ""
        raise wrong(f"{quoted(value)} is no method", "/package.Service/Method or /package.Service/*", mend)
    return value


class Retry(Block):
    """When a call that failed is made again at the same backend: before its first answer byte, within its deadline."""

    usual: ClassVar[str] = "{attempts: 2}, or null for none"

    attempts: Annotated[Count, Field(le=10)] = Field(2, description="beyond the first")
    methods: Annotated[tuple[Annotated[Text, AfterValidator(_method)], ...], BeforeValidator(as_list)] = (
        Field(
            (),
            max_length=64,
            description="what may be repeated beside ModelInfer without a sequence: /package.Service/Method or /*",
        )
    )
    budget_share: Share = Field(0.2, description="retries for each call, at most")
    budget_per_s: Annotated[Number, Field(ge=0, le=10_000)] = Field(
        10.0, description="retries a second besides"
    )
    jitter: Share = Field(0.2, description="by how much a pause is longer or shorter")


class Circuit(Block):
    """When a backend that fails is left alone: never by a call that has nobody else behind it in its chain."""

    usual: ClassVar[str] = "{failures: 7}, or null for none"

    failures: Count = Field(
        7, description="in a row: UNAVAILABLE, INTERNAL, UNKNOWN, lost connections, time-outs"
    )
    success_rate: Share = Field(0.5, description="or fewer successes than this in the last ten seconds")
    min_calls: Count = Field(100, description="calls in these ten seconds before the rate counts")
    probe_first_s: Seconds = Field(1.0, description="until one real call is let through to see")
    probe_last_s: Seconds = Field(60.0, description="the same at most: it doubles with each probe that fails")

    @model_validator(mode="after")
    def _in_order(self) -> Circuit:
        if self.probe_last_s < self.probe_first_s:
            raise wrong(
                f"probe_last_s is {self.probe_last_s:g}",
                f"at least probe_first_s, {self.probe_first_s:g}",
                f"write probe_last_s: {self.probe_first_s:g}",
            )
        return self


class Dns(Block):
    """How the names of `dns:` endpoints are resolved."""

    usual: ClassVar[str] = '{servers: ["10.0.0.10:53"]}'

    servers: Annotated[
        tuple[Annotated[Text, AfterValidator(_name_server)], ...], BeforeValidator(as_list)
    ] = Field((), max_length=8, description="name servers, ADDRESS:PORT; those of /etc/resolv.conf if absent")
    min_ttl_s: Seconds = Field(5.0, description="an answer is good for at least so long")
    max_ttl_s: Seconds = Field(60.0, description="and at most so long")

    @model_validator(mode="after")
    def _in_order(self) -> Dns:
        if self.max_ttl_s < self.min_ttl_s:
            raise wrong(
                f"max_ttl_s is {self.max_ttl_s:g}",
                f"at least min_ttl_s, {self.min_ttl_s:g}",
                f"write max_ttl_s: {self.min_ttl_s:g}",
            )
        return self


KINDS: Final = ("grpc", "answer", "people")
"""What a backend may be; one of them."""


class Backend(Block):
    """Something that can answer: a model server's model, a static answer, or people."""

    usual: ClassVar[str] = '{grpc: "127.0.0.1:8001", model: spam} or {answer: {label: ham}}'

    grpc: (
        Annotated[
            tuple[Endpoint, ...], BeforeValidator(as_list, json_schema_input_type=str | tuple[str, ...])
        ]
        | None
    ) = Field(
        None,
        min_length=1,
        max_length=256,
        description='"HOST:PORT", "dns:HOST:PORT" or "unix:/path", or a list of such',
    )
    model: Text | None = Field(
        None, min_length=1, description="model name to ask for; the caller's if absent"
    )
    version: Text | None = Field(None, min_length=1, description="model version to ask for")
    timeout_ms: Milliseconds | None = Field(None, description="for one attempt")
    max_in_flight: Count = Field(256, description="calls under way; what is more is a miss (overload)")
    connect_timeout_ms: Milliseconds = Field(300, description="for a connection to stand")
    tls: EncryptedBackend = Field(None, description="true, or files; plain text if absent")
    retry: Retry | None = Field(
        default_factory=Retry, description="how failed calls are repeated; null for not at all"
    )
    circuit: Circuit | None = Field(
        default_factory=Circuit, description="when it is left alone; null for never"
    )
    warm: Annotated[int, BeforeValidator(no_bool), Field(ge=0, le=8)] = Field(
        1,
        description="connections that each worker keeps open to each endpoint; 0 connects with the first call",
    )
    answer: Answer | None = Field(None, description="a static answer")
    people: People | None = Field(None, description="people, who answer while the caller waits")

    @model_validator(mode="after")
    def _one_kind(self) -> Backend:
        kinds = [name for name in KINDS if getattr(self, name) is not None]
        if len(kinds) != 1:
            found = f"both {kinds[0]} and {kinds[1]}" if kinds else "neither grpc nor answer nor people"
            raise wrong(
                found,
                'grpc: "HOST:PORT" for a model, answer: {label: ..} for a static answer, or people: {queue: ..}',
            )
        only = sorted({name for name in type(self).model_fields if name not in KINDS} & self.model_fields_set)
        if self.grpc is None and only:
            wanted = f"{kinds[0]} alone: no model server is called"
            raise wrong(f"{only[0]} beside {kinds[0]}", wanted, f"take {only[0]} out")
        return self

    @property
    def model_server(self) -> bool:
        """Whether a model answers."""
        return self.grpc is not None

    @property
    def static(self) -> bool:
        """Whether it answers without any model."""
        return self.answer is not None
