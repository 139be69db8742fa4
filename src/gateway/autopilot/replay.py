"""What yesterday's calls would have come to under another threshold, floor or policy.

Scores are recorded, so that flags and floors can be judged again; what was not asked is not known: where a call would
have gone on to another model, that model's answer is missing, and where it fell back, the first model's. What cannot be
judged again is counted and said, never guessed. Arms that were drawn by lot are compared by SNIPS.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from gateway.autopilot.thresholds import confidence
from gateway.ledger import Reader, Window, schema
from gateway.ledger.grid import HOUR_US, NO_SCORE, SCORE_BINS
from gateway.ledger.labels import REVIEW, superseded
from gateway.quality import Estimate, Labels, Predictions, Rewards, measure, off_policy
from gateway.types import UNPREDICTED, Outcome

__all__ = ["Decided", "Replay", "What", "replay"]

Bools = NDArray[np.bool_]

SEED: Final = 0


@dataclass(frozen=True, slots=True)
class What:
    """The other way to decide. `threshold`, `floor`: as they would be; with no `floor`, who was sure enough stays so.

    `instead`: what the answer behind the first model flags, where that answer is static; None where another model would
    have been asked, or nothing is known of it.
    """

    threshold: float
    floor: float | None = None
    instead: bool | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """One way to decide the window's predictions. `flagged`: the share of those whose flag is known."""

    threshold: float
    floor: float | None
    flagged: float | None
    precision: Estimate
    recall: Estimate

    def as_dict(self) -> dict[str, object]:
        """As `gateway replay --json` prints it."""
        return {
            "threshold": self.threshold,
            "floor": self.floor,
            "flagged_share": self.flagged,
            "precision": self.precision.as_dict(),
            "recall": self.recall.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class Replay:
    """A window decided once more.

    `predictions`: that a model, a fallback or a static answer made. `before`: as they were decided; `after`: as they
    would be. `newly_flagged`, `no_longer_flagged`: predictions. `would_miss`: of the first model, those that were sure
    enough and would not be; `unknown`: those among them whose flag would be that of a model nobody asked, which `after`
    leaves out. `missed`: fell back for low confidence, so that nothing is recorded of what the first model said.
    `arms`: precision of each arm at the new threshold, by SNIPS, over all traffic that was explored. `notes`: in words.
    """

    route: str
    predictions: int
    before: Decided
    after: Decided
    newly_flagged: int
    no_longer_flagged: int
    would_miss: int
    unknown: int
    missed: int
    arms: dict[str, Estimate]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """As `gateway replay --json` prints it."""
        return {
            "route": self.route,
            "predictions": self.predictions,
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
            "newly_flagged": self.newly_flagged,
            "no_longer_flagged": self.no_longer_flagged,
            "would_miss": self.would_miss,
            "unknown": self.unknown,
            "missed": self.missed,
            "arms": {name: one.as_dict() for name, one in self.arms.items()},
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Predictions, or labels, of one route by what they are decided by; columns of shape (c,)."""

    outcome: NDArray[np.int64]
    flagged: Bools
    score: NDArray[np.float64]
    pi: NDArray[np.float64]
    positive: Bools
    count: NDArray[np.int64]


def replay(reader: Reader, route: str, window: Window, what: What, now: What, *, binary: bool) -> Replay:
    """Decide a window once more.

    Args:
        window: of the route. what: the other way. now: the threshold and the floor in force, for showing. binary:
        whether the route has two classes, so that a score's confidence is the larger of it and its complement; else a
        floor is not judged.
    Raises: LedgerUnavailable when the ledger cannot be read now.
    """
    came = _cells(reader, window, schema.tally_scores, labels=False)
    known = _cells(reader, window, schema.tally_labels, labels=True)
    notes = []
    if what.floor is not None and not binary:
        notes.append(
            "the floor is not judged again: with more than two classes the score alone does not say how sure"
        )
        what = replace(what, floor=None)
    flags, hidden, miss = _decide(came, what)
    flags_of, hidden_of, _ = _decide(known, what)
    unknown = int(came.count[hidden].sum())
    if unknown:
        notes.append(
            f"{unknown:,} would have gone on to a model that was not asked: what it would have said is not known, and "
            "the numbers leave them out"
        )
    missed = _fell_back(reader, window)
    if missed and what.floor is not None and now.floor is not None and what.floor < now.floor:
        notes.append(
            f"{missed:,} fell back for low confidence; with a lower floor some would not, but what the first model "
            "said of them is not recorded"
        )
    left = ~hidden
    return Replay(
        route,
        int(came.count.sum()),
        _decided(now, came, known, (came.flagged, known.flagged), (came.count > 0, known.count > 0)),
        _decided(
            replace(what, floor=now.floor if what.floor is None else what.floor),
            came,
            known,
            (flags, flags_of),
            (left, ~hidden_of),
        ),
        int(came.count[left & flags & ~came.flagged].sum()),
        int(came.count[left & ~flags & came.flagged].sum()),
        int(came.count[miss].sum()),
        unknown,
        missed,
        _arms(reader, window, what.threshold),
        tuple(notes),
    )


def _decide(cells: _Cells, what: What) -> tuple[Bools, Bools, Bools]:
    """Of each cell: whether it would be flagged, whether that is unknown, and whether the first model would miss.

    A static answer and one without a score keep their flag.
    """
    scored = np.isfinite(cells.score) & np.isin(cells.outcome, (Outcome.MODEL, Outcome.FALLBACK))
    score = np.where(scored, cells.score, 0.0)
    flags = np.where(scored, score >= what.threshold, cells.flagged)
    miss = np.zeros(len(score), dtype=np.bool_)
    if what.floor is not None:
        miss = scored & (cells.outcome == Outcome.MODEL) & (confidence(score) < what.floor)
    if what.instead is None:
        return flags, miss, miss
    return np.where(miss, what.instead, flags), np.zeros(len(score), dtype=np.bool_), miss


def _decided(
    what: What, came: _Cells, known: _Cells, flags: tuple[Bools, Bools], kept: tuple[Bools, Bools]
) -> Decided:
    of_came, of_known = kept
    predictions = Predictions(flags[0][of_came], came.score[of_came], came.pi[of_came], came.count[of_came])
    labels = Labels(
        flags[1][of_known],
        known.score[of_known],
        known.pi[of_known],
        known.count[of_known],
        known.positive[of_known],
    )
    numbers = measure(predictions, labels, np.random.default_rng(SEED))
    share = numbers.flagged / numbers.predictions if numbers.predictions else None
    return Decided(what.threshold, what.floor, share, numbers.precision, numbers.recall)


def _cells(reader: Reader, window: Window, tally: sa.Table, *, labels: bool) -> _Cells:
    keys = ["outcome", "flagged", "score_bin", "review_pi"]
    if labels:
        found = reader.summed(tally, window, ("source", "sampled", "positive", *keys))
        # A review of what was not sampled has no probability that it could be weighted by.
        pairs = [(row[3:], row[2] == 1) for row in found if row[0] == REVIEW and row[1] and row[2] >= 0]
    else:
        pairs = [(row, False) for row in reader.summed(tally, window, keys, ("rows",))]
    good = [(row, yes) for row, yes in pairs if row[0] not in UNPREDICTED and row[1] >= 0 and row[4] > 0]
    columns = list(zip(*(row for row, _ in good), strict=True)) if good else [()] * 5
    bins = np.array(columns[2], dtype=np.float64)
    return _Cells(
        np.array(columns[0], dtype=np.int64),
        np.array(columns[1], dtype=np.int64) == 1,
        np.where(bins == NO_SCORE, np.nan, bins / SCORE_BINS),
        np.array(columns[3], dtype=np.float64),
        np.array([yes for _, yes in good], dtype=np.bool_),
        np.array(columns[4], dtype=np.int64),
    )


def _fell_back(reader: Reader, window: Window) -> int:
    rows = reader.summed(schema.tally_calls, window, ("reason",), ("rows",))
    return sum(int(count) for reason, count in rows if reason == "low_confidence")


def _arms(reader: Reader, window: Window, threshold: float) -> dict[str, Estimate]:
    """Of what each arm flags at the threshold, the share that is positive, as if it had had all the traffic."""
    label = schema.labels
    query = sa.select(label.c.arm, label.c.propensity, label.c.positive, label.c.review_pi).where(
        label.c.source == REVIEW,
        label.c.kind == "label",
        label.c.sampled,
        label.c.positive.is_not(None),
        label.c.arm.is_not(None),
        label.c.arm == label.c.backend,  # a fallback's answer is not the arm's
        label.c.score >= threshold,
        ~superseded(label),
    )
    since, until = window.hours
    if since is not None:
        query = query.where(label.c.time_us >= since * HOUR_US)
    if until is not None:
        query = query.where(label.c.time_us < until * HOUR_US)
    if window.route is not None:
        query = query.where(label.c.route == window.route)

    def read(connection: sa.Connection) -> list[Any]:
        return list(connection.execute(query))

    rows = reader.snapshot(read)
    names = sorted({row[0] for row in rows})
    if len(names) < 2:
        return {}
    number = {name: index for index, name in enumerate(names)}
    rewards = Rewards.of(
        [float(row[2]) for row in rows],
        [row[1] for row in rows],
        [number[row[0]] for row in rows],
        len(names),
        pi=[row[3] for row in rows],
    )
    return dict(zip(names, off_policy(rewards, "snips").arms, strict=True))
