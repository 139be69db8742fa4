"""Where captured payloads go as CloudEvents: the block."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from gateway.config.faults import quoted
from gateway.config.fields import Block, Count, Number, Text, as_list, wrong

__all__ = ["Events"]

_URL = re.compile(r"https?://[^/\s?#@]+(/[^\s#]*)?\Z")
_SOURCE = re.compile(r"[!-~]{1,200}\Z")


def _url(value: str) -> str:
    if not _URL.match(value):
        mend = f"write https://{value}" if "://" not in value and value else ""
        if "@" in value:
            mend = "give what proves who you are as token"
        raise wrong(f"{quoted(value)} is no address that takes events", '"https://HOST/path"', mend)
    return value


def _source(value: str) -> str:
    if not _SOURCE.match(value):
        raise wrong(quoted(value), "a URI reference without blanks, such as /gateways/berlin")
    return value


def _token(value: Any) -> Any:
    value = getattr(value, "text", value)
    if isinstance(value, str) and value and (len(value) < 16 or not _SOURCE.match(value[:200])):
        found = f"a secret of {len(value)} characters" if len(value) < 16 else "a secret with blanks in it"
        raise wrong(found, "at least 16 visible ASCII characters, or file:<path>")
    return value or None


class Events(Block):
    """Captured payloads as CloudEvents over HTTP, of the types of KServe's logger."""

    usual: ClassVar[str] = '{url: "https://events.example.org/inference", token: "file:/run/keys/events"}'

    url: Annotated[Text, AfterValidator(_url)] = Field(description="takes them by POST, in binary mode")
    token: Annotated[SecretStr | None, BeforeValidator(_token)] = Field(
        None, description="16 characters or more, or file:<path>; sent as a bearer token"
    )
    send: Annotated[
        tuple[Literal["request", "response"], ...],
        BeforeValidator(as_list, json_schema_input_type=str | tuple[str, ...]),
    ] = Field(("request", "response"), min_length=1, max_length=2, description="which of the two")
    source: Annotated[Text, AfterValidator(_source)] = Field(
        "/model-gateway", description="ce-source: who tells of them"
    )
    namespace: Text | None = Field(None, description="ce-namespace; none if absent")
    queue_events: Annotated[Count, Field(le=1_000_000)] = Field(
        1000, description="that wait or are on their way; what is more is dropped and counted"
    )
    queue_bytes: Annotated[Count, Field(ge=1024)] = Field(
        16_777_216, description="of their payloads; what would pass it is dropped whole"
    )
    connections: Annotated[Count, Field(le=64)] = Field(4, description="kept open, one event at a time each")
    timeout_s: Annotated[Number, Field(gt=0, le=60)] = Field(5.0, description="for one try, all in all")
    retry_s: Annotated[Number, Field(ge=0, le=3600)] = Field(
        60.0, description="how long an event is tried again before it is dropped"
    )
