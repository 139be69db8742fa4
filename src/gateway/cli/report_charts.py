"""The report's plots, each with the sentence that says what is to be seen in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.autopilot.drift_words import date
from gateway.cli.report_words import labels_of, percent
from gateway.console import Band, Dot, Html, Point, Stack, dots, escape, figure, line, stacked
from gateway.console.axes import percent as short_percent
from gateway.quality.drift import MATERIAL
from gateway.types import Outcome

if TYPE_CHECKING:
    from gateway.autopilot.drift_words import FieldDrift
    from gateway.autopilot.flow_words import SourceFlow
    from gateway.autopilot.story import Story
    from gateway.ledger.breakdown import Slice
    from gateway.quality import Estimate

__all__ = [
    "by_day",
    "by_threshold",
    "drift_chart",
    "flow_chart",
    "reliability",
    "slice_charts",
    "value_chart",
]

NAMES = tuple(one.text for one in Outcome)

UNIT = (0.0, 1.0)

MOST_ROWS = 14
"""Slices of a kind that are drawn, the last of them."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

TENTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def by_day(days: Mapping[int, Mapping[str, int]]) -> Html:
    """Calls by day and outcome."""
    if len(days) < 2:
        return ""
    stacks = [
        Stack(date(day)[5:], {name: float(count) for name, count in days.get(day, {}).items()})
        for day in range(min(days), max(days) + 1)
    ]
    used = [at for at, name in enumerate(NAMES) if any(name in of for of in days.values())]
    keys = "".join(
        f'<span class="key"><svg viewBox="0 0 10 10"><rect class="o{at}" width="10" height="10" rx="2"/></svg>'
        f"{escape(NAMES[at])}</span>"
        for at in used
    )
    return (
        figure(
            stacked("Calls by day and outcome", stacks, NAMES, "calls"),
            "Calls of each day by how they ended.",
        )
        + keys
    )


def slice_charts(slices: Mapping[str, tuple[Slice, ...]]) -> Iterator[Html]:
    """Precision and recall of each segment, backend, policy version and day."""
    for kind, of_kind in slices.items():
        if kind == "day":
            yield _by_day_of_quality(of_kind)
            continue
        what = kind.removeprefix("segment ")
        for name, meaning in (
            ("precision", "of what is flagged is right"),
            ("recall", "of what is positive is found"),
        ):
            rows = [
                _dot(one.name.partition("=")[2] or one.name, getattr(one, name))
                for one in of_kind[-MOST_ROWS:]
            ]
            if any(row.value is not None for row in rows):
                caption = (
                    f"{name.capitalize()} by {what}: which share {meaning}. The line is the 95 % interval; where it is "
                    "long, too few predictions were reviewed to tell one from another."
                )
                yield figure(dots(f"{name} by {what}", rows), caption)


def _by_day_of_quality(days: tuple[Slice, ...]) -> Html:
    bands = []
    for name in ("precision", "recall"):
        points = []
        for one in days:
            number: Estimate = getattr(one, name)
            day = (datetime.fromisoformat(one.name).replace(tzinfo=UTC) - EPOCH).days
            hint = f"{one.name}: {name} {_said(number)}"
            points.append(Point(float(day), number.value, number.low, number.high, hint))
        if sum(point.y is not None for point in points) > 1:
            bands.append(Band(name, tuple(points)))
    if not bands:
        return ""
    every = [round(point.x) for band in bands for point in band.points]
    drawn = line(
        "Precision and recall by day",
        bands,
        "day (UTC)",
        "share",
        y_range=UNIT,
        x_words=_day,
        y_words=short_percent,
        x_ticks=_day_ticks(min(every), max(every)),
        width=920,
    )
    return figure(
        drawn,
        "Precision and recall of each day's predictions, with 95 % intervals: one day alone says little.",
    )


def by_threshold(story: Story) -> Html:
    """Precision against recall, along the threshold."""
    known = [one for one in story.curve if one.precision.value is not None and one.recall.value is not None]
    if len(known) < 2:
        return ""
    points = tuple(
        Point(
            one.recall.value or 0.0,
            one.precision.value,
            one.precision.low,
            one.precision.high,
            f"threshold {one.threshold:.2f}: precision {_said(one.precision)}, recall {_said(one.recall)}",
        )
        for one in sorted(known, key=lambda one: one.recall.value or 0.0)
    )
    bands = [Band("precision", points)]
    caption = (
        "Precision against recall, were the threshold another: lower thresholds lie to the right. The band is the 95 % "
        "interval of precision."
    )
    now = min(known, key=lambda one: abs(one.threshold - (story.threshold or 0.0)))
    if story.threshold is not None and now.precision.value is not None:
        here = Point(now.recall.value or 0.0, now.precision.value, hint=f"now: threshold {story.threshold:g}")
        bands.append(Band(f"threshold {story.threshold:g}, as set", (here,), "points"))
    drawn = line(
        "Precision against recall",
        bands,
        "recall",
        "precision",
        x_range=UNIT,
        y_range=UNIT,
        x_words=short_percent,
        y_words=short_percent,
        x_ticks=TENTHS,
    )
    return figure(drawn, caption)


def reliability(story: Story) -> Html:
    """Score against rate."""
    if story.calibration is None or not story.calibration.table:
        return ""
    points = tuple(
        Point(
            one.score,
            one.rate,
            one.low,
            one.high,
            f"score {one.score:.2f}: {percent(one.rate)} positive, {labels_of(one.labels)}",
        )
        for one in story.calibration.table
    )
    error = story.calibration.error
    words = "Whether a score of 0.8 is right in 8 of 10: points on the dotted line are."
    if error.value is not None:
        words += (
            f" On average scores are off by {error.value:.3f} ({error.low:.3f} to {error.high:.3f}), less what chance "
            "alone would bring."
        )
    drawn = line(
        "Reliability",
        [Band("rate", points, "points")],
        "score",
        "share that is positive",
        x_range=UNIT,
        y_range=UNIT,
        x_words=lambda x: f"{x:.1f}",
        y_words=short_percent,
        x_ticks=TENTHS,
        diagonal=True,
    )
    return figure(drawn, words)


def value_chart(story: Story) -> Html:
    """Value against the threshold."""
    curve = story.value
    if curve is None or curve.best is None:
        return ""
    points = tuple(
        Point(
            float(cut),
            one.value,
            one.low,
            one.high,
            f"threshold {cut:.2f}: {one.value:.4g}" if one.value is not None else "",
        )
        for cut, one in zip(curve.cut, curve.value, strict=True)
    )
    best = float(curve.cut[curve.best])
    parts = "; ".join(part.words for part in curve.parts)
    parts = parts[:1].upper() + parts[1:]
    words = f"What 1,000 calls are worth by costs, at each threshold: highest at {best:.2f} by the labels so far. "
    words += f"{parts}."
    drawn = line(
        "Value of 1,000 calls by threshold",
        [Band("value", points)],
        "threshold",
        "value of 1,000 calls",
        x_range=UNIT,
        x_ticks=TENTHS,
        x_words=lambda x: f"{x:.1f}",
        mark_x=None if story.threshold is None else (story.threshold, "as set"),
        width=920,
    )
    return figure(drawn, words)


def drift_chart(one: FieldDrift) -> Html:
    """PSI by day."""
    days = [day for day in one.days if day.psi is not None]
    if len(days) < 2:
        return ""
    points = tuple(
        Point(
            float(day.day),
            day.psi,
            day.low,
            day.high,
            f"{date(day.day)}: {day.psi:.3f}, {day.predictions:,.0f}",
        )
        for day in days
    )
    drawn = line(
        f"Drift of {one.kind} {one.subject}",
        [Band("PSI", points)],
        "day (UTC)",
        "PSI less its bias",
        x_words=_day,
        x_ticks=_day_ticks(days[0].day, days[-1].day),
        mark_y=(MATERIAL, "matters from here on"),
        mark_x=None if one.since is None else (float(one.since), "moved"),
    )
    what = f"{one.kind} {one.subject}".strip()
    return figure(
        drawn, f"{what}: how far each day lies from the reference; 0 is no further than chance brings."
    )


def flow_chart(flow: SourceFlow) -> Html:
    """Labels by day, with what was to be expected."""
    shown = next((one for one in flow.streams if one.segment in flow.starved), flow.whole)
    if shown is None or len(shown.days) < 2:
        return ""
    came = tuple(
        Point(float(day), labels, hint=f"{date(day)}: {labels:,.0f}") for day, labels, _ in shown.days
    )
    expected = tuple(Point(float(day), wanted) for day, _, wanted in shown.days)
    drawn = line(
        f"Labels of {flow.source} by day",
        [Band("came", came), Band("expected", expected, "dashed")],
        "day (UTC)",
        "labels",
        x_words=_day,
        x_ticks=_day_ticks(shown.days[0][0], shown.days[-1][0]),
        mark_x=None if shown.since is None or not flow.starved else (float(shown.since), "fell"),
    )
    where = f" in segment {shown.segment}" if shown.segment else ""
    return figure(
        drawn, f"Labels of {flow.source}{where} by the day of their prediction, and as many as usual."
    )


def _dot(name: str, one: Estimate) -> Dot:
    if one.value is None:
        return Dot(name, None, None, None, f"unknown: {labels_of(one.labels)}")
    return Dot(name, one.value, one.low, one.high, f"{_said(one)}, {labels_of(one.labels)}")


def _said(one: Estimate) -> str:
    if one.value is None or one.low is None or one.high is None:
        return "unknown"
    return f"{percent(one.value)} ({percent(one.low)} to {percent(one.high)})"


def _day(day: float) -> str:
    return date(round(day))[5:]


def _day_ticks(first: int, last: int) -> list[float]:
    step = max(1, -(-(last - first) // 6))
    return [float(day) for day in range(first, last + 1, step)]
