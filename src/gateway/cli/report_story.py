"""What a report tells beyond counts, as the terminal shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from gateway.autopilot.story import Story

__all__ = ["render_story"]

STYLES = {
    "drifted": "red",
    "starved": "red",
    "steady": "",
    "flowing": "",
    "learning": "dim",
    "unknown": "yellow",
}

Heading = Callable[["Console", str], None]


def render_story(out: Console, story: Story, heading: Heading) -> None:
    """Calibration, value, drift, feedback and holdout; nothing of what there is nothing to say about."""
    if story.calibration is not None and story.calibration.error.value is not None:
        error = story.calibration.error
        heading(out, "Calibration")
        _say(out, f"Scores are off by {error.value:.3f} on average ({error.low:.3f} to {error.high:.3f}).")
    if story.value is not None and story.value.best is not None:
        heading(out, "Value")
        best = float(story.value.cut[story.value.best])
        _say(out, f"By costs, 1,000 calls are worth most at a threshold of {best:.2f}, by the labels so far.")
        for part in story.value.parts:
            _say(out, f"{part.words[0].upper()}{part.words[1:]}.", "dim")
    if story.drift:
        heading(out, "Drift")
        for one in story.drift:
            _say(out, one.words, STYLES[one.verdict])
    if story.flow or story.maturity:
        heading(out, "Feedback flow")
        for flow in story.flow:
            _say(out, flow.words, STYLES[flow.verdict])
        for late in story.maturity:
            _say(out, late.words, "dim")
    if story.holdout is not None:
        heading(out, "Holdout")
        ratio = story.holdout.ratio
        _say(out, story.holdout.words, "red" if ratio is not None and ratio.suspect else "")
        for lifted in story.holdout.lifts:
            _say(out, lifted.words)
    if story.advice is not None and story.advice.evidence:
        heading(out, "Advice")
        _say(out, story.advice.words, "bold")


def _say(out: Console, sentence: str, style: str = "") -> None:
    out.print(Padding(Text(sentence, style), (0, 0, 0, 2), expand=False))
