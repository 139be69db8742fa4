"""What a report tells beyond the counts of a window: where a model is good, at which threshold, and what is changing.

In: the ledger, and the settings where they are known. Out: one `Story` a route, of plain numbers with their sentences.
Never: writes; a report beside a running gateway changes nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gateway.autopilot.drift import DRIFT, REFERENCE, Remembered, drift_report
from gateway.autopilot.drift_words import Advice, FieldDrift, advise, date
from gateway.autopilot.flow import FLOW, flow_report
from gateway.autopilot.flow_words import SourceFlow
from gateway.autopilot.holdout import HoldoutReport, holdout_reports
from gateway.autopilot.slicing import Threshold, cells_of, thresholds
from gateway.config.drift import Drift
from gateway.ledger import Reader, Window, schema, states, verdicts
from gateway.ledger.daily import DAY_US, Delays, by_day, delays
from gateway.ledger.grid import HOUR_US
from gateway.quality.calibration import Calibration, calibration
from gateway.quality.curve import Curve, value_curve
from gateway.quality.delay import MATURE, corrected_share, delay_distribution
from gateway.quality.estimate import Estimate
from gateway.quality.value import Costs
from gateway.types import Outcome

if TYPE_CHECKING:
    from gateway.config import Route, Settings
    from gateway.ledger.quality import RouteQuality
    from gateway.ledger.report import Report

__all__ = ["Maturity", "Story", "as_json", "stories"]

HORIZON_DAYS: Final = 90
MOST_DAYS: Final = 92
"""Of calls by outcome, for a plot."""

USUAL: Final = Drift()

GRID: Final = np.arange(1, 40) / 40
"""Thresholds of the value curve: as many as a plot shows."""

DRAWS: Final = 400
"""For its intervals: the 2.5 % point is within 2 % of its rank, at a tenth of the time."""


@dataclass(frozen=True, slots=True)
class Maturity:
    """How late the labels of one source come.

    `half_h`, `most_h`: hours by which half and nine of ten are there. `mature_us`: predictions up to then have nine of
    ten of their labels; all None where that is not known. `confirmed`: of the flagged predictions of the window, the
    share that it calls positive once all its labels are there.
    """

    source: str
    half_h: float | None
    most_h: float | None
    mature_us: int | None
    confirmed: Estimate
    words: str

    def as_dict(self) -> dict[str, Any]:
        """As `gateway report --json` prints it."""
        return {
            "half_after_h": self.half_h,
            "nine_of_ten_after_h": self.most_h,
            "mature_through": None if self.mature_us is None else date(self.mature_us // DAY_US),
            "confirmed_once_all_are_there": self.confirmed.as_dict(),
            "words": self.words,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Story:
    """One route. `days`: calls by day and outcome. `curve`: precision and recall were the threshold another. `value`:
    what 1,000 calls are worth at each threshold, where the settings have `costs`.
    """

    days: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    curve: tuple[Threshold, ...] = ()
    threshold: float | None = None
    calibration: Calibration | None = None
    value: Curve | None = None
    drift: tuple[FieldDrift, ...] = ()
    flow: tuple[SourceFlow, ...] = ()
    maturity: tuple[Maturity, ...] = ()
    holdout: HoldoutReport | None = None
    advice: Advice | None = None

    def as_dict(self) -> dict[str, Any]:
        """As `gateway report --json` prints it, beside what it prints anyway."""
        return {
            "by_threshold": [one.as_dict() for one in self.curve],
            "calibration": None if self.calibration is None else self.calibration.as_dict(),
            "value": None if self.value is None else self.value.as_dict(),
            "drift": [one.as_dict() for one in self.drift],
            "flow": {one.source: one.as_dict() for one in self.flow},
            "maturity": {one.source: one.as_dict() for one in self.maturity},
            "holdout": None if self.holdout is None else self.holdout.as_dict(),
            "advice": None if self.advice is None else self.advice.as_dict(),
        }


def stories(
    reader: Reader,
    window: Window,
    report: Report,
    now_us: int,
    settings: Settings | None = None,
    seed: int = 0,
) -> dict[str, Story]:
    """By route, for those that had calls in the window.

    Args:
        report: of the same window. seed: of the Monte Carlo intervals. settings: without them there is no value curve,
        and patience is the usual one.
    Raises: LedgerUnavailable.
    """
    qualities = {one.route: one.quality for one in report.routes}
    days = _days(reader, window, now_us)
    remembered = Remembered(
        *(reader.snapshot(partial(states.find, kind=kind)) for kind in (REFERENCE, DRIFT))
    )
    flowing = reader.snapshot(partial(states.find, kind=FLOW))
    late = delays(reader, now_us - HORIZON_DAYS * DAY_US, now_us)
    held = holdout_reports(reader, window)
    failing: dict[str, list[str]] = defaultdict(list)
    for one in reader.snapshot(partial(verdicts.latest, route=window.route)):
        if one.verdict == "fail":
            failing[one.route].append(one.words)
    found = {}
    for route in sorted({*qualities, *days, *held}):
        of = None if settings is None else settings.routes.get(route)
        patience = (USUAL if of is None else of.drift).arl_days
        drift = drift_report(remembered, route, patience)
        made = _numbers(qualities.get(route), None if of is None else of, np.random.default_rng(seed))
        found[route] = Story(
            days=days.get(route, {}),
            drift=drift,
            flow=flow_report(flowing, route, patience),
            maturity=_maturities(late, route, window, now_us),
            holdout=held.get(route),
            advice=advise(drift, failing[route], route) if drift or failing[route] else None,
            **made,
        )
    return found


def as_json(report: Report, found: Mapping[str, Story]) -> dict[str, Any]:
    """The report with its stories, as `gateway report --json` prints it."""
    told = report.as_dict()
    for route, story in found.items():
        told["routes"].setdefault(route, {}).update(story.as_dict())
    return told


def _numbers(quality: RouteQuality | None, route: Route | None, rng: np.random.Generator) -> dict[str, Any]:
    if quality is None:
        return {}
    cells = cells_of(quality)
    threshold = None if route is None or route.prediction is None else route.prediction.threshold
    given = None if route is None else route.costs
    value = None
    if given is not None and cells.labels.count.sum():
        costs = Costs(**given.model_dump())
        value = value_curve(cells.predictions, cells.labels, costs, rng, grid=GRID, draws=DRAWS)
    return {
        "curve": thresholds(cells, rng),
        "threshold": threshold,
        "calibration": calibration(cells.labels) if cells.labels.count.sum() else None,
        "value": value,
    }


def _days(reader: Reader, window: Window, now_us: int) -> dict[str, dict[int, dict[str, int]]]:
    since, until = window.hours
    end = (now_us // DAY_US if until is None else (until - 1) // 24) + 1
    first = end - MOST_DAYS if since is None else max(since // 24, end - MOST_DAYS)
    found: dict[str, dict[int, dict[str, int]]] = defaultdict(lambda: defaultdict(Counter))
    keys = ("route", "outcome")
    for day, route, outcome, calls in by_day(reader, schema.tally_calls, keys, ("calls",), first, end):
        if route and calls > 0 and window.route in (None, route):
            found[route][day][Outcome(outcome).text] += int(calls)
    return found


def _maturities(
    late: Mapping[tuple[str, str], Delays], route: str, window: Window, now_us: int
) -> tuple[Maturity, ...]:
    found = []
    for (of, source), rows in sorted(late.items()):
        if of != route:
            continue
        distribution = delay_distribution(rows.delay_h, rows.age_h)
        half, most = distribution.age_of(0.5), distribution.age_of(MATURE)
        flagged = (rows.flagged == 1) & (rows.positive >= 0)
        within = None if window.since_us is None else (now_us - window.since_us) / HOUR_US
        confirmed = corrected_share(
            rows.delay_h[flagged], rows.age_h[flagged], rows.positive[flagged] == 1, within=within
        )
        mature = None if most is None else now_us - round((most + 1) * HOUR_US)
        words = f"How late labels of {source} come is not known: {distribution.reason}."
        if half is not None and most is not None and mature is not None:
            words = (
                f"Half of what {source} says is there after {_hours(half)}, nine of ten after {_hours(most)}: "
                f"mature through {date(mature // DAY_US)}."
            )
        found.append(Maturity(source, half, most, mature, confirmed, words))
    return tuple(found)


def _hours(hours: float) -> str:
    if hours < 1:
        return "an hour"
    return f"{hours + 1:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"
