"""The report for people: every number with a sentence that says what it means, or why it is missing.

Plain columns and sentences, at most 100 wide; colour only on a terminal, so that a report may be mailed as it
is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from gateway.cli.printing import count
from gateway.cli.report_arms import render_arms
from gateway.cli.report_standing import render_slices, render_standing
from gateway.cli.report_story import render_story
from gateway.cli.report_words import (
    OUTCOME_WORDS,
    REASON_WORDS,
    age,
    labels_of,
    lasting,
    micros,
    of_100,
    percent,
    time_of,
)

if TYPE_CHECKING:
    from rich.console import Console

    from gateway.autopilot.story import Story
    from gateway.ledger.quality import Feedback
    from gateway.ledger.report import CallCounts, Report, RouteReport
    from gateway.ledger.shadows import ShadowReport
    from gateway.ledger.signals import SignalSummary
    from gateway.quality import Estimate, Excess

__all__ = ["render"]

BAR = 24

NO_STORIES: Mapping[str, Story] = {}
OUTCOME_STYLES = {
    "model": "green",
    "fallback": "yellow",
    "static": "yellow",
    "rejected": "magenta",
    "error": "red",
}


def render(out: Console, report: Report, now_us: int, stories: Mapping[str, Story] = NO_STORIES) -> None:
    """Print a report. `now_us`: for the age of what waits, microseconds since 1970."""
    since = "the first call" if report.since_us is None else time_of(report.since_us)
    out.print(
        Text.assemble(
            ("Predictions from ", "dim"),
            since,
            (" to ", "dim"),
            time_of(report.until_us or now_us),
            (" UTC", "dim"),
        )
    )
    for route in report.routes:
        out.print()
        _route(out, route, now_us, stories.get(route.route))
    if not report.routes:
        out.print()
        out.print("No route has had a call in this window.")
    if report.unmatched.total:
        out.print()
        out.print(Rule(Text("no route", "bold"), align="left", style="dim"))
        _calls(out, report.unmatched)
        _say(out, "These calls matched no route and were passed on untouched.")


def _route(out: Console, route: RouteReport, now_us: int, story: Story | None) -> None:
    out.print(Rule(Text(route.route, "bold"), align="left", style="dim"))
    labels = route.quality.numbers.labels or route.quality.feedback or route.signals
    if not route.calls.total and not labels:
        _say(out, "No call in this window.")
        return
    _calls(out, route.calls)
    _overhead(out, route)
    _quality(out, route)
    render_slices(out, route.slices, _heading)
    render_standing(out, route.standing, _heading)
    render_arms(out, route.standing, _heading)
    _review(out, route, now_us)
    _shadows(out, route.shadows)
    _feedback(out, route.quality.feedback)
    _signals(out, route.signals)
    if story is not None:
        render_story(out, story, _heading)


def _heading(out: Console, words: str) -> None:
    out.print()
    out.print(Text(words, "bold cyan"))


def _say(out: Console, sentence: str, style: str = "dim") -> None:
    out.print(Padding(Text(sentence, style), (0, 0, 0, 2), expand=False))


def _calls(out: Console, calls: CallCounts) -> None:
    _heading(out, count(calls.total, "call") if calls.total < 1000 else f"{calls.total:,} calls")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, min_width=16)
    grid.add_column(justify="right")
    grid.add_column(justify="right")
    grid.add_column(no_wrap=True)
    for outcome, number in calls.by_outcome.items():
        style = OUTCOME_STYLES.get(outcome, "")
        grid.add_row(
            Text(outcome, style),
            f"{number:,}",
            percent(number / calls.total),
            Text(OUTCOME_WORDS.get(outcome, ""), "dim"),
        )
    others = {reason: number for reason, number in calls.by_reason.items() if reason != "ok"}
    if others:
        grid.add_row("")
        grid.add_row(Text("because of", "dim"))
    for reason, number in others.items():
        words = "a rule decided" if reason.startswith("rule:") else REASON_WORDS.get(reason, "")
        grid.add_row(reason, f"{number:,}", percent(number / calls.total), Text(words, "dim"))
    out.print(Padding(grid, (0, 0, 0, 2), expand=False))


def _overhead(out: Console, route: RouteReport) -> None:
    if route.overhead_p50_us is None or route.overhead_p99_us is None:
        return
    median, high = micros(route.overhead_p50_us), micros(route.overhead_p99_us)
    _heading(out, "Time added")
    out.print(Text.assemble("  p50 ", (median, "bold"), "   p99 ", (high, "bold")))
    _say(
        out,
        f"The gateway itself adds {median} or less to half of the calls, more than {high} to one in a hundred.",
    )


def _quality(out: Console, route: RouteReport) -> None:
    numbers = route.quality.numbers
    _heading(out, "Quality")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, min_width=9)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name, estimate in (("precision", numbers.precision), ("recall", numbers.recall), ("F1", numbers.f1)):
        grid.add_row(name, *_estimate(estimate))
    out.print(Padding(grid, (0, 0, 0, 2), expand=False))
    precision, recall = numbers.precision, numbers.recall
    if precision.value is not None:
        value, interval = of_100(precision)
        _say(out, f"Of 100 flagged predictions, about {value} are right {interval}.")
    else:
        _say(out, f"No precision: {precision.reason}.", "yellow")
    if recall.value is not None:
        value, interval = of_100(recall)
        _say(out, f"Of 100 positives, about {value} are found {interval}. F1 is their harmonic mean.")
    elif recall.reason != precision.reason:
        _say(out, f"No recall: {recall.reason}.", "yellow")
    rates = route.quality.rates
    if rates.accuracy.value is not None and rates.false_positive_rate.value is not None:
        right, of_right = of_100(rates.accuracy)
        flagged, of_flagged = of_100(rates.false_positive_rate)
        share, of_share = of_100(rates.prevalence)
        _say(
            out,
            f"Of 100 predictions, about {right} are right {of_right} and {share} are positive {of_share}; of 100 that "
            f"are not, {flagged} are flagged {of_flagged}.",
        )
    for estimate in (precision, recall):
        if estimate.note:
            _say(out, f"There was {estimate.note}.")
    if recall.value is None and recall.missing:
        _say(out, f"About {recall.missing:,} more labels of such predictions would give one.")
    if numbers.labels:
        _say(
            out,
            f"From {labels_of(numbers.labels)} of {numbers.predictions:,} predictions ({numbers.flagged:,} flagged), "
            "each weighted by 1/probability of having been reviewed.",
        )
    for note in route.quality.notes:
        _say(out, f"{note[0].upper()}{note[1:]}.")


def _estimate(estimate: Estimate) -> tuple[Text, Text, Text]:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return Text("-", "yellow"), Text("no number", "yellow"), Text(labels_of(estimate.labels), "dim")
    interval = f"{percent(estimate.low)} to {percent(estimate.high)}"
    return Text(percent(estimate.value), "bold"), Text(interval), Text(labels_of(estimate.labels), "dim")


def _review(out: Console, route: RouteReport, now_us: int) -> None:
    review = route.quality.review
    if not review.sampled:
        return
    _heading(out, "Review")
    share = review.done / review.sampled
    full = round(BAR * share)
    out.print(
        Text.assemble(
            "  ",
            ("=" * full, "green"),
            ("." * (BAR - full), "dim"),
            f"  {review.done:,} of {review.sampled:,} answered ({percent(share)})",
        )
    )
    if review.oldest_open_us is not None:
        oldest = age((now_us - review.oldest_open_us) / 1e6)
        _say(
            out,
            f"{count(review.open, 'prediction waits', 'predictions wait')} for a reviewer, the oldest for {oldest}.",
        )
    else:
        _say(out, "Nothing waits for a reviewer.")
    load = route.workload
    if load is not None and load.state != "unknown":
        told = f"Of the last {load.hours:.0f} h: {load.words}."
        _say(out, told, "" if load.state == "balanced" else "yellow")


def _shadows(out: Console, shadows: Iterable[ShadowReport]) -> None:
    for shadow in shadows:
        _heading(out, f"Shadow {shadow.shadow}")
        found = shadow.all
        _agreement(out, "agreement", found.agreement)
        if found.agreement.value is not None:
            _say(out, "How often its label was the same as that of the answer that the caller got.")
        if found.mean_difference is not None and found.mean_absolute_difference is not None:
            _say(
                out,
                f"Its scores differ by {found.mean_difference:+.3f} on average, "
                f"by {found.mean_absolute_difference:.3f} regardless of sign.",
            )
        if shadow.noise is not None:
            _agreement(out, "noise", shadow.noise.agreement)
            _say(out, "How often the primary's twin says the same as the primary: what two alike agree on.")
            _above_noise(out, "It disagrees", shadow.disagreement, percent=True)
            _above_noise(out, "Its scores differ", shadow.score_difference, percent=False)
        for segment, of_segment, excess in shadow.segments:
            if of_segment.agreement.value is not None:
                above = "  above the noise" if excess.counts else ""
                _agreement(out, segment, of_segment.agreement, above)
        if found.failed:
            _say(
                out,
                f"It gave no usable answer to {found.failed:,} of {found.failed + found.compared:,}.",
                "yellow",
            )


def _agreement(out: Console, what: str, agreement: Estimate, more: str = "") -> None:
    if agreement.value is None:
        _say(out, f"No {what}: {agreement.reason}.", "yellow")
        return
    value, interval, _ = _estimate(agreement)
    compared = (f"  {agreement.labels:,} compared{more}", "dim")
    out.print(Text.assemble(f"  {what:<9}  ", value, "  ", interval, compared))


def _above_noise(out: Console, what: str, excess: Excess, *, percent: bool) -> None:
    if excess.value is None or excess.low is None or excess.high is None:
        _say(out, f"{what} as noise does, or more: {excess.reason}.", "yellow")
        return
    low, high = (f"{100 * x:+.1f} %" if percent else f"{x:+.3f}" for x in (excess.low, excess.high))
    if excess.counts:
        _say(out, f"{what} more than noise explains, by {low} to {high}.", "yellow")
    else:
        _say(out, f"{what} no more than noise may ({low} to {high}): it does not count.")


def _feedback(out: Console, feedback: Iterable[Feedback]) -> None:
    sources = list(feedback)
    if not sources:
        return
    _heading(out, "Feedback")
    for one in sources:
        words = [f"{one.source}: {labels_of(one.labels)}"]
        if one.confirmed.value is not None:
            words.append(f"confirms {percent(one.confirmed.value)} of {one.confirmed.labels:,} flagged")
        if one.missed.value is not None:
            words.append(f"calls {percent(one.missed.value)} of {one.missed.labels:,} unflagged missed")
        out.print(Padding(Text(", ".join(words)), (0, 0, 0, 2), expand=False))
    _say(out, "An early warning, not a measurement: nobody knows who answers. Not part of the numbers above.")


def _signals(out: Console, signals: Iterable[SignalSummary]) -> None:
    found = list(signals)
    if not found:
        return
    _heading(out, "Signals and outcomes")
    grid = Table.grid(padding=(0, 2))
    for justify in ("left", "left", "right", "right", "left"):
        grid.add_column(justify=justify, no_wrap=True)
    for one in found:
        after = f"half within {lasting(one.median_delay_s)}"
        grid.add_row(
            one.source, one.name or "(outcome)", f"{one.count:,}", f"mean {one.mean:.4g}", Text(after, "dim")
        )
    out.print(Padding(grid, (0, 0, 0, 2), expand=False))
    _say(out, "What people did about predictions. No truth follows from it by itself.")
