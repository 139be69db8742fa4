"""What a route chooses by chance: who is held out, what is copied, what people look at; arms: see `exploring`.

Every choice is a salted hash: sticky, nested (5 % are inside 10 %), with its probability recorded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from gateway.config.faults import quoted
from gateway.config.fields import Block, Count, Milliseconds, Name, Number, Share, Text, as_list, wrong
from gateway.config.people import redacted

__all__ = [
    "CREDENTIALS",
    "MODEL_INFER",
    "Holdout",
    "Mirror",
    "Noise",
    "Review",
    "Shares",
    "SharesOrOne",
]

MODEL_INFER: Final = "/inference.GRPCInferenceService/ModelInfer"

CREDENTIALS: Final = (
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "x-amz-security-token",
    "x-auth-token",
    "x-csrf-token",
)
"""Metadata by which callers prove who they are; a copy that carried it could act in their name."""

_METHOD = re.compile(r"/[^/\s]+/(\*|[^/*\s]+)\Z")


class Holdout(Block):
    """Units that never meet the model: the control group."""

    usual: ClassVar[str] = "{share: 0.02, answer: ham}"

    share: Share = Field(description="of units")
    answer: Annotated[
        tuple[Text, ...], BeforeValidator(as_list, json_schema_input_type=str | tuple[str, ...])
    ] = Field(
        min_length=1,
        max_length=16,
        description="who answers them, one backend or some in order; then what of the chain is no model",
    )


def _noise(value: Any) -> Any:
    return {"to": value} if isinstance(value, str) else value


class Noise(Block):
    """A second backend just like the one that answers: what the two say differently is noise."""

    usual: ClassVar[str] = "spam-v3-twin, or {to: spam-v3-twin, share: 0.2}"

    to: Text = Field(description="backend that serves the very model that is first in the chain")
    share: Share = Field(0.2, description="of the copies that go to it as well")


class Mirror(Block):
    """A backend that gets a copy; its answer is compared and thrown away."""

    usual: ClassVar[str] = "{to: spam-v4, share: 0.1}"

    to: Text = Field(description="backend that gets the copy")
    share: Share = Field(1.0, description="of units")
    methods: Annotated[
        tuple[Text, ...], BeforeValidator(as_list, json_schema_input_type=str | tuple[str, ...])
    ] = Field((MODEL_INFER,), min_length=1, description="only calls of these, which may be done twice")
    noise: Annotated[Noise, BeforeValidator(_noise, json_schema_input_type=str | Noise)] | None = Field(
        None, description="a twin of the first of the chain: differences count only above its own"
    )
    redact: tuple[Text, ...] = Field(
        (),
        description="what the copy goes without: inputs.<name>, params.<name>, of a described service request.<path>",
    )
    strip: tuple[Text, ...] = Field(CREDENTIALS, description="metadata that the copy goes without")
    max_in_flight: Count = Field(64, description="copies under way; what is more is dropped and counted")
    max_bytes: Count = Field(
        4_194_304, description="of copies and their answers held at once; what would pass it is dropped whole"
    )
    timeout_ms: Milliseconds = Field(1000, description="after it the copy is given up")

    @model_validator(mode="after")
    def _names(self) -> Mirror:
        for index, method in enumerate(self.methods):
            if not _METHOD.match(method):
                raise wrong(
                    f"{quoted(method)} is no method",
                    "/package.Service/Method, or /package.Service/*",
                    at=("methods", index),
                )
        for index, name in enumerate(self.redact):
            block, _, rest = name.partition(".")
            if block not in ("inputs", "params", "request") or not rest:
                mend = f"write inputs.{name}" if name and "." not in name else ""
                wanted = "inputs.<name> or params.<name>, or of a described service request.<path>"
                raise wrong(quoted(name), wanted, mend, at=("redact", index))
        for index, name in enumerate(self.strip):
            if (
                name != name.lower()
                or not name
                or name.startswith(("grpc-", ":"))
                or name in ("te", "content-type")
            ):
                raise wrong(
                    f"{quoted(name)} cannot be taken out",
                    "metadata in lower-case letters",
                    at=("strip", index),
                )
        return self


class Shares(Block):
    """Probability of review by what came out."""

    usual: ClassVar[str] = "0.05, or {flagged: 0.3, near: 0.2, low: 0.01, fallback: 0.1, disagreement: 0.5}"

    flagged: Share = Field(description="of predictions that are flagged")
    low: Share | None = Field(None, description="of those that are not, but for those near the threshold")
    unflagged: Share | None = Field(None, description="another name for low")
    near: Share | None = Field(
        None, description="of those not flagged by less than near_margin; as low if absent"
    )
    fallback: Share | None = Field(
        None, description="of what the first choice did not answer; by side of the threshold if absent"
    )
    disagreement: Share | None = Field(
        None, description="of what a mirror contradicts, where that is more; nothing if absent"
    )

    @model_validator(mode="after")
    def _one(self) -> Shares:
        if (self.low is None) == (self.unflagged is None):
            found = "neither low nor unflagged" if self.low is None else "low and unflagged"
            raise wrong(found, "one of them", "low: 0.01 is of those that are not flagged")
        return self

    @property
    def rest(self) -> float:
        """Of what is neither flagged nor in a stratum of its own."""
        return self.low if self.low is not None else self.unflagged or 0.0


def _shares(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"flagged": value, "low": value}
    return value


SharesOrOne = Annotated[Shares, BeforeValidator(_shares, json_schema_input_type=Share | Shares)]


class Review(Block):
    """A random sample that people look at, with its probability kept."""

    usual: ClassVar[str] = "{per_hour: 60, capture: [inputs]}"

    queue: Name = Field("default", description="queue the tasks go to")
    priority: Annotated[Count, Field(le=9)] = Field(
        5, description="of its tasks among those of the queue: 1 goes first, 9 last"
    )
    deadline_h: Annotated[Number, Field(gt=0, le=8760)] | None = Field(
        None,
        description="within which a task should be answered: the sooner one first; past it, it is overdue, not gone",
    )
    per_hour: Annotated[Number, Field(gt=0)] | None = Field(
        None,
        description="tasks people can do; shares follow the traffic (60 if neither this nor share is given)",
    )
    share: SharesOrOne | None = Field(
        None,
        description="probability of review: one number, or "
        "{flagged: .., near: .., low: .., fallback: .., disagreement: ..}",
    )
    near_margin: Annotated[Number, Field(gt=0, le=1)] = Field(
        0.1, description="how far below the threshold a score is near it"
    )
    segments: Mapping[str, Annotated[Number, Field(ge=0, le=1000)]] = Field(
        default_factory=dict, description='factor on the shares by segment, "device=phone"; up to certainty'
    )
    capture: tuple[Literal["inputs", "request"], ...] = Field(
        (),
        description="what is kept of the sampled calls: inputs, or of a described service request; nothing if absent",
    )
    redact: tuple[Text, ...] = Field(
        (), description="what is taken out of it first: inputs.<name>, or request.<path>"
    )

    @model_validator(mode="after")
    def _redact(self) -> Review:
        redacted(self.redact, ("inputs.", "request."))
        if self.redact and not self.capture:
            raise wrong(
                "redact without capture",
                "capture: [inputs] beside it",
                "nothing is captured, so nothing has to be redacted",
            )
        return self

    @property
    def wanted_per_hour(self) -> float | None:
        """Tasks per hour to aim at; None where the shares are given."""
        if self.share is not None and self.per_hour is None:
            return None
        return 60.0 if self.per_hour is None else self.per_hour
