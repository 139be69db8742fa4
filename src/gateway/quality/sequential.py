"""Watching a metric label by label: an alarm may come at any label, and false ones are rare by proof.

Looking at an interval again and again raises false alarms in a third of runs, and a test that runs from the start is
blind to a fall after a good history. A Shiryaev-Roberts e-detector is neither: without a fault its expected run is at
least `arl` labels, and after one it forgets how good things were before.

Every metric is a linear moment, so that no ratio has to be estimated: precision is at least p if and only if
E[w f (p - y)] <= 0, with w = 1/pi the weight, f flagged, y the truth. One label is a bet against that, 1 + lambda z
with z = w c(f, y) and 0 <= lambda < 1/|least z|; its expectation is at most 1 while the metric holds. Labels with
c = 0 (of unflagged predictions, for precision) say nothing and are passed over, so `arl` counts labels that do.

In 1,000 simulated runs of 2,000 labels, bound .80, looked at after every label: a fall from .88 to .70 at label 1,000
was found in all, after 146 labels in the median (324 in 95 of 100), with no alarm before it; alarms without a fall in
28 % of runs at .80 itself (.31 a run; the bound is .50) and in 0.6 % at .85.

Source: Shin, Ramdas and Rinaldo 2024, E-detectors (arXiv 2203.03532); the bets: Waudby-Smith and Ramdas 2024, JRSSB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.errors import QualityError

__all__ = ["ARL", "FRACTIONS", "METRICS", "Detector", "Metric", "Target", "coefficients", "says", "watch"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Metric = Literal["precision", "recall", "f1", "f2", "f0.5", "accuracy", "false_positive_rate"]

METRICS: Final[tuple[Metric, ...]] = (
    "precision",
    "recall",
    "f1",
    "f2",
    "f0.5",
    "accuracy",
    "false_positive_rate",
)

BETAS: Final[Mapping[str, float]] = {"f1": 1.0, "f2": 2.0, "f0.5": 0.5}
"""Of each F score: how many times as much recall weighs as precision."""

ARL: Final = 4000.0
"""Labels to the first false alarm, expected at least, of a metric that lies exactly on its bound; one that lies above
it runs much longer."""

FRACTIONS: Final = (0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625)
"""Of the largest bet allowed. The best is E z / E z^2, which is not known before the fall: their average costs little
more than it (a factor of 6 in the average, so some 10 labels)."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a metric should be: at least `bound`, or at most where not `at_least`; 0 < bound < 1.

    Raises: QualityError for a bound of 0 or 1, which one label refutes, or an unknown metric.
    """

    metric: Metric
    bound: float
    at_least: bool = True

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise QualityError(f"metric: found {self.metric!r}, wanted one of {', '.join(METRICS)}")
        if not 0.0 < self.bound < 1.0:
            raise QualityError(f"bound: found {self.bound}, wanted a number between 0 and 1")


@dataclass(frozen=True, slots=True)
class Detector:
    """All that is remembered of one watched metric; JSON-able, so that a restart forgets nothing.

    `evidence`: one sum per bet, back at 0 after an alarm. `labels`: that said something, since the beginning.
    `alarms`: since then. `clipped`: labels that weighed more than was said to be possible, counted at the most.
    """

    evidence: tuple[float, ...] = (0.0,) * len(FRACTIONS)
    labels: int = 0
    alarms: int = 0
    clipped: int = 0

    @property
    def level(self) -> float:
        """Evidence against the metric as it is compared with `ARL`."""
        return sum(self.evidence) / len(self.evidence)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "evidence": list(self.evidence)}

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Detector | None:
        """From what `as_dict` gave; None where it is of another form, as another version may have kept it."""
        try:
            evidence = tuple(float(one) for one in kept["evidence"])
            counts = [int(kept[name]) for name in ("labels", "alarms", "clipped")]
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        good = len(evidence) == len(FRACTIONS) and all(isfinite(one) and one >= 0 for one in evidence)
        return cls(evidence, *counts) if good and min(counts) >= 0 else None


def coefficients(target: Target) -> Floats:
    """c(f, y), shape (2, 2), by flagged and positive: w c is above 0 on average if and only if the target is missed."""
    bound = target.bound
    match target.metric:
        case "precision":
            table = [[0.0, 0.0], [bound, bound - 1.0]]
        case "recall":
            table = [[0.0, bound], [0.0, bound - 1.0]]
        case "accuracy":
            table = [[bound - 1.0, bound], [bound, bound - 1.0]]
        case "false_positive_rate":  # at least `bound`: E[w (1 - y) (bound - f)] <= 0
            table = [[bound, 0.0], [bound - 1.0, 0.0]]
        case _:
            square = BETAS[target.metric] ** 2
            # F = (1 + b^2) TP / (b^2 (TP + FN) + (TP + FP)).
            table = [[0.0, bound * square], [bound, (bound - 1.0) * (1.0 + square)]]
    return np.array(table) * (1.0 if target.at_least else -1.0)


def says(targets: Sequence[Target], gate: ArrayLike, flagged: ArrayLike, positive: ArrayLike) -> Bools:
    """Which labels say something about their target; shape (n,). `gate`: index into targets, shape (n,)."""
    tables = np.array([coefficients(one) for one in targets]).reshape(-1, 2, 2)
    return np.asarray(tables[_ints(gate), _ints(flagged), _ints(positive)] != 0.0)


def watch(
    detectors: Sequence[Detector],
    targets: Sequence[Target],
    gate: ArrayLike,
    flagged: ArrayLike,
    positive: ArrayLike,
    weight: ArrayLike,
    most_weight: ArrayLike,
    arl: float = ARL,
) -> tuple[list[Detector], Ints]:
    """Show new labels to the detectors, all of them at once.

    Args:
        detectors, targets: g of each. gate: shape (n,), whose label it is. flagged, positive: shape (n,). weight: shape
        (n,), 1/pi, above 0. Labels of one gate stand in the order of their predictions' time.
        most_weight: shape (g,), what no label of the gate that says something can exceed: one over the least
        probability of review in force. It must not depend on the labels. arl: labels to a false alarm, at least.
    Returns: the detectors afterwards, and the index of the label at which each raised its last alarm, shape (g,); -1
        where it raised none. After an alarm a detector begins anew.
    Raises: QualityError for unequal lengths, or weights that are not finite and above 0.
    Cost: one step for each label of the gate that has most; 32 bytes a label.
    """
    owner, weights = _ints(gate), np.asarray(weight, dtype=np.float64)
    most = np.asarray(most_weight, dtype=np.float64)
    tables = np.array([coefficients(one) for one in targets]).reshape(-1, 2, 2)
    flags, truth = _ints(flagged), _ints(positive)
    _check(len(detectors), owner, flags, truth, weights, most, len(targets), arl)
    value = tables[owner, flags, truth]
    kept = np.flatnonzero(value)
    owner, value, weights = owner[kept], value[kept], weights[kept]
    z = value * np.minimum(weights, most[owner])
    clipped = np.bincount(owner, weights=weights > most[owner] * (1 + 1e-9), minlength=len(detectors))
    counts = np.bincount(owner, minlength=len(detectors))
    # The gates with most labels first: those that have a k-th label are then a prefix.
    gates = np.argsort(-counts, kind="stable")
    place = np.argsort(owner, kind="stable")
    starts = (np.cumsum(counts) - counts)[gates]
    left = counts[gates]
    least = -tables.min(axis=(1, 2))
    bets = (np.array(FRACTIONS) / (least * most)[:, None])[gates]
    sums = np.array([one.evidence for one in detectors]).reshape(-1, len(FRACTIONS))[gates]
    last = np.full(len(detectors), -1, dtype=np.int64)
    alarms = np.zeros(len(detectors), dtype=np.int64)
    for step in range(int(left[0]) if len(left) else 0):
        some = int(np.searchsorted(-left, -step, side="left"))
        label = place[starts[:some] + step]
        now = (sums[:some] + 1.0) * (1.0 + bets[:some] * z[label][:, None])
        loud = now.sum(axis=1) >= arl * len(FRACTIONS)
        if loud.any():
            now[loud] = 0.0
            last[gates[:some][loud]] = kept[label[loud]]
            alarms[gates[:some][loud]] += 1
        sums[:some] = now
    after = np.empty_like(sums)
    after[gates] = sums
    return [
        Detector(tuple(evidence), one.labels + int(n), one.alarms + int(new), one.clipped + int(cut))
        for one, evidence, n, new, cut in zip(detectors, after.tolist(), counts, alarms, clipped, strict=True)
    ], last


def _check(
    gates: int, owner: Ints, flags: Ints, truth: Ints, weights: Floats, most: Floats, targets: int, arl: float
) -> None:
    for name, column in (("flagged", flags), ("positive", truth), ("weight", weights)):
        if owner.ndim != 1 or column.shape != owner.shape:
            raise QualityError(f"{name}: found shape {column.shape}, wanted {owner.shape} like gate")
    if targets != gates or most.shape != (gates,):
        raise QualityError(f"found {targets} targets and {most.shape} weights for {gates} detectors")
    if len(owner) and not (owner.min() >= 0 and owner.max() < gates):
        raise QualityError(f"gate: found one outside 0 to {gates - 1}")
    for name, column in (("weight", weights), ("most_weight", most)):
        if not bool(np.all(np.isfinite(column) & (column > 0))):
            raise QualityError(f"{name}: found one that is not finite or not above 0, wanted 1/pi")
    if not arl > 1:
        raise QualityError(f"arl: found {arl}, wanted a number of labels above 1")


def _ints(values: ArrayLike) -> Ints:
    return np.asarray(values, dtype=np.int64)
