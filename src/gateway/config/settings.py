"""The settings as a tree of frozen blocks. Every default stands here, and nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from gateway.config.access import Access
from gateway.config.alerts import Alerts
from gateway.config.autonomy import Autopilot
from gateway.config.backends import Backend, Dns
from gateway.config.events import Events
from gateway.config.faults import quoted
from gateway.config.fields import (
    Block,
    Count,
    Listening,
    Name,
    Number,
    Share,
    Text,
    as_list,
    endpoint_fault,
    secret,
    wrong,
)
from gateway.config.label_studio import LabelStudio
from gateway.config.ledger_url import ledger_place
from gateway.config.listening import ListenLimits
from gateway.config.origins import From, Origin
from gateway.config.queues import Queue
from gateway.config.retention import Retention
from gateway.config.routes import Route
from gateway.config.tls import ListenTls

__all__ = [
    "FORM",
    "Feedback",
    "From",
    "Identity",
    "Limits",
    "Listen",
    "Receipts",
    "Secrets",
    "Settings",
    "Telemetry",
]

FORM = 1
"""The form of the settings file that this version writes."""


class Listen(Block):
    """Where callers and operators come in."""

    usual: ClassVar[str] = '{inference: "127.0.0.1:8080", admin: "127.0.0.1:9090"}'
    inference: Listening = Field(
        "127.0.0.1:8080", description="HOST:PORT or unix:/path; port 0 takes a free one"
    )
    admin: Listening | None = Field(
        "127.0.0.1:9090", description="health, readiness and metrics, in plain text; null for none"
    )
    control: Listening | None = Field(
        None,
        description="HOST:PORT for sidecars (of `gateway control`), feedback and review, besides the inference port",
    )
    tls: ListenTls | None = Field(None, description="TLS on the inference port; plain text if absent")
    control_tls: ListenTls | None = Field(None, description="TLS on the control port; plain text if absent")
    drain_s: Annotated[Number, Field(gt=0, le=3_600)] = Field(
        5.0,
        description="grace of calls under way when it is told to stop; in its first quarter new ones are welcome",
    )
    limits: ListenLimits = Field(default_factory=ListenLimits)


class Identity(Block):
    """Whom sticky choices follow, and the slices that quality is reported by."""

    usual: ClassVar[str] = '{unit: "metadata:x-user-id", segments: {device: "metadata:x-device"}}'

    unit: Origin | None = Field(
        None, description="metadata:<key>, param:<name> or caller:id; else the request id"
    )
    segments: Mapping[Name, Origin] = Field(
        default_factory=dict,
        max_length=8,
        description="name: metadata:<key>, param:<name> or caller:id; few values each",
    )


def _salt(value: Any) -> Any:
    return secret(value)


def _keys(value: Any) -> Any:
    if not isinstance(value, list):
        return as_list(secret(value)) or ()
    keys = [secret(key, (index,)) for index, key in enumerate(value)]
    return [key for key in keys if key is not None]


class Secrets(Block):
    """What the hashes and receipts rest on; made and kept in `state_dir` where absent."""

    usual: ClassVar[str] = '{salt: "${GATEWAY_SALT}", receipt_keys: ["file:/run/keys/receipt"]}'

    salt: Annotated[SecretStr | None, BeforeValidator(_salt)] = Field(
        None, description="16 characters or more, or file:<path>; replicas must share it"
    )
    receipt_keys: Annotated[tuple[SecretStr, ...], BeforeValidator(_keys)] = Field(
        (), max_length=8, description="16 characters or more, or file:<path>; the first signs, all verify"
    )


class Limits(Block):
    """What bounds memory, whatever peers do."""

    buffer_bytes: Annotated[Count, Field(ge=1024)] = Field(
        65_536, description="messages up to this are held whole; longer ones stream"
    )
    replay_bytes: Count = Field(
        4_194_304, description="a streamed request is kept for fallback and copies up to this"
    )
    answer_bytes: Count = Field(16_777_216, description="an answer that a route reads may be this long")
    request_head_bytes: Annotated[Count, Field(ge=256)] = Field(
        65_536, description="how much of a request is searched for model, id and inputs"
    )
    max_rows: Annotated[Count, Field(le=1_048_576)] = Field(65_536, description="rows of a batch")
    units: Annotated[Count, Field(le=100_000_000)] = Field(
        262_144, description="units remembered: 42 bytes each for loop guards, 98 for sessions, where used"
    )
    python_workers: Annotated[Count, Field(le=64)] = Field(
        2, description="processes that judge rules in Python, where there are any"
    )
    python_waiting: Count = Field(
        256, description="calls that wait for a rule in Python; what is more goes by `otherwise`"
    )
    question_bytes: Count = Field(
        67_108_864, description="of all calls that wait for people or Python; what is more is not asked"
    )


class Receipts(Block):
    """What makes a receipt good."""

    max_age_h: Annotated[Number, Field(gt=0, le=876_000)] = Field(
        2160.0, description="older receipts are refused"
    )
    clock_skew_s: Annotated[Number, Field(ge=0, le=86_400)] = Field(
        300.0,
        description="what callers' clocks may differ by: things happen neither earlier nor in the future",
    )
    pending_s: Annotated[Number, Field(ge=0, le=86_400)] = Field(
        600.0, description="how long feedback by decision id may wait for the decision's record"
    )


class Feedback(Block):
    """What feedback is taken."""

    per_caller_per_s: Annotated[Number, Field(gt=0, le=10_000_000)] | None = Field(
        5000.0,
        description="items a second from each caller, by certificate or else address; null for no limit",
    )
    burst: Annotated[Number, Field(ge=1, le=100_000_000)] = Field(
        20_000.0, description="items of one caller at once; more waits, and is told how long"
    )


def _otlp(value: str) -> str:
    if not re.match(r"https?://[^/\s]+(/\S*)?\Z", value):
        mend = f"write http://{value}" if endpoint_fault(value) is None else ""
        wanted = '"http://HOST:PORT" of its gRPC port, usually 4317'
        raise wrong(f"{quoted(value)} is no address of an OTLP receiver", wanted, mend)
    return value


class Telemetry(Block):
    """What leaves for observers."""

    usual: ClassVar[str] = '{otlp: "http://127.0.0.1:4317", trace_share: 0.01}'

    otlp: Annotated[Text, AfterValidator(_otlp)] | None = Field(
        None, description="OTLP receiver over gRPC, http://HOST:PORT; none if absent"
    )
    trace_share: Share = Field(
        0.01, description="of calls that get spans, besides those whose caller asks for it"
    )
    events: Events | None = Field(None, description="captured payloads as CloudEvents; none if absent")


def _workers(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(value, str) and value.isdecimal():
        return int(value[:9])
    if value != "auto" and not (whole and 1 <= value <= 1024):
        raise wrong(f"{value!r}" if whole else quoted(str(value)), "auto, or a whole number from 1 to 1024")
    return int(value) if whole else value


class Settings(Block):
    """The whole file. Paths are absolute after loading; a relative one starts at the file's folder."""

    usual: ClassVar[str] = "backends: and routes:"

    settings: int = Field(FORM, description="form of this file")
    listen: Listen = Field(default_factory=Listen)
    workers: Annotated[Literal["auto"] | int, BeforeValidator(_workers)] = Field(
        "auto", description="threads that forward calls; auto is one per processor"
    )
    identity: Identity = Field(default_factory=Identity)
    secrets: Secrets = Field(default_factory=Secrets)
    access: Mapping[Name, Access] = Field(
        default_factory=dict,
        max_length=1024,
        description="who may steer and review, by name; if absent, whoever calls from this machine",
    )
    state_dir: Path = Field(Path("state"), description="folder of the ledger and of secrets that were made")
    ledger: Annotated[Text, AfterValidator(ledger_place)] = Field(
        "sqlite",
        repr=False,
        description="sqlite (in state_dir), sqlite:///path/to/file.db, or postgresql://USER@HOST/DATABASE",
    )
    lists: Mapping[Name, Annotated[tuple[Text, ...], BeforeValidator(as_list)]] = Field(
        default_factory=dict, description="texts that rules look into, or file:<path> with one a line"
    )
    default_backend: Text | None = Field(None, description="gets untouched what matches no route")
    limits: Limits = Field(default_factory=Limits)
    receipts: Receipts = Field(default_factory=Receipts)
    feedback: Feedback = Field(default_factory=Feedback)
    retention: Retention = Field(default_factory=Retention)
    telemetry: Telemetry = Field(default_factory=Telemetry)
    autopilot: Autopilot = Field(default_factory=Autopilot)
    alerts: Alerts | None = Field(None, description="who is told of failed gates and acts; nobody if absent")
    descriptors: Annotated[
        tuple[Text, ...], BeforeValidator(as_list, json_schema_input_type=str | tuple[str, ...])
    ] = Field((), max_length=64, description="files with descriptor sets of services that routes read")
    dns: Dns = Field(default_factory=Dns)
    label_studio: LabelStudio | None = Field(
        None, description="where review tasks are answered; nowhere else if absent"
    )
    backends: Mapping[Name, Backend] = Field(
        default_factory=dict, max_length=4096, description="what can answer, by name"
    )
    routes: Mapping[Name, Route] = Field(
        default_factory=dict, max_length=4096, description="what is done with which calls, by name"
    )
    queues: Mapping[Name, Queue] = Field(
        default_factory=dict, max_length=4096, description="how people work on review queues, by name"
    )

    @property
    def worker_count(self) -> int:
        """Threads to start."""
        if self.workers == "auto":
            return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.workers

    @property
    def ledger_url(self) -> str:
        """The ledger's address with an absolute path."""
        return f"sqlite:///{self.state_dir / 'ledger.db'}" if self.ledger == "sqlite" else self.ledger
