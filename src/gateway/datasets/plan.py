"""What is asked for: which labelled decisions, and how they are split."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from gateway.errors import DataSetError
from gateway.ledger import Window

__all__ = ["ALL", "KINDS", "NAMES", "Plan", "Split", "parse_split", "parse_time"]

ALL: Final = "all"
"""The only split of a data set that is not split."""

NAMES: Final = {1: ("train", "test"), 2: ("train", "validation", "test")}
"""Names of the splits, by the number of cuts."""

KINDS: Final = ("label", "outcome", "signal")
"""What may be said about a prediction: the truth; a number to compare units by; what somebody did."""


@dataclass(frozen=True, slots=True)
class Split:
    """How rows are parted.

    `by`: `time`, earliest first; `unit`, by a hash of the unit. `cuts`: rising shares of the rows (time) or of the
    units, 0-1, each where a split ends; or, by time, one moment: `at_us`, microseconds since 1970. `gap_us`: by
    time, what follows each cut for so long is left out.
    """

    by: Literal["time", "unit"]
    cuts: tuple[float, ...] = ()
    at_us: int | None = None
    gap_us: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The splits, in the order of the cuts."""
        return NAMES[1 if self.at_us is not None else len(self.cuts)]

    @property
    def text(self) -> str:
        """As it is written on a command line."""
        if self.at_us is not None:
            return f"{self.by}:{datetime.fromtimestamp(self.at_us / 1e6, UTC).isoformat().replace('+00:00', 'Z')}"
        parts = [b - a for a, b in zip((0.0, *self.cuts), self.cuts, strict=False)]
        return f"{self.by}:{','.join(f'{part:.12g}' for part in parts)}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a data set is made of.

    `window`: by the predictions' time, at whole hours. `kinds`: of `KINDS`. `unknown_units`: what becomes of rows whose
    unit nobody knows where there is a split: `drop`, or `call` (each call counts as a unit of its own). `inputs`:
    whether captured requests are written.
    """

    window: Window = field(default_factory=Window)
    split: Split | None = None
    kinds: tuple[str, ...] = ("label",)
    unknown_units: Literal["drop", "call"] = "drop"
    inputs: bool = True

    @property
    def splits(self) -> tuple[str, ...]:
        return (ALL,) if self.split is None else self.split.names


def parse_split(text: str, gap_us: int = 0) -> Split:
    """`time:0.8`, `unit:0.7,0.15` (the rest is the last split), `time:2026-11-01T12:00Z`.

    Raises: DataSetError.
    """
    by, _, rest = text.partition(":")
    if by not in ("time", "unit") or not rest:
        raise DataSetError(
            f"split {text!r}, wanted time:SHARE or unit:SHARE, such as unit:0.8, or unit:0.7,0.15 for a validation "
            "set"
        )
    if gap_us and by == "unit":
        raise DataSetError(
            f"a gap belongs to a split by time, found {text!r}; leave the gap out, or write time:0.8"
        )
    shares: list[float] = []
    for part in rest.split(","):
        try:
            shares.append(float(part))
        except ValueError:
            if by == "time" and not shares and "," not in rest:
                return Split("time", at_us=parse_time(rest), gap_us=gap_us)
            raise DataSetError(f"split {text!r}: {part!r} is no share, wanted numbers such as 0.8") from None
    if len(shares) not in NAMES or not all(math.isfinite(share) and share > 0 for share in shares):
        raise DataSetError(
            f"split {text!r}, wanted one or two shares above 0, such as {by}:0.8 or {by}:0.7,0.15"
        )
    if not sum(shares) < 1 - 1e-9:
        raise DataSetError(
            f"split {text!r}: the shares add up to {sum(shares):g}, wanted less than 1: the rest is test"
        )
    cuts = tuple(math.fsum(shares[: count + 1]) for count in range(len(shares)))
    return Split("time" if by == "time" else "unit", cuts, gap_us=gap_us)


def parse_time(text: str) -> int:
    """A date, or a date and time (UTC where it names no zone), as microseconds since 1970.

    Raises: DataSetError.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise DataSetError(
            f"{text!r} is no time, wanted a date such as 2026-11-01 or 2026-11-01T12:00Z"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
