"""What `gateway threshold` prints: each number has a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table

from gateway.cli.printing import percent

if TYPE_CHECKING:
    from rich.console import Console

    from gateway.autopilot.thresholds import Advice, Point
    from gateway.cli.threshold_publish import Change
    from gateway.quality import Calibration, Choice, Curve, Estimate, Recalibration

__all__ = ["render"]

MOST_ROWS: Final = 15
"""Of a curve; the whole of it is in `--json`."""


def render(out: Console, advice: Advice, change: Change | None) -> None:
    """Print it all, and what would change."""
    today = advice.today
    out.print(f"route {advice.route}: flagged from a score of {today.threshold:g} on today")
    out.print(f"  {_point(today)}")
    out.print()
    for choice in (advice.guaranteed, advice.recall_first):
        if choice is not None:
            _choice(out, choice)
    if advice.cost_optimal is not None:
        move = advice.cost_optimal
        _choice(out, move.choice)
        gain = move.gain
        if gain.value is not None and gain.low is not None and gain.high is not None:
            out.print(f"  worth {gain.value:+.4g} per 1,000 calls ({gain.low:+.4g} to {gain.high:+.4g})")
        out.print(f"  if scores were probabilities it would be {move.calibrated:.3f}")
        out.print()
    else:
        out.print("no costs: in the route, so that nothing is said of what a threshold is worth")
        out.print()
    for curve, title in (
        (advice.curve, "value per 1,000 calls by threshold"),
        (advice.people, "value per 1,000 calls by what people handle"),
    ):
        if curve is not None:
            _curve(out, curve, title)
    _calibration(out, advice.calibration, advice.table)
    if change is not None:
        _change(out, change)


def _number(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return f"unknown: {estimate.reason}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _point(one: Point | Choice) -> str:
    flagged = "nothing came" if one.flagged is None else f"{percent(one.flagged)} flagged"
    return f"{flagged}; precision {_number(one.precision)}; recall {_number(one.recall)}"


def _choice(out: Console, choice: Choice) -> None:
    out.print(f"{choice.rule.replace('_', ' ')}: {choice.words}")
    if choice.threshold is None:
        more = f"; about {choice.missing:,} more labels would do" if choice.missing else ""
        out.print(f"  none: {choice.reason}{more}")
    else:
        kept = f" (kept: {choice.reason})" if choice.reason else ""
        out.print(f"  {choice.threshold:g}{kept}, by {choice.labels:,} labels: {_point(choice)}")
    out.print()


def _curve(out: Console, curve: Curve, title: str) -> None:
    handled = curve.along == "confidence_floor"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in (curve.along.replace("_", " "), "people handle" if handled else "flagged", "value", "95 %"):
        table.add_column(name, justify="right")
    step = max(len(curve.cut) // MOST_ROWS, 1)
    for index in sorted({*range(0, len(curve.cut), step), *(() if curve.best is None else (curve.best,))}):
        value = curve.value[index]
        known = value.value is not None and value.low is not None and value.high is not None
        table.add_row(
            f"{curve.cut[index]:g}" + (" *" if index == curve.best else ""),
            percent(float(curve.share[index])),
            f"{value.value:.4g}" if known else "unknown",
            f"{value.low:.4g} to {value.high:.4g}" if known else f"{value.reason}",
        )
    out.print(table)
    if curve.best is not None:
        out.print("  * highest by the labels")
    for part in curve.parts:
        out.print(f"  {part.words}")
    out.print()


def _calibration(out: Console, found: Calibration, mended: Recalibration) -> None:
    out.print(f"scores as probabilities: off by {_number(found.error)}; Brier score {_number(found.brier)}")
    if found.table:
        table = Table(box=None, pad_edge=False)
        for name in ("scores", "mean", "positive", "95 %", "labels"):
            table.add_column(name, justify="right")
        for one in found.table:
            table.add_row(
                f"{one.start:.3f}-{one.end:.3f}",
                f"{one.score:.3f}",
                f"{one.rate:.3f}",
                f"{one.low:.3f} to {one.high:.3f}",
                f"{one.labels:,}",
            )
        out.print(table)
    if mended.reason is not None:
        out.print(f"  no table to mend them: {mended.reason}")
    else:
        verdict = "better" if mended.better else "no better"
        out.print(
            f"  mapped by a table ({mended.method}, {len(mended.x)} knots) they are {verdict} on labels it has not "
            f"seen: off by {_number(mended.after)}; --recalibrate publishes it"
        )


def _change(out: Console, change: Change) -> None:
    out.print()
    if not change.changes or change.after is None:
        out.print(f"nothing to publish: {change.reason}")
        return
    table = " after the table of scores" if "recalibration" in change.changes else ""
    out.print(f"would be published: threshold {change.changes['threshold']:g}{table}")
    out.print(f"  now   {_point(change.before)}")
    out.print(f"  then  {_point(change.after)}")
    if change.flips is not None:
        out.print(f"  {percent(change.flips)} of predictions would be decided otherwise")
    if change.unsure is not None:
        before, after = change.unsure
        out.print(f"  {percent(before)} are below the floor now, {percent(after)} then")
