"""What a route's model is worth: outcomes of calls that met it, against those of the holdout.

In: the ledger's outcomes and counts of calls, and the policies under which they were split. Out: the difference in the
outcome's own unit, and whether the split is as it was set.

Labels of outcomes carry no unit, so the spread that comes of units with many calls is learnt from sampled calls, whose
unit is kept as a hash (`gateway.quality.lift.design_effect`); where too few are known, the reader is told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from gateway.ledger import Reader, Window, policies
from gateway.ledger.daily import held_out, outcome_sums, units
from gateway.quality.lift import Lift, Outcomes, SampleRatio, design_effect, lift, sample_ratio

__all__ = ["HoldoutReport", "SourceLift", "holdout_reports"]

MOST_POLICIES: Final = 100
"""Versions whose share is looked up; calls under older ones are left out of the check of the split."""

PER: Final = 1000


@dataclass(frozen=True, slots=True)
class SourceLift:
    """Outcomes that one source tells. `worth`: in all of the window, in the outcome's unit; None without a number."""

    source: str
    lift: Lift
    worth: float | None
    words: str

    def as_dict(self) -> dict[str, Any]:
        """As `gateway report --json` prints it."""
        return {**asdict(self.lift), "says": self.lift.says, "worth": self.worth, "words": self.words}


@dataclass(frozen=True, slots=True)
class HoldoutReport:
    """One route. `ratio`: the split as it is and as it was set, None where no share is known. `words`: a sentence."""

    route: str
    calls: int
    held: int
    ratio: SampleRatio | None
    words: str
    lifts: tuple[SourceLift, ...]

    def as_dict(self) -> dict[str, Any]:
        """As `gateway report --json` prints it."""
        ratio = self.ratio
        return {
            "calls": self.calls,
            "held_out": self.held,
            "share_set": None if ratio is None else ratio.expected,
            "share_found": None if ratio is None else ratio.found,
            "mismatch_p": None if ratio is None else ratio.p,
            "mismatch": None if ratio is None else ratio.suspect,
            "words": self.words,
            "outcomes": {one.source: one.as_dict() for one in self.lifts},
        }


def holdout_reports(reader: Reader, window: Window) -> dict[str, HoldoutReport]:
    """By route, for those that held anything out in the window, or tell outcomes of what they held out.

    Raises: LedgerUnavailable.
    """
    came: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for route, policy, held, calls in held_out(reader, window):
        if route:
            came[route][policy][0] += calls
            came[route][policy][1] += calls if held else 0
    sums: dict[str, dict[str, dict[bool, Outcomes]]] = defaultdict(lambda: defaultdict(dict))
    for route, source, held, count, total, squared in outcome_sums(reader, window):
        sums[route][source][bool(held)] = Outcomes(int(count), float(total), float(squared))
    found = {}
    for route in sorted(came):
        held = sum(of[1] for of in came[route].values())
        if held or any(True in of for of in sums[route].values()):
            found[route] = _report(reader, window, route, came[route], sums[route])
    return found


def _report(
    reader: Reader,
    window: Window,
    route: str,
    came: Mapping[int, list[int]],
    sums: Mapping[str, Mapping[bool, Outcomes]],
) -> HoldoutReport:
    calls, held = (sum(of[at] for of in came.values()) for at in (0, 1))
    sampled = units(reader, window, route, next(iter(sorted(sums)), ""))
    clustered = design_effect(sampled.unit, sampled.weight)
    shares = _shares(reader, route, came)
    ratio = None
    if shares:
        split = [came[version] for version in shares]
        ratio = sample_ratio(
            [of[0] for of in split], [of[1] for of in split], list(shares.values()), clustered or 1.0
        )
    lifts = tuple(_lift(reader, window, route, source, sums[source], calls - held) for source in sorted(sums))
    return HoldoutReport(route, calls, held, ratio, _split_words(calls, held, ratio, clustered), lifts)


def _lift(
    reader: Reader, window: Window, route: str, source: str, of: Mapping[bool, Outcomes], treated: int
) -> SourceLift:
    none = Outcomes(0, 0.0, 0.0)
    sampled = units(reader, window, route, source)
    known = np.isfinite(sampled.value)
    effect = design_effect(sampled.unit[known], sampled.weight[known], sampled.value[known])
    found = lift(of.get(False, none), of.get(True, none), effect or 1.0)
    worth = None if found.value is None else found.value * treated
    return SourceLift(source, found, worth, _lift_words(source, found, treated, effect))


def _shares(reader: Reader, route: str, came: Mapping[int, list[int]]) -> dict[int, float]:
    """The share that each version of the policy sets, of those under which calls came."""
    found = {}
    for version in sorted(came)[-MOST_POLICIES:]:
        kept = reader.snapshot(partial(policies.find, version=version))
        if kept is None:
            continue
        of = next((one for one in kept.document.get("routes", ()) if one.get("name") == route), None)
        if of is not None:
            found[version] = float((of.get("holdout") or {}).get("share", 0.0))
    return found


def _split_words(calls: int, held: int, ratio: SampleRatio | None, clustered: float | None) -> str:
    share = f"{held:,} of {calls:,} calls ({100 * held / max(calls, 1):.2f} %) were kept from the model"
    if ratio is None or ratio.p is None:
        return f"{share}."
    set_to = f"{100 * ratio.expected:.2f} % of units are set to be"
    if not ratio.suspect:
        return f"{share}; {set_to}, and chance explains the difference (p = {ratio.p:.2g})."
    if clustered is None:
        return (
            f"{share}; {set_to}. Chance alone does not explain it if each call is a unit of its own "
            f"(p = {ratio.p:.2g}); how many calls a unit makes is not known, so look whether a few units make many."
        )
    return (
        f"{share}; {set_to}, and chance does not explain it (p = {ratio.p:.2g}): something else decides who is "
        "held out, and no difference below can be believed before it is found."
    )


def _lift_words(source: str, found: Lift, treated: int, effect: float | None) -> str:
    if found.value is None or found.low is None or found.high is None:
        more = f"; {found.missing:,} more would do" if found.missing else ""
        return f"What the model is worth by {source} cannot be said: {found.reason}{more}."
    interval = (
        f"{found.value:+.4g} for each outcome told (95 % interval {found.low:+.4g} to {found.high:+.4g})"
    )
    told = {
        "better": "With the model outcomes are higher",
        "worse": "With the model outcomes are lower",
        "unclear": "Whether the model changes outcomes cannot be told from chance",
    }[found.says]
    words = f"{told}, by {source}: {interval}"
    if found.says != "unclear":
        part = "" if found.relative is None else f", {100 * found.relative:+.1f} %"
        words += f"{part}; over {treated:,} calls that met it that is worth {_amount(found.value * treated)}"
        words += f", were an outcome told of each ({_amount(found.value * PER)} per {PER:,})"
    if effect is None:
        words += (
            ". Calls are taken for independent, as few sampled ones are known to be of one unit: the interval"
        )
        words += " is too narrow where units call often"
    return f"{words}."


def _amount(value: float) -> str:
    return f"{value:+,.0f}" if abs(value) >= 100 else f"{value:+.3g}"
