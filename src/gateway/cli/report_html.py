"""The report as a page for product people: what matters first, each number with its sentence, each plot with its doubt.

One file without scripts, that loads nothing: it may be mailed, and opened years later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from gateway.cli.report_charts import (
    by_day,
    by_threshold,
    drift_chart,
    flow_chart,
    reliability,
    slice_charts,
    value_chart,
)
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
from gateway.console import Html, escape, page, table

if TYPE_CHECKING:
    from gateway.autopilot.story import Story
    from gateway.ledger.report import CallCounts, Report, RouteReport
    from gateway.quality import Estimate

__all__ = ["render_html"]

VERDICT_STYLES = {"pass": "fine", "fail": "", "inconclusive": "mild"}


def render_html(report: Report, stories: Mapping[str, Story], now_us: int) -> Html:
    """The whole page. `now_us`: when it is made, microseconds since 1970."""
    since = "the first call" if report.since_us is None else time_of(report.since_us)
    until = time_of(report.until_us or now_us)
    window = f"Predictions from {since} to {until} UTC, as known at {time_of(now_us)} UTC."
    body = [
        "<h1>Model gateway report</h1>",
        _say(f"{window} Intervals hold the truth in 95 of 100 windows.", "dim"),
    ]
    if len(report.routes) > 1:
        links = (f'<a href="#{_anchor(at)}">{escape(one.route)}</a>' for at, one in enumerate(report.routes))
        body.append(f"<nav>{''.join(links)}</nav>")
    for at, route in enumerate(report.routes):
        body += _route(route, stories.get(route.route), now_us, _anchor(at))
    if not report.routes:
        body.append("<p>No route has had a call in this window.</p>")
    if report.unmatched.total:
        body.append("<h2>No route</h2>")
        body.append("<p>These calls matched no route and were passed on untouched.</p>")
        body += _calls(report.unmatched)
    return page("Model gateway report", body)


def _anchor(at: int) -> str:
    return f"route-{at}"


def _route(route: RouteReport, story: Story | None, now_us: int, anchor: str) -> list[Html]:
    body = [f'<h2 id="{anchor}">{escape(route.route)}</h2>']
    labels = route.quality.numbers.labels or route.quality.feedback or route.signals
    if not route.calls.total and not labels:
        return [*body, "<p>No call in this window.</p>"]
    body += _news(route, story)
    body.append(f'<div class="cards">{"".join(_cards(route))}</div>')
    body.append("<h3>How calls ended</h3>")
    if story is not None:
        body.append(by_day(story.days))
    body += _calls(route.calls)
    body += _quality(route, story)
    if story is not None:
        body += _changes(story)
        body += _worth(story)
    body += _people(route, story, now_us)
    body += _acts(route)
    return body


def _news(route: RouteReport, story: Story | None) -> Iterator[Html]:
    """What somebody should know who reads nothing else."""
    told = False
    for gate in route.standing.gates:
        if gate.verdict == "fail":
            told = True
            yield _box(
                "", f"Gate {gate.gate}{' ' + gate.segment if gate.segment else ''} fails. {gate.words}"
            )
    if story is not None:
        if story.holdout is not None and story.holdout.ratio is not None and story.holdout.ratio.suspect:
            told = True
            yield _box("", story.holdout.words)
        for flow in story.flow:
            if flow.verdict == "starved":
                told = True
                yield _box("", flow.words)
        for one in story.drift:
            if one.verdict == "drifted":
                told = True
                yield _box("mild", one.words)
        if story.advice is not None and (story.advice.retrain or story.advice.evidence):
            told = True
            yield _box("mild", story.advice.words)
    if not told:
        yield _box("fine", "Nothing that is watched here needs anybody now.")


def _box(style: str, words: str) -> Html:
    return f'<div class="news {style}">{escape(words)}</div>'


def _cards(route: RouteReport) -> Iterator[Html]:
    numbers, calls = route.quality.numbers, route.calls
    model = calls.by_outcome.get("model", 0)
    share = percent(model / calls.total) if calls.total else "-"
    yield _card(f"{calls.total:,}", "calls", f"{share} answered by the first model")
    yield _estimate("precision", numbers.precision, "of what is flagged is right")
    yield _estimate("recall", numbers.recall, "of what is positive is found")
    if route.overhead_p50_us is not None and route.overhead_p99_us is not None:
        more = f"added to half of the calls or less; {micros(route.overhead_p99_us)} to one in a hundred"
        yield _card(micros(route.overhead_p50_us), "time added", more)


def _estimate(name: str, one: Estimate, meaning: str) -> Html:
    if one.value is None or one.low is None or one.high is None:
        return _card("unknown", name, f"{one.reason}")
    return _card(
        percent(one.value),
        name,
        f"{meaning}; {percent(one.low)} to {percent(one.high)}, {labels_of(one.labels)}",
    )


def _card(number: str, name: str, words: str) -> Html:
    return f'<div class="card"><span>{escape(name)}</span><b>{escape(number)}</b><span>{escape(words)}</span></div>'


def _calls(calls: CallCounts) -> list[Html]:
    if not calls.total:
        return []
    rows = [
        (outcome, f"{number:,}", percent(number / calls.total), OUTCOME_WORDS.get(outcome, ""))
        for outcome, number in calls.by_outcome.items()
    ]
    rows += [
        (
            f"because: {reason}",
            f"{number:,}",
            percent(number / calls.total),
            "a rule decided" if reason.startswith("rule:") else REASON_WORDS.get(reason, ""),
        )
        for reason, number in calls.by_reason.items()
        if reason != "ok"
    ]
    return [table(("", "calls", "share", ""), rows, (1, 2))]


def _quality(route: RouteReport, story: Story | None) -> Iterator[Html]:
    numbers = route.quality.numbers
    yield "<h3>How right it is</h3>"
    if numbers.precision.value is not None:
        value, interval = of_100(numbers.precision)
        yield _say(f"Of 100 flagged predictions, about {value} are right {interval}.")
    else:
        yield _say(f"No precision: {numbers.precision.reason}.", "warn")
    if numbers.recall.value is not None:
        value, interval = of_100(numbers.recall)
        yield _say(f"Of 100 positives, about {value} are found {interval}.")
    elif numbers.recall.reason != numbers.precision.reason:
        yield _say(f"No recall: {numbers.recall.reason}.", "warn")
    rates = route.quality.rates
    if rates.accuracy.value is not None and rates.false_positive_rate.value is not None:
        right, of_right = of_100(rates.accuracy)
        flagged, of_flagged = of_100(rates.false_positive_rate)
        yield _say(
            f"Of 100 predictions, about {right} are right {of_right}; of 100 that are not positive, {flagged} are "
            f"flagged {of_flagged}."
        )
    if numbers.labels:
        yield _say(
            f"From {labels_of(numbers.labels)} of {numbers.predictions:,} predictions ({numbers.flagged:,} flagged), "
            "each weighted by 1/probability of having been reviewed.",
            "dim",
        )
    notes = [one.note for one in (numbers.precision, numbers.recall) if one.note]
    for note in (*(f"There was {note}" for note in notes), *route.quality.notes):
        yield _say(f"{note[0].upper()}{note[1:]}.", "dim")
    yield from slice_charts(route.slices)
    if story is None:
        return
    yield f'<div class="pair">{by_threshold(story)}{reliability(story)}</div>'
    yield value_chart(story)


def _changes(story: Story) -> Iterator[Html]:
    if story.drift:
        yield "<h3>Whether the traffic changed</h3>"
        for one in story.drift:
            style = {"drifted": "bad", "steady": "", "learning": "dim", "unknown": "warn"}[one.verdict]
            yield _say(one.words, style)
        yield f'<div class="pair">{"".join(drift_chart(one) for one in story.drift)}</div>'
        if story.advice is not None:
            yield _say(story.advice.words)
    if story.flow or story.maturity:
        yield "<h3>Whether feedback still comes</h3>"
        for flow in story.flow:
            style = {"starved": "bad", "flowing": "", "learning": "dim", "unknown": "warn"}[flow.verdict]
            yield _say(flow.words, style)
        for source in story.maturity:
            yield _say(source.words, "dim")
            if source.confirmed.value is not None and source.source != "review":
                value, interval = of_100(source.confirmed)
                yield _say(
                    f"Of 100 flagged predictions that {source.source} speaks of, about {value} will have been called "
                    f"positive {interval} once the late ones are there.",
                    "dim",
                )
        yield f'<div class="pair">{"".join(flow_chart(flow) for flow in story.flow)}</div>'


def _worth(story: Story) -> Iterator[Html]:
    if story.holdout is None:
        return
    yield "<h3>What the model is worth</h3>"
    style = "bad" if story.holdout.ratio is not None and story.holdout.ratio.suspect else ""
    yield _say(story.holdout.words, style)
    rows = []
    for one in story.holdout.lifts:
        yield _say(one.words)
        found = one.lift
        if found.treated is not None and found.holdout is not None:
            interval = "-" if found.low is None else f"{found.low:+.4g} to {found.high:+.4g}"
            difference = "-" if found.value is None else f"{found.value:+.4g}"
            counts = f"{found.outcomes:,} and {found.outcomes_holdout:,}"
            rows.append(
                (one.source, f"{found.treated:.4g}", f"{found.holdout:.4g}", difference, interval, counts)
            )
    head = ("source", "with the model", "holdout", "difference", "95 % interval", "outcomes")
    yield table(head, rows, (1, 2, 3, 4, 5))


def _people(route: RouteReport, story: Story | None, now_us: int) -> Iterator[Html]:
    review = route.quality.review
    if review.sampled:
        yield "<h3>Review</h3>"
        share = percent(review.done / review.sampled)
        done = f"{review.done:,} of {review.sampled:,} sampled predictions are answered ({share})"
        waiting = "nothing waits for a reviewer"
        if review.oldest_open_us is not None:
            waiting = f"{review.open:,} wait, the oldest for {age((now_us - review.oldest_open_us) / 1e6)}"
        yield _say(f"{done}; {waiting}.")
        if route.workload is not None and route.workload.state != "unknown":
            words = f"Of the last {route.workload.hours:.0f} h: {route.workload.words}."
            yield _say(words, "" if route.workload.state == "balanced" else "warn")
    if route.quality.feedback or route.signals:
        yield "<h3>What users say and do</h3>"
        yield _say(
            "An early warning, not a measurement: nobody knows who answers. Not part of the numbers above.",
            "dim",
        )
        said = [
            (one.source, labels_of(one.labels), _share(one.confirmed), _share(one.missed))
            for one in route.quality.feedback
        ]
        yield table(
            ("source", "labels", "of the flagged, called positive", "of the rest, called positive"),
            said,
            (1, 2, 3),
        )
        did = [
            (
                one.source,
                one.name or "(outcome)",
                f"{one.count:,}",
                f"{one.mean:.4g}",
                f"half within {lasting(one.median_delay_s)}",
            )
            for one in route.signals
        ]
        yield table(("source", "signal", "how many", "mean", ""), did, (2, 3))
    for shadow in route.shadows:
        found = shadow.all
        yield f"<h3>Shadow {escape(shadow.shadow)}</h3>"
        if found.agreement.value is not None:
            value, interval = of_100(found.agreement)
            yield _say(
                f"In about {value} of 100 comparisons its label is that of the answer that the caller got {interval}."
            )
        if found.failed:
            yield _say(
                f"It gave no usable answer to {found.failed:,} of {found.failed + found.compared:,}.", "warn"
            )


def _acts(route: RouteReport) -> Iterator[Html]:
    if route.standing.gates:
        yield "<h3>Gates</h3>"
        rows = [
            (one.gate, one.segment or "all", one.verdict, f"{one.labels:,}", one.words)
            for one in route.standing.gates
        ]
        yield table(("gate", "segment", "verdict", "labels", "the rule, and what was found"), rows, (3,))
    if route.standing.acts:
        yield "<h3>What was done</h3>"
        rows = [
            (
                time_of(act.time_us),
                f"{act.act} {act.state}",
                act.actor,
                "" if act.after is None else str(act.after),
                act.words,
            )
            for act in route.standing.acts
        ]
        yield table(("UTC", "act", "by", "policy", "why"), rows, (3,))


def _share(one: Estimate) -> str:
    return "-" if one.value is None else f"{percent(one.value)} of {one.labels:,}"


def _say(words: str, style: str = "") -> Html:
    return f'<p class="{style}">{escape(words)}</p>' if style else f"<p>{escape(words)}</p>"
