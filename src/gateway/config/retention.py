"""How long the ledger keeps what."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from gateway.config.fields import Block, Number, no_bool

__all__ = ["Retention"]

Hours = Annotated[Number, Field(ge=1, le=876_000)]


class Retention(Block):
    """How long the ledger keeps what, by the time of the prediction; null keeps it for ever."""

    usual: ClassVar[str] = "{captures_h: 720, decisions_h: 2160, max_bytes: 10737418240}"

    captures_h: Hours | None = Field(720.0, description="payloads; those of open review tasks stay")
    decisions_h: Hours | None = Field(
        2160.0, description="sampled decisions and closed review tasks; labels outlive them"
    )
    labels_h: Hours | None = Field(17_520.0, description="labels, and the tally of them")
    tallies_h: Hours | None = Field(
        17_520.0, description="sums of calls and scores; not shorter than labels, which are weighed by them"
    )
    policies_h: Hours | None = Field(17_520.0, description="policy versions; those in force since then stay")
    audit_h: Hours | None = Field(17_520.0, description="entries of the audit trail")
    max_bytes: Annotated[int, BeforeValidator(no_bool), Field(ge=1_048_576, le=2**63 - 1)] | None = Field(
        10_737_418_240, description="of the ledger; beyond, the oldest captures go, then the oldest decisions"
    )
