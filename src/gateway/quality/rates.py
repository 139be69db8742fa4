"""All the rates of a window beside precision and recall, and what reviewers' own mistakes do to every one of them.

    rates -> Rates          F-beta, accuracy, false-positive rate, prevalence (and precision and recall for company)
    Disagreement            how often two reviewers of the same prediction contradict each other

Bounds are Shared-Jeffreys Monte Carlo, as in `measure`: for showing. What acts on a rate takes `measure_groups`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gateway.errors import QualityError
from gateway.quality.estimate import Estimate
from gateway.quality.intervals import normal_quantile
from gateway.quality.measure import MINIMUM_LABELS, SideFacts, side_facts
from gateway.quality.monte_carlo import positives
from gateway.quality.strata import Labels, Predictions, Strata, stratify

__all__ = ["Disagreement", "Rates", "rates"]

Floats = NDArray[np.float64]

DRAWS: Final = 2000
BETAS: Final = (0.5, 1.0, 2.0)

MOST_ERROR: Final = 0.45
"""A reviewer who is wrong as often as right tells nothing; from here on bounds would be 0 and 1."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Pairs of answers of different reviewers about the same prediction, and how many of them contradict each other.

    `answers`: that a label is made of, by majority; 1 for most.
    Raises: QualityError for more contradictions than pairs, or no answers.
    """

    pairs: int
    disagreed: int
    answers: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.disagreed <= self.pairs:
            raise QualityError(f"disagreed: found {self.disagreed}, wanted 0 to {self.pairs} pairs")
        if self.answers < 1:
            raise QualityError(f"answers: found {self.answers}, wanted one at least")

    def errors(self, rng: np.random.Generator, draws: int) -> Floats:
        """How often a label is wrong, drawn, shape (draws,): reviewers err alike, either way, and independently.

        Two then disagree with probability 2 e (1 - e); of a majority of m more than half must err.
        """
        apart = rng.beta(self.disagreed + 0.5, self.pairs - self.disagreed + 0.5, draws)
        return self._of_labels((1.0 - np.sqrt(np.maximum(1.0 - 2.0 * apart, 0.0))) / 2.0)

    @property
    def error(self) -> float:
        """How often a label is wrong, as one number."""
        apart = self.disagreed / self.pairs if self.pairs else 0.0
        return float(self._of_labels(np.array([(1.0 - sqrt(max(1.0 - 2.0 * apart, 0.0))) / 2.0]))[0])

    def _of_labels(self, one: Floats) -> Floats:
        most = self.answers if self.answers % 2 else self.answers - 1
        wrong = np.zeros(len(one))
        ways = 1.0
        for errors in range(most + 1):
            if errors > most // 2:
                wrong += ways * one**errors * (1.0 - one) ** (most - errors)
            ways = ways * (most - errors) / (errors + 1)
        return np.minimum(wrong, MOST_ERROR)


@dataclass(frozen=True, slots=True)
class Rates:
    """Each with its interval, or the reason why it has none. `f`: by beta; 2 weighs recall, 0.5 precision."""

    precision: Estimate
    recall: Estimate
    f: Mapping[float, Estimate]
    accuracy: Estimate
    false_positive_rate: Estimate
    prevalence: Estimate

    def as_dict(self) -> dict[str, object]:
        """As `gateway report --json` prints it; precision and recall stand there already."""
        return {
            "f_beta": {f"{beta:g}": one.as_dict() for beta, one in self.f.items()},
            "accuracy": self.accuracy.as_dict(),
            "false_positive_rate": self.false_positive_rate.as_dict(),
            "prevalence": self.prevalence.as_dict(),
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """Of one side: predictions that could be reviewed; positives among them, the estimate and draws of both bounds."""

    predictions: float
    value: float
    low: Floats
    high: Floats

    @classmethod
    def of(cls, side: Strata, rng: np.random.Generator, draws: int) -> _Counts:
        return cls(
            float(side.population.sum()),
            float(side.positives.sum()),
            positives(side, rng, draws, upper=False),
            positives(side, rng, draws, upper=True),
        )

    def corrected(self, error: Floats) -> _Counts:
        """With draws of what is positive where labels are wrong that often (Rogan and Gladen)."""

        def true(found: Floats) -> Floats:
            share = (found / max(self.predictions, 1.0) - error) / (1.0 - 2.0 * error)
            return np.clip(share, 0.0, 1.0) * self.predictions

        return _Counts(self.predictions, self.value, true(self.low), true(self.high))


def rates(
    predictions: Predictions,
    labels: Labels,
    rng: np.random.Generator,
    *,
    betas: Sequence[float] = BETAS,
    level: float = 0.95,
    minimum_labels: int = MINIMUM_LABELS,
    disagreement: Disagreement | None = None,
    draws: int = DRAWS,
) -> Rates:
    """Estimate every rate of a window.

    Args: as `measure`. betas: of the F scores, above 0. disagreement: of the reviewers.
    With it, an interval holds what the rate is if labels are all right and what it is if they are wrong as often as
    reviewers contradict each other; the value is that of the labels as they are, and its note says how often that is.
    Raises: QualityError for a beta that is not above 0.
    Source: Rogan and Gladen 1978, Am. J. Epidemiol. 107:71-76.
    """
    if not all(0 < beta < 1e6 for beta in betas):
        raise QualityError(f"betas: found {tuple(betas)}, wanted numbers above 0, such as 2")
    normal_quantile(level)
    strata = stratify(predictions, labels)
    facts = [side_facts(predictions, labels, side, minimum_labels) for side in (True, False)]
    sides = [_Counts.of(strata.side(side), rng, draws) for side in (True, False)]
    readings, note = [sides], None
    if disagreement is not None and disagreement.disagreed:
        error = disagreement.errors(rng, draws)
        readings.append([side.corrected(error) for side in sides])
        note = (
            f"reviewers contradict each other in {disagreement.disagreed:,} of {disagreement.pairs:,} pairs, so that "
            f"a label is wrong in about {disagreement.error:.1%}; the interval holds that"
        )
    make = _Maker(readings, (1.0 - level) / 2.0, facts, int(strata.positive.sum()), note)
    return Rates(
        precision=make.precision(),
        recall=make.recall(),
        f={beta: make.f(beta) for beta in betas},
        accuracy=make.of_all("accuracy"),
        false_positive_rate=make.of_all("false_positive_rate"),
        prevalence=make.of_all("prevalence"),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Maker:
    """Ratios of one window. `readings`: flagged and unflagged, as labels say it and perhaps as they should."""

    readings: list[list[_Counts]]
    tail: float
    facts: list[SideFacts]
    found: int
    note: str | None

    def precision(self) -> Estimate:
        flagged = self.facts[0]
        if not flagged.predictions:
            return Estimate.unknown("no prediction was flagged, so there is nothing to be right about", 0)
        if flagged.obstacle is not None:
            return Estimate.unknown(flagged.obstacle, flagged.labels, flagged.missing)
        return self._known("precision", flagged.labels)

    def recall(self) -> Estimate:
        return self._forbidden(positive=True) or self._known("recall", self._labels)

    def f(self, beta: float) -> Estimate:
        return self._forbidden(positive=True) or self._known("f", self._labels, beta)

    def of_all(self, name: str) -> Estimate:
        return self._forbidden(positive=False) or self._known(name, self._labels)

    @property
    def _labels(self) -> int:
        return sum(side.labels for side in self.facts)

    def _forbidden(self, *, positive: bool) -> Estimate | None:
        if not any(side.predictions for side in self.facts):
            return Estimate.unknown("there was no prediction that is either flagged or not", 0)
        for side in self.facts:
            if side.predictions and side.obstacle is not None:
                return Estimate.unknown(side.obstacle, self._labels, side.missing)
        if positive and not self.found:
            return Estimate.unknown(f"none of {self._labels:,} labels is positive", self._labels)
        return None

    def _known(self, name: str, labels: int, beta: float = 1.0) -> Estimate:
        ends = []
        value = None
        for flagged, rest in self.readings:
            # Every rate moves one way with each of its two counts.
            few_flagged, few_rest = LOWEST[name]
            low = _ratio(
                name,
                flagged,
                rest,
                flagged.low if few_flagged else flagged.high,
                rest.low if few_rest else rest.high,
                beta,
            )
            high = _ratio(
                name,
                flagged,
                rest,
                flagged.high if few_flagged else flagged.low,
                rest.high if few_rest else rest.low,
                beta,
            )
            if len(low) and len(high):
                ends.append((float(np.quantile(low, self.tail)), float(np.quantile(high, 1.0 - self.tail))))
            if value is None:
                one = _ratio(name, flagged, rest, np.array([flagged.value]), np.array([rest.value]), beta)
                value = float(one[0]) if len(one) else None
        if value is None or not ends:
            return Estimate.unknown(
                "every prediction is of the other kind, so there is nothing to rate", labels
            )
        interval = min(one[0] for one in ends), max(one[1] for one in ends)
        return Estimate.known(value, interval, labels, "shared_jeffreys", note=self.note)


LOWEST: Final[Mapping[str, tuple[bool, bool]]] = {
    "precision": (True, True),
    "recall": (True, False),
    "f": (True, False),
    "accuracy": (True, False),
    "false_positive_rate": (False, True),
    "prevalence": (True, True),
}
"""Whether a rate is lowest with few positives among the flagged, and with few among the others."""


def _ratio(name: str, flagged: _Counts, rest: _Counts, hits: Floats, missed: Floats, beta: float) -> Floats:
    """The rate of each draw that has a denominator."""
    every = flagged.predictions + rest.predictions
    over: Floats
    under: Floats
    if name == "precision":
        over, under = hits, np.full(len(hits), flagged.predictions)
    elif name == "recall":
        over, under = hits, hits + missed
    elif name == "f":
        over, under = (1.0 + beta**2) * hits, flagged.predictions + beta**2 * (hits + missed)
    elif name == "accuracy":
        over, under = hits + rest.predictions - missed, np.full(len(hits), every)
    elif name == "false_positive_rate":
        over, under = flagged.predictions - hits, every - hits - missed
    else:
        over, under = hits + missed, np.full(len(hits), every)
    some = under > 0
    return np.asarray(over[some] / under[some], dtype=np.float64)
