"""When a late attempt gets company: what `hedge` holds, and where it does nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from gateway.config.fields import Block, Milliseconds, Share, wrong

__all__ = ["Hedge", "idle_hedges"]


class Hedge(Block):
    """The next model of the chain is asked as well when the first is late; the first good answer counts."""

    usual: ClassVar[str] = "{after: p95}"

    after_ms: Milliseconds | None = Field(None, description="late is what takes longer than this")
    after: Literal["p90", "p95", "p99"] | None = Field(
        None,
        description="or longer than this share of the backend's own times; p95 if neither is given",
    )
    share: Share = Field(
        0.05, description="of the route's calls, at most, so that a slow model's load is not doubled"
    )

    @model_validator(mode="before")
    @classmethod
    def _usual_after(cls, value: object) -> object:
        if isinstance(value, Mapping) and value.get("after_ms") is None and value.get("after") is None:
            return {**value, "after": "p95"}
        return value

    @model_validator(mode="after")
    def _one(self) -> Hedge:
        if self.after is not None and self.after_ms is not None:
            raise wrong("after and after_ms", "one of them", "take after out, or after_ms", at=("after",))
        return self


def idle_hedges(
    hedge: Hedge, *, models: list[bool], deadline_ms: int | None, timeout_ms: int | None
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Why a hedge never happens: where in it, what was found, the mend.

    Args:
        models: of each backend in the chain, whether it is a model. timeout_ms: of the first.
    """
    if models[:2] != [True, True]:
        found = "nobody to ask as well: the second of the chain is no model"
        yield (
            (),
            found if len(models) > 1 else "nobody to ask as well: the chain has one backend",
            "two models first",
        )
    times = {"the route's deadline_ms": deadline_ms, "the first backend's timeout_ms": timeout_ms}
    for whose, bound in times.items():
        if hedge.after_ms is not None and bound is not None and hedge.after_ms >= bound:
            yield ("after_ms",), f"never late by then: {whose} is {bound}", f"less than {bound}"
    if hedge.share == 0:
        yield ("share",), "a share of 0 hedges nothing", "for example share: 0.05"
