"""Numbers from arrays: precision, recall and F1 from a weighted sample of labels, and how far to trust them.

In: arrays (how many predictions there were, by flag, score and inclusion probability; which of them have a
label). Out: frozen dataclasses of plain numbers; a number that cannot be had is None with the reason in
words. Never: I/O, a clock, randomness other than the generator given, a NaN, or a numpy warning.

    Predictions, Labels      what came, what is known about it          (strata)
    stratify -> Strata       strata that never straddle the decision    (strata)
    measure -> Quality       precision, recall and F1 with intervals    (measure)
    Estimate                 value, low, high, labels, or the reason    (estimate)
    wilson_interval, clopper_pearson_interval                           (intervals)
    shared_jeffreys, cp_monte_carlo -> Bounds   for ratios of weighted counts (monte_carlo)
    share_excess, mean_excess -> Excess         differences above noise (comparison)
    guaranteed, recall_first -> Choice          thresholds that keep a promise  (thresholds)
    Costs, cost_optimal, value_curve, people_curve   what decisions are worth   (value, curve)
    guess, spreads, pool, neyman, allocate      a review budget divided among strata (allocation)

Coverage of the nominal 95 % intervals, 2,000 simulated windows each of 20,000 predictions and 160-200 labels:
precision 95.0-95.5 %, recall 94.3-98.1 %, F1 94.1-97.4 % over the five populations of
`tests/quality/populations.py`; recall falls to 92.2 % where probabilities differ threefold within a window. The delta
method and the bootstrap are not here on purpose: with no false negative in the sample both say that recall is 1,
width 0.

Needs numpy; scipy is imported by the one function that calls it, as the
serving process has no room for it.
"""

from gateway.quality.allocation import Objective, allocate, guess, neyman, pool, spreads
from gateway.quality.comparison import Differences, Excess, mean_excess, share_excess
from gateway.quality.curve import Curve, Part, people_curve, value_curve
from gateway.quality.cuts import GRID, Cuts
from gateway.quality.estimate import Estimate, share
from gateway.quality.intervals import clopper_pearson_interval, normal_quantile, wilson_interval
from gateway.quality.measure import MINIMUM_LABELS, Quality, labels_to_show_recall, measure
from gateway.quality.monte_carlo import Bounds, cp_monte_carlo, shared_jeffreys
from gateway.quality.strata import Labels, Predictions, Strata, stratify
from gateway.quality.thresholds import Choice, guaranteed, recall_first
from gateway.quality.value import Amount, Costs, Move, calibrated_threshold, cost_optimal

__all__ = [
    "GRID",
    "MINIMUM_LABELS",
    "Amount",
    "Bounds",
    "Choice",
    "Costs",
    "Curve",
    "Cuts",
    "Differences",
    "Estimate",
    "Excess",
    "Labels",
    "Move",
    "Objective",
    "Part",
    "Predictions",
    "Quality",
    "Strata",
    "allocate",
    "calibrated_threshold",
    "clopper_pearson_interval",
    "cost_optimal",
    "cp_monte_carlo",
    "guaranteed",
    "guess",
    "labels_to_show_recall",
    "mean_excess",
    "measure",
    "neyman",
    "normal_quantile",
    "people_curve",
    "pool",
    "recall_first",
    "share",
    "share_excess",
    "shared_jeffreys",
    "spreads",
    "stratify",
    "value_curve",
    "wilson_interval",
]
