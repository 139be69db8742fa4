"""Where in a call a value stands: `metadata:x-user-id`, `param:quantity`, `caller:id`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from gateway.config.faults import did_you_mean, quoted
from gateway.config.fields import Block, wrong

__all__ = ["From", "Origin"]


class From(Block):
    """Where in a call a value stands."""

    kind: Literal["metadata", "param", "caller"]
    name: str = Field(min_length=1)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def _from(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    kind, colon, name = value.partition(":")
    wanted = "metadata:<key>, param:<name> or caller:id"
    if kind not in ("metadata", "param", "caller") or not name.strip():
        known = ("metadata", "param", "caller")
        mend = f"write metadata:{value}" if not colon and value else did_you_mean(kind, known)
        raise wrong(f"{quoted(value)}", wanted, mend)
    name = name.strip()
    if kind == "caller" and name != "id":
        first = "caller:id, the first name of the caller's certificate"
        raise wrong(f"{quoted(value)}", first, "write caller:id")
    if kind == "metadata" and (name != name.lower() or " " in name or name.endswith("-bin")):
        raise wrong(
            f"{quoted(name)} is no key of text metadata",
            "lower-case letters, digits and - _ .",
            f"write {kind}:{name.lower()}",
        )
    return {"kind": kind, "name": name}


Origin = Annotated[From, BeforeValidator(_from, json_schema_input_type=str)]
