"""Where people are told of failed gates and of what was done about them: the block."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from gateway.config.faults import quoted
from gateway.config.fields import Block, Number, Text, wrong

__all__ = ["SECRET_PREFIX", "Alerts", "signing_key"]

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  it is what stands before one
"""As Standard Webhooks writes a secret: the key in base64 behind it."""

_URL = re.compile(r"https?://[^/\s?#@]+(/[^\s#]*)?\Z")
_SOURCE = re.compile(r"[!-~]{1,200}\Z")


def _url(value: str) -> str:
    if not _URL.match(value):
        mend = f"write https://{value}" if "://" not in value and value else ""
        raise wrong(f"{quoted(value)} is no address that takes alerts", '"https://HOST/path"', mend)
    return value


def _source(value: str) -> str:
    if not _SOURCE.match(value):
        raise wrong(quoted(value), "a URI reference without blanks, such as /gateways/berlin")
    return value


def _secret(value: Any) -> Any:
    value = getattr(value, "text", value)
    if isinstance(value, str) and value and not 24 <= len(signing_key(value)) <= 64:
        raise wrong(
            f"a key of {len(signing_key(value))} bytes",
            f"24 to 64 bytes: {SECRET_PREFIX} and base64, or text, or file:<path>",
        )
    return value or None


def signing_key(secret: str) -> bytes:
    """The bytes that signatures are made with."""
    if secret.startswith(SECRET_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except binascii.Error:
            return b""
    return secret.encode()


class Alerts(Block):
    """CloudEvents by Standard Webhooks: each signed, each with an id by which a receiver knows one it has."""

    usual: ClassVar[str] = '{url: "https://alerts.example.org/gateway", secret: "file:/run/keys/alerts"}'

    url: Annotated[Text, AfterValidator(_url)] = Field(
        description="takes them by POST, as application/cloudevents+json"
    )
    secret: Annotated[SecretStr, BeforeValidator(_secret)] = Field(
        description="whsec_<base64> of 24 to 64 bytes, such a long text, or file:<path>"
    )
    source: Annotated[Text, AfterValidator(_source)] = Field(
        "/model-gateway", description="the event's source: who tells of it"
    )
    timeout_s: Annotated[Number, Field(gt=0, le=60)] = Field(5.0, description="for one try, all in all")
    retry_s: Annotated[Number, Field(ge=0, le=3600)] = Field(
        30.0, description="how long one is tried in a row; then again with the next look, until it is taken"
    )
