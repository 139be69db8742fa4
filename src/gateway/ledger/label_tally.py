"""Labels counted in cells as they are kept, so that a report over millions of them reads thousands of cells.

A cell holds the labels that count: of each (prediction, row, source) the last revision, where it is a label and says
something. A correction takes its forerunner out of the old cell and adds itself to the new one, in the transaction
that keeps it; a probability that is put right later moves what it was said of. So the cells are at all times what
adding up the table `labels` would give; a property test holds them to that.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from gateway.ledger import rolling, schema
from gateway.ledger.grid import HOUR_US, NO_SCORE, SCORE_BINS

__all__ = ["FACTS", "Cell", "apply", "cell_of", "last_said", "move", "take_out"]

Cell = tuple[int, str, int, str, str, int, int, int, float, int, str, int]
"""As the key of `tally_labels`."""

FACTS: Final = (
    "kind",
    "label",
    "positive",
    "time_us",
    "route",
    "policy",
    "backend",
    "segment",
    "outcome",
    "flagged",
    "score",
    "review_pi",
    "sampled",
    "source",
)
"""The columns of `labels` that a cell is made from."""

_AT_ONCE: Final = 500


def cell_of(row: Mapping[str, Any]) -> Cell | None:
    """Where a label is counted, from its columns; None where it is none or says nothing.

    `flagged` and `positive` are 1, 0, or -1 where it is not known.
    """
    if row["kind"] != "label" or (row["label"] is None and row["positive"] is None):
        return None
    return (
        row["time_us"] // HOUR_US,
        row["route"],
        row["policy"],
        row["backend"],
        row["segment"],
        row["outcome"],
        _known(row["flagged"]),
        _bin(row["score"]),
        row["review_pi"],
        int(row["sampled"]),
        row["source"],
        _known(row["positive"]),
    )


def apply(connection: sa.Connection, changes: Mapping[Cell, int]) -> None:
    """Add to cells, or take out of them. The transaction is the caller's."""
    sums = {cell: [count] for cell, count in changes.items() if count}
    rolling.add(connection, schema.tally_labels, sums)


def last_said(connection: sa.Connection, decisions: Iterable[bytes]) -> Sequence[Mapping[str, Any]]:
    """The last revision of all labels about some decisions: `decision`, `row` and the columns of `FACTS`."""
    label, later = schema.labels, schema.labels.alias("later")
    superseded = sa.exists().where(
        later.c.decision == label.c.decision,
        later.c.row == label.c.row,
        later.c.source == label.c.source,
        later.c.kind == label.c.kind,
        later.c.revision > label.c.revision,
    )
    columns = [label.c[name] for name in ("decision", "row", *FACTS)]
    ids = sorted(set(decisions))
    found: list[Mapping[str, Any]] = []
    for start in range(0, len(ids), _AT_ONCE):
        some = label.c.decision.in_(ids[start : start + _AT_ONCE])
        query = sa.select(*columns).where(some, ~superseded)
        found += [row._asdict() for row in connection.execute(query)]
    return found


def move(connection: sa.Connection, raised: Mapping[tuple[bytes, int], float]) -> None:
    """What was said of some rows is from now on counted under another probability of review; before the labels' own
    is changed."""
    changes: Counter[Cell] = Counter()
    for row in last_said(connection, (decision for decision, _ in raised)):
        pi = raised.get((bytes(row["decision"]), row["row"]))
        cell = cell_of(row)
        if pi is not None and cell is not None:
            changes[cell] -= 1
            changes[*cell[:8], pi, *cell[9:]] += 1
    apply(connection, changes)


def take_out(connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Take labels that are about to be deleted out of their cells; `rows` as `last_said` gives them."""
    changes: Counter[Cell] = Counter()
    for row in rows:
        if (cell := cell_of(row)) is not None:
            changes[cell] -= 1
    apply(connection, changes)


def _known(said: bool | None) -> int:
    return -1 if said is None else int(said)


def _bin(score: float | None) -> int:
    """As `grid.score_bin`, of one score."""
    if score is None or not math.isfinite(score):
        return NO_SCORE
    return min(max(math.floor(score * SCORE_BINS), 0), SCORE_BINS - 1)
