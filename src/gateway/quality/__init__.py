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
    calibration, recalibrate                    scores as probabilities         (calibration, recalibration)
    rates -> Rates, Disagreement                F-beta, accuracy, false positives, prevalence (rates)
    Costs, cost_optimal, value_curve, people_curve   what decisions are worth   (value, curve)
    make_reference, compare -> Shift            traffic that is no longer what it was (drift)
    Evidence, e_value                           of a change, added up day by day (evidence)
    make_flow, fall_e_values                    feedback that stops (starvation)
    lift, sample_ratio, design_effect           the holdout, and what the model is worth (lift)
    delay_distribution, corrected_share         labels that come late     (delay)
    guess, spreads, pool, neyman, allocate      a review budget divided among strata (allocation)
    measure_groups           one rate of each of many groups, with bounds to act on (groups)
    Rewards, RewardSums, off_policy -> OffPolicy   arms that shared traffic by chance: SNIPS, AIPW (rewards, off_policy)
    posteriors, best_probabilities, bounded, stop   which share each arm gets, and when to stop (bandits)
    Target, Detector, watch  a metric watched label by label, by e-detector  (sequential)

Coverage of the nominal 95 % intervals, 2,000 simulated windows each of 20,000 predictions and 160-200 labels:
precision 95.0-95.5 %, recall 94.3-98.1 %, F1 94.1-97.4 % over the five populations of
`tests/quality/populations.py`; recall falls to 92.2 % where probabilities differ threefold within a window. The delta
method and the bootstrap are not here on purpose: with no false negative in the sample both say that recall is 1,
width 0.

Needs numpy; scipy is imported by the one function that calls it, as the
serving process has no room for it.
"""

from gateway.quality.allocation import Objective, allocate, guess, neyman, pool, spreads
from gateway.quality.bandits import (
    Posteriors,
    Stop,
    best_probabilities,
    bounded,
    epsilon_greedy,
    posteriors,
    stop,
)
from gateway.quality.calibration import Bin, Calibration, calibration
from gateway.quality.comparison import Differences, Excess, mean_excess, share_excess
from gateway.quality.curve import Curve, Part, people_curve, value_curve
from gateway.quality.cuts import GRID, Cuts
from gateway.quality.delay import DelayDistribution, corrected_share, delay_distribution
from gateway.quality.drift import Reference, Shift, compare, make_reference
from gateway.quality.estimate import Estimate, share
from gateway.quality.evidence import Evidence, e_value
from gateway.quality.groups import measure_groups
from gateway.quality.intervals import clopper_pearson_interval, normal_quantile, wilson_interval
from gateway.quality.lift import Lift, Outcomes, SampleRatio, design_effect, sample_ratio
from gateway.quality.measure import MINIMUM_LABELS, Quality, labels_to_show_recall, measure
from gateway.quality.monte_carlo import Bounds, cp_monte_carlo, shared_jeffreys
from gateway.quality.off_policy import Moments, OffPolicy, moments, off_policy
from gateway.quality.rates import Disagreement, Rates, rates
from gateway.quality.recalibration import Recalibration, recalibrate
from gateway.quality.rewards import Rewards, RewardSums
from gateway.quality.sequential import Detector, Metric, Target, watch
from gateway.quality.starvation import FALLS, Flow, fall_e_values, make_flow
from gateway.quality.strata import Labels, Predictions, Strata, stratify
from gateway.quality.thresholds import Choice, guaranteed, recall_first
from gateway.quality.value import Amount, Costs, Move, calibrated_threshold, cost_optimal

__all__ = [
    "FALLS",
    "GRID",
    "MINIMUM_LABELS",
    "Amount",
    "Bin",
    "Bounds",
    "Calibration",
    "Choice",
    "Costs",
    "Curve",
    "Cuts",
    "DelayDistribution",
    "Detector",
    "Differences",
    "Disagreement",
    "Estimate",
    "Evidence",
    "Excess",
    "Flow",
    "Labels",
    "Lift",
    "Metric",
    "Moments",
    "Move",
    "Objective",
    "OffPolicy",
    "Outcomes",
    "Part",
    "Posteriors",
    "Predictions",
    "Quality",
    "Rates",
    "Recalibration",
    "Reference",
    "RewardSums",
    "Rewards",
    "SampleRatio",
    "Shift",
    "Stop",
    "Strata",
    "Target",
    "allocate",
    "best_probabilities",
    "bounded",
    "calibrated_threshold",
    "calibration",
    "clopper_pearson_interval",
    "compare",
    "corrected_share",
    "cost_optimal",
    "cp_monte_carlo",
    "delay_distribution",
    "design_effect",
    "e_value",
    "epsilon_greedy",
    "fall_e_values",
    "guaranteed",
    "guess",
    "labels_to_show_recall",
    "make_flow",
    "make_reference",
    "mean_excess",
    "measure",
    "measure_groups",
    "moments",
    "neyman",
    "normal_quantile",
    "off_policy",
    "people_curve",
    "pool",
    "posteriors",
    "rates",
    "recalibrate",
    "recall_first",
    "sample_ratio",
    "share",
    "share_excess",
    "shared_jeffreys",
    "spreads",
    "stop",
    "stratify",
    "value_curve",
    "watch",
    "wilson_interval",
]
