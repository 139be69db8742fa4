"""What is watched for drift, and how patiently."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from gateway.config.fields import Block, Number, as_list, wrong

__all__ = ["FIELDS", "Drift", "DriftField"]

DriftField = Literal["score", "confidence", "fallback", "segments", "feedback"]

FIELDS: Final[tuple[DriftField, ...]] = ("score", "confidence", "fallback", "segments", "feedback")


def _two_days(value: float) -> float:
    if not 48 <= value <= 24 * 90:
        raise wrong(f"found {value:g} h", "between 48 (two days) and 2160 (ninety)", "a week is 168")
    return value


def _patience(value: float) -> float:
    if not 30 <= value <= 1e6:
        raise wrong(f"found {value:g} days", "between 30 and 1000000", "ten years are 3650")
    return value


class Drift(Block):
    """What a route's traffic is compared with, day by day."""

    usual: ClassVar[str] = "{reference_h: 168, fields: [score, fallback, segments], arl_days: 3650}"

    reference_h: Annotated[Number, AfterValidator(_two_days)] = Field(
        168.0, description="how much traffic of a model is taken as usual, from its first whole day on"
    )
    fields: Annotated[
        tuple[DriftField, ...], BeforeValidator(as_list, json_schema_input_type=str | tuple[DriftField, ...])
    ] = Field(
        FIELDS, max_length=5, description="score, confidence, fallback, segments, feedback; [] for nothing"
    )
    arl_days: Annotated[Number, AfterValidator(_patience)] = Field(
        3650.0, description="days to a false alarm of the route, on average at least"
    )
