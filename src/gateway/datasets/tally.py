"""The counts of a card, kept up while rows go by: what they say of a file is what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from gateway.datasets.table import SEGMENT, arrow
from gateway.ledger.report import falling

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BY", "DELAYS", "MOST_PAIRS", "MOST_VALUES", "OTHER", "Agreement", "SplitTally"]

BY: Final = (
    "label", "positive", "source", "kind", "route", "outcome", "backend", "policy", "segment", "stratum", "arm",
)  # fmt: skip
"""Columns whose values are counted; "" stands for null."""

MOST_VALUES: Final = 1_000
"""Distinct values of a column that are counted by name; further ones as `OTHER`."""

OTHER: Final = "(other)"

MOST_PAIRS: Final = 100
"""Pairs of sources whose agreement is counted."""

_MOST_SOURCES: Final = 16  # of one prediction that are compared

DELAYS: Final = (
    ("1 h", timedelta(hours=1)),
    ("1 d", timedelta(days=1)),
    ("7 d", timedelta(days=7)),
    ("30 d", timedelta(days=30)),
)
"""From the prediction to its label, less than; then comes `longer`."""


@dataclass(slots=True)
class SplitTally:
    """What one file holds."""

    rows: int = 0
    predictions: int = 0
    calls: int = 0
    by: dict[str, Counter[str]] = field(default_factory=dict)
    segments: dict[str, Counter[str]] = field(default_factory=dict)
    inputs: Counter[str] = field(default_factory=Counter)
    times: dict[str, list[datetime]] = field(default_factory=dict)
    weighted: int = 0
    weight: float = 0.0
    weight_squared: float = 0.0
    weight_positive: float = 0.0
    weight_known: float = 0.0
    explored: int = 0
    least_propensity: float = 1.0
    corrected: int = 0
    shared: int = 0
    shared_agreement: float = 0.0
    never_sampled: int = 0
    unknown_unit: int = 0
    delays: Counter[str] = field(default_factory=Counter)
    _last: tuple[str, int] = ("", -1)

    def add(self, table: pa.Table) -> None:
        """Count a table's rows, which come by decision and row."""
        if not table.num_rows:
            return
        import pyarrow.compute as pc

        self.rows += table.num_rows
        self._distinct(table)
        for name in BY:
            self._count(self.by.setdefault(name, Counter()), table.column(name))
        for name in table.column_names:
            if name.startswith(SEGMENT):
                self._count(self.segments.setdefault(name[len(SEGMENT) :], Counter()), table.column(name))
            elif name.startswith("input.") or name == "request":
                self.inputs[name] += table.num_rows - table.column(name).null_count
        for name in ("time", "label_time"):
            found = pc.min_max(table.column(name)).as_py()
            both = [found["min"], found["max"], *self.times.get(name, ())]
            self.times[name] = [min(both), max(both)]
        weight = table.column("weight")
        self.weighted += table.num_rows - weight.null_count
        self.weight += pc.sum(weight).as_py() or 0.0
        self.weight_squared += pc.sum(pc.multiply(weight, weight)).as_py() or 0.0
        positive = table.column("positive").cast("double")
        self.weight_positive += pc.sum(pc.multiply(weight, positive)).as_py() or 0.0
        self.weight_known += pc.sum(weight.filter(positive.is_valid())).as_py() or 0.0
        propensity = table.column("propensity")
        self.explored += pc.sum(pc.less(propensity, 1.0)).as_py() or 0
        self.least_propensity = min(self.least_propensity, pc.min(propensity).as_py())
        self.corrected += pc.sum(pc.greater(table.column("revision"), 1)).as_py() or 0
        several = pc.greater(table.column("reviews"), 1)
        self.shared += pc.sum(several).as_py() or 0
        self.shared_agreement += pc.sum(table.column("agreement").filter(several)).as_py() or 0.0
        self.never_sampled += pc.sum(pc.equal(table.column("inclusion_probability"), 0.0)).as_py() or 0
        self.unknown_unit += table.column("unit").null_count
        self._delays(pc.subtract(table.column("label_time"), table.column("time")))

    @property
    def effective(self) -> float | None:
        """How many equally weighted labels the weighted ones are worth. Source: Kish 1965, Survey Sampling, 11.7."""
        return self.weight**2 / self.weight_squared if self.weighted else None

    def as_dict(self) -> dict[str, Any]:
        """As it stands in card.json."""
        effective = self.effective
        known = self.weight_known
        return {
            "rows": self.rows,
            "predictions": self.predictions,
            "calls": self.calls,
            "by": {name: falling(self.by.get(name, Counter())) for name in BY},
            "segments": {key: falling(counts) for key, counts in sorted(self.segments.items())},
            "time": [_iso(one) for one in self.times.get("time", [])],
            "label_time": [_iso(one) for one in self.times.get("label_time", [])],
            "label_delay": {name: self.delays[name] for name in (*(name for name, _ in DELAYS), "longer")},
            "weights": {
                "rows": self.weighted,
                "sum": self.weight,
                "effective_sample_size": effective,
                "design_effect": self.weighted / effective if effective else None,
                "positive_share": self.weight_positive / known if known else None,
            },
            "several_reviews": {
                "rows": self.shared,
                "mean_agreement": self.shared_agreement / self.shared if self.shared else None,
            },
            "inputs": dict(sorted(self.inputs.items())),
            "explored": self.explored,
            "least_propensity": self.least_propensity,
            "corrected": self.corrected,
            "never_sampled": self.never_sampled,
            "unknown_unit": self.unknown_unit,
        }

    def _distinct(self, table: pa.Table) -> None:
        import pyarrow.compute as pc

        decisions, rows = (table.column(name).combine_chunks() for name in ("decision", "row"))
        another = pc.not_equal(decisions[1:], decisions[:-1])
        call = pc.sum(another).as_py() or 0
        prediction = pc.sum(pc.or_(another, pc.not_equal(rows[1:], rows[:-1]))).as_py() or 0
        first, last = ((decisions[at].as_py(), rows[at].as_py()) for at in (0, len(rows) - 1))
        self.calls += call + (first[0] != self._last[0])
        self.predictions += prediction + (first != self._last)
        self._last = last

    def _count(self, counts: Counter[str], column: Any) -> None:
        for one in column.value_counts().to_pylist():
            key = _text(one["values"])
            counts[key if key in counts or len(counts) < MOST_VALUES else OTHER] += one["counts"]

    def _delays(self, delay: Any) -> None:
        import pyarrow.compute as pc

        pa = arrow()
        before, total = 0, len(delay)
        for name, longest in DELAYS:
            below = pc.sum(pc.less(delay, pa.scalar(longest, pa.duration("us")))).as_py() or 0
            self.delays[name] += below - before
            before = below
        self.delays["longer"] += total - before


@dataclass(slots=True)
class Agreement:
    """Where two sources said something about the same prediction: how often, and how often the same."""

    pairs: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    _of: tuple[bytes, int] | None = None
    _said: list[tuple[str, str | None, bool | None]] = field(default_factory=list)

    def add(
        self,
        decisions: Sequence[bytes],
        rows: Sequence[int],
        sources: Sequence[str],
        labels: Sequence[str | None],
        positives: Sequence[bool | None],
    ) -> None:
        """Labels, in the order of decisions and rows."""
        for decision, row, source, label, positive in zip(
            decisions, rows, sources, labels, positives, strict=True
        ):
            if self._of != (decision, row):
                self._of, self._said = (decision, row), [(source, label, positive)]
                continue
            for other, its_label, its_positive in self._said:
                if None not in (label, its_label):
                    same = label == its_label
                elif None not in (positive, its_positive):
                    same = positive == its_positive
                else:
                    continue
                pair = (min(source, other), max(source, other))
                if pair in self.pairs or len(self.pairs) < MOST_PAIRS:
                    counts = self.pairs.setdefault(pair, [0, 0])
                    counts[0] += 1
                    counts[1] += same
            if len(self._said) < _MOST_SOURCES:
                self._said.append((source, label, positive))

    def as_list(self) -> list[dict[str, Any]]:
        """As it stands in card.json."""
        return [
            {"sources": list(pair), "predictions": both, "agree": agree}
            for pair, (both, agree) in sorted(self.pairs.items())
        ]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
