"""The kinds of values that settings are made of, and the block they all are.

A value that is not what was wanted raises through `wrong`, so that found, wanted and mend reach the fault as they are.
Numbers written where a text is wanted count as that text, as written: `version: 1.10` is "1.10". Booleans never count
as numbers: `floor: true` is a slip, not 1.0.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from gateway.config.faults import quoted
from gateway.config.source import NumberText, WholeText

__all__ = [
    "Block",
    "Count",
    "Endpoint",
    "Listening",
    "Milliseconds",
    "Name",
    "Number",
    "Seconds",
    "Share",
    "Text",
    "as_list",
    "endpoint_fault",
    "no_bool",
    "secret",
    "wrong",
]


def wrong(found: str, wanted: str, mend: str = "", *, at: tuple[str | int, ...] = ()) -> PydanticCustomError:
    """An error whose words reach the fault as they are; `at` is where inside the block it stands."""
    # pydantic formats the template, hence the words go through the context and not into it
    return PydanticCustomError("wrong", "{found}", {"found": found, "wanted": wanted, "mend": mend, "at": at})


class Block(BaseModel):
    """A block of settings: frozen, and no key is let through unread."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, arbitrary_types_allowed=True)

    usual: ClassVar[str] = ""
    """What the block looks like, for faults."""


def _text(value: Any) -> Any:
    return value.text if isinstance(value, (WholeText, NumberText)) else value


def no_bool(value: Any) -> Any:
    """Refuse true and false, which Python takes for numbers."""
    if isinstance(value, bool):
        raise wrong(f"{str(value).lower()}", "a number")
    return value


_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./@+-]*\Z")


def _name(value: str) -> str:
    # Names travel in trailers (`gateway-attempts: a:ok,b:ok`) and in the receipt, one byte of length each.
    if len(value) > 128 or not _NAME.match(value):
        raise wrong(
            f"{quoted(value)} is no name",
            "letters, digits and _ . / @ + - (at most 128, a letter or digit first)",
        )
    return value


_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%a-z]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})\Z")


def endpoint_fault(value: str, *, listening: bool = False) -> tuple[str, str] | None:
    """What was wanted and the mend, if this is no address that can be listened on or called; else None."""
    forms = '"HOST:PORT" or "unix:/path"' if listening else '"HOST:PORT", "dns:HOST:PORT" or "unix:/path"'
    if value.startswith("unix:"):
        path = value[5:]
        if not path.startswith("/"):
            return "unix: with a path from the root", f"write unix:/{path.lstrip('./')}"
        if len(path.encode()) > 107:
            return "a path of at most 107 bytes, as the kernel takes for a socket", "choose a shorter path"
        return None
    for scheme in ("http://", "https://", "grpc://"):
        if value.startswith(scheme):
            return forms, f"leave {scheme} away"
    rest = value.removeprefix("dns:") if not listening else value
    match = _PORT.match(rest)
    if match is None:
        return forms, "put a port behind it" if re.match(r"[\w.-]+\Z", rest) else ""
    if int(match["port"]) > 65535 or (int(match["port"]) == 0 and not listening):
        return "a port from 1 to 65535", ""
    return None


def _endpoint(value: str) -> str:
    fault = endpoint_fault(value)
    if fault:
        raise wrong(f"{quoted(value)} is no address of a model server", *fault)
    return value


def _listening(value: str) -> str:
    fault = endpoint_fault(value, listening=True)
    if fault:
        raise wrong(f"{quoted(value)} is no address to listen on", *fault)
    return value


def secret(value: Any, at: tuple[int, ...] = ()) -> Any:
    """An empty one counts as absent (`${GATEWAY_SALT:-}`); the fault never shows it."""
    value = getattr(value, "text", value)
    if isinstance(value, str) and 0 < len(value) < 16:
        mend = "python -c 'import secrets; print(secrets.token_hex())' makes one"
        raise wrong(f"a secret of {len(value)} characters", "at least 16 characters", mend, at=at)
    return value or None


def as_list(value: Any) -> Any:
    """One value stands for a list of one."""
    return [value] if isinstance(value, (str, int, float)) else value


Text = Annotated[str, BeforeValidator(_text)]
Name = Annotated[Text, AfterValidator(_name)]
Number = Annotated[float, BeforeValidator(no_bool)]
Share = Annotated[float, BeforeValidator(no_bool), Field(ge=0, le=1)]
Count = Annotated[int, BeforeValidator(no_bool), Field(ge=1, le=2**31 - 1)]
Milliseconds = Annotated[int, BeforeValidator(no_bool), Field(ge=1, le=86_400_000)]
Seconds = Annotated[float, BeforeValidator(no_bool), Field(gt=0, le=86_400)]
Endpoint = Annotated[Text, AfterValidator(_endpoint)]
Listening = Annotated[Text, AfterValidator(_listening)]
