"""What drift is, in words: what moved, since when, by how much, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np

from gateway.ledger.daily import CONFIDENCE_CELLS, DAY_US
from gateway.ledger.grid import SCORE_BINS
from gateway.quality.drift import MATERIAL, Shift
from gateway.quality.evidence import Evidence

__all__ = ["Advice", "DayOfDrift", "FieldDrift", "Part", "advise", "date", "tell"]

Verdict = Literal["drifted", "steady", "learning", "unknown"]

CELLS: Final = {"score": SCORE_BINS, "confidence": CONFIDENCE_CELLS}

MOST_PARTS: Final = 10


@dataclass(frozen=True, slots=True)
class DayOfDrift:
    """One day: PSI less its bias with its interval; None where the day was too thin."""

    day: int
    predictions: float
    psi: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Part:
    """One bin or category: its share of the traffic in the reference, and since the change (or in the last week)."""

    name: str
    before: float
    now: float


@dataclass(frozen=True, slots=True)
class FieldDrift:
    """One thing that is watched.

    `kind`: score, confidence, fallback or segment; `subject`: of which model, or which attribute. `shift`: since the
    change, else of the last week, None while learning. `evidence`: how many times as much as an alarm takes. `since`,
    `reference`: days since 1970; of the reference the first, and the day after the last. `words`: a sentence.
    """

    kind: str
    subject: str
    verdict: Verdict
    words: str
    shift: Shift | None = None
    evidence: float = 0.0
    since: int | None = None
    reference: tuple[int, int] | None = None
    days: tuple[DayOfDrift, ...] = ()
    parts: tuple[Part, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As `gateway report --json` prints it."""
        shift = self.shift
        return {
            "kind": self.kind,
            "subject": self.subject,
            "verdict": self.verdict,
            "psi": None if shift is None else shift.psi,
            "low": None if shift is None else shift.low,
            "high": None if shift is None else shift.high,
            "predictions": None if shift is None else round(shift.n),
            "evidence": self.evidence,
            "since": None if self.since is None else date(self.since),
            "reference": None if self.reference is None else [date(day) for day in self.reference],
            "words": self.words,
        }


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about a route's model. `retrain`: whether that. `evidence`: a sentence each."""

    retrain: bool
    words: str
    evidence: tuple[str, ...] = ()
    since: int | None = None

    def as_dict(self) -> dict[str, Any]:
        since = None if self.since is None else date(self.since)
        return {"retrain": self.retrain, "words": self.words, "evidence": list(self.evidence), "since": since}


def date(day: int) -> str:
    """A day since 1970 as ISO 8601 has it."""
    return datetime.fromtimestamp(day * DAY_US / 1e6, UTC).strftime("%Y-%m-%d")


def tell(
    name: str,
    state: Mapping[str, Any],
    kept: Mapping[str, Any] | None,
    evidence: Evidence | None,
    shift: Shift | None,
    wanted: float,
    *,
    back: bool = False,
) -> FieldDrift:
    """What is remembered of one thing as what it says.

    Args: wanted: the evidence that an alarm takes. back: whether the last days are as before.
    """
    kind, _, subject = name.partition(" ")
    what = _what(kind, subject)
    if kept is None or evidence is None or shift is None:
        so_far, of = int(state.get("learning", 0)), int(state.get("wanted", 0))
        words = f"What is usual for {what} is still being learnt: {so_far} of {of} whole days."
        return FieldDrift(kind, subject, "learning", words)
    reference = int(kept["first"]), int(kept["end"])
    days = tuple(
        DayOfDrift(int(day["day"]), float(np.sum(day["counts"])), day["psi"], day["low"], day["high"])
        for day in state["days"]
    )
    part = evidence.level / wanted
    since = evidence.since if evidence.run > 1.0 else None
    parts = _parts(kind, kept, state["days"], since)
    if not days or shift.psi is None:
        why = (shift.reason if days else None) or "no day has come since the reference"
        return FieldDrift(
            kind,
            subject,
            "unknown",
            f"Nothing can be said of {what}: {why}.",
            shift,
            part,
            None,
            reference,
            days,
            parts,
        )
    against = f"against {date(reference[0])} to {date(reference[1] - 1)}"
    psi, low, high = (max(one or 0.0, 0.0) for one in (shift.psi, shift.low, shift.high))
    size = f"PSI {psi:.3f} (95 % interval {low:.3f} to {high:.3f})"
    if part >= 1.0 and shift.material and not back:
        moved = _moved(kind, parts)
        words = f"{_upper(what)} moved on or about {date(since or days[-1].day)}: {moved}. {size} {against}."
        return FieldDrift(kind, subject, "drifted", words, shift, part, since, reference, days, parts)
    if back and part >= 1.0 and shift.material:
        words = (
            f"{_upper(what)} moved, and are again what they were: {size} {against}, all days since it began."
        )
    elif part >= 1.0:
        words = f"{_upper(what)} moved, but by too little to matter: {size}, below {MATERIAL:g}, {against}."
    else:
        words = f"{_upper(what)} differ no more than chance and ordinary days bring: {size} {against}."
    return FieldDrift(kind, subject, "steady", words, shift, part, None, reference, days, parts)


def advise(drifts: Sequence[FieldDrift], failing: Sequence[str], route: str) -> Advice:
    """Whether to train anew. `failing`: a sentence for each gate of the route that fails.

    Traffic that moved is a reason to look, and labels that say so are one to retrain: a model may be as good on other
    traffic, and it may be worse on the same.
    """
    moved = [one for one in drifts if one.verdict == "drifted"]
    evidence = (*failing, *(one.words for one in moved))
    since = min((one.since for one in moved if one.since is not None), default=None)
    export = f"`gateway export` with --route {route}" + (
        f" --since {date(since)}" if since is not None else ""
    )
    if failing and moved:
        words = f"Retrain: quality fell, and the traffic is no longer what it was. {export} writes what to train on."
        return Advice(True, words, evidence, since)
    if failing:
        words = (
            "Retrain, or look at the labels: quality fell on traffic that looks as before, so what is right has "
            f"changed. {export} writes what to train on."
        )
        return Advice(True, words, evidence, since)
    if moved:
        words = (
            "Do not retrain yet: the traffic moved, but nothing shows that the model is worse on it. "
            "Put more of it before people to know."
        )
        return Advice(False, words, evidence, since)
    return Advice(False, "Nothing speaks for training anew.")


def _what(kind: str, subject: str) -> str:
    if kind == "score":
        return f"scores of {subject}"
    if kind == "confidence":
        return f"confidences of {subject}"
    if kind == "fallback":
        return f"fallbacks from {subject}"
    return f"calls by {subject}"


def _upper(words: str) -> str:
    return words[0].upper() + words[1:]


def _parts(
    kind: str, kept: Mapping[str, Any], days: Sequence[Mapping[str, Any]], since: int | None
) -> tuple[Part, ...]:
    before = np.sum(np.asarray(kept["days"], dtype=np.float64), axis=0)
    counts = [np.asarray(day["counts"]) for day in days if since is None or day["day"] >= since]
    if since is None:
        counts = counts[-7:]
    if not counts or before.sum() <= 0:
        return ()
    now = np.sum(counts, axis=0)
    if now.sum() <= 0:
        return ()
    names = _names(kind, kept, len(before))
    shares = zip(names, (before / before.sum()).tolist(), (now / now.sum()).tolist(), strict=True)
    return tuple(Part(name, old, new) for name, old, new in shares if old or new)[:MOST_PARTS]


def _names(kind: str, kept: Mapping[str, Any], bins: int) -> list[str]:
    if kind == "fallback":
        return ["answered by the first model", "not answered by it"]
    if kept["cells"] is not None:
        names = [""] * bins
        for name, at in kept["cells"].items():
            names[at] = name if not names[at] else "others"
        return [name or "others" for name in names]
    edges = [*kept["edges"], CELLS[kind]]
    return [f"{low / CELLS[kind]:.3g} to {high / CELLS[kind]:.3g}" for low, high in pairwise(edges)]


def _moved(kind: str, parts: Sequence[Part]) -> str:
    if not parts:
        return "their shares are others"
    if kind in ("score", "confidence"):
        place = np.arange(len(parts))
        before = float(place @ [one.before for one in parts]) / max(sum(one.before for one in parts), 1e-12)
        now = float(place @ [one.now for one in parts]) / max(sum(one.now for one in parts), 1e-12)
        word = "higher" if now > before + 0.1 else "lower" if now < before - 0.1 else "of another spread"
        most = max(parts, key=lambda one: abs(one.now - one.before))
        return f"they are {word}; {most.name} made up {_share(most.before)} and now {_share(most.now)}"
    most = parts[-1] if kind == "fallback" else max(parts, key=lambda one: abs(one.now - one.before))
    return f"{most.name} made up {_share(most.before)} and now {_share(most.now)}"


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"
