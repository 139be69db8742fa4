"""Gates and their segments against columns of the ledger: which row counts for which gate of which segment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gateway.quality import Estimate, Labels, Predictions, measure_groups

if TYPE_CHECKING:
    from gateway.config.gates import Gate
    from gateway.ledger.gate_input import Cells

__all__ = ["ByRoute", "Slices", "estimates"]

Ints = NDArray[np.int64]


class Slices:
    """Segments' texts (`device=phone,country=de`) as gates mean them.

    Args:
        texts: every distinct text of some columns, in order.
    """

    def __init__(self, texts: NDArray[np.str_]) -> None:
        self._parts = [
            dict(part.partition("=")[::2] for part in text.split(",") if part) for text in texts.tolist()
        ]
        self._known: dict[str | None, tuple[list[str], Ints]] = {}

    def of(self, wanted: str | None) -> tuple[list[str], Ints]:
        """What a gate's `segment` names, and which of it each text belongs to (-1: none)."""
        if wanted not in self._known:
            self._known[wanted] = self._make(wanted)
        return self._known[wanted]

    def _make(self, wanted: str | None) -> tuple[list[str], Ints]:
        if wanted is None:
            return [""], np.zeros(len(self._parts), dtype=np.int64)
        name, equals, value = wanted.partition("=")
        if equals:
            return [wanted], np.array(
                [0 if part.get(name) == value else -1 for part in self._parts], dtype=np.int64
            )
        values = [part.get(name) for part in self._parts]
        names = sorted({one for one in values if one is not None})
        at = {one: index for index, one in enumerate(names)}
        return [f"{name}={one}" for one in names], np.array(
            [-1 if one is None else at[one] for one in values], dtype=np.int64
        )


class ByRoute:
    """Rows by route, in their order."""

    def __init__(self, route: NDArray[np.str_]) -> None:
        self._order = np.argsort(route, kind="stable")
        self._sorted = route[self._order]

    def rows(self, route: str) -> Ints:
        """Which rows are the route's."""
        if not len(self._sorted):
            return np.zeros(0, dtype=np.int64)
        first, last = (
            np.searchsorted(self._sorted, route, "left"),
            np.searchsorted(self._sorted, route, "right"),
        )
        return self._order[first:last]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One gate's rows of predictions and labels, each with its group, and the groups' segments."""

    segments: list[str]
    rows: Ints
    group: Ints
    label_rows: Ints
    label_group: Ints


def estimates(
    gates: Sequence[tuple[str, Gate]], predictions: Cells, labels: Cells
) -> list[list[tuple[str, Estimate, float]]]:
    """Measure gates, given by route, on a window's cells.

    Returns: for each, by segment that has predictions (a gate of all predictions, or of one segment, always has its
        own): the estimate, and one over the least probability of review of what the metric is about.
    """
    parts = list(_parts(gates, predictions, labels))
    sizes = np.array([len(part.segments) for part in parts], dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    rows, group = _joined(
        [(part.rows, part.group + start) for part, start in zip(parts, starts, strict=True)]
    )
    label_rows, label_group = _joined(
        [(part.label_rows, part.label_group + start) for part, start in zip(parts, starts, strict=True)]
    )
    metrics = [gate.metric for (_, gate), part in zip(gates, parts, strict=True) for _ in part.segments]
    flagged, pi = predictions.flagged[rows], predictions.pi[rows]
    made = measure_groups(
        metrics,
        group,
        Predictions(flagged, predictions.score[rows], pi, predictions.count[rows]),
        label_group,
        Labels(
            labels.flagged[label_rows],
            labels.score[label_rows],
            labels.pi[label_rows],
            labels.count[label_rows],
            labels.positive[label_rows],
        ),
    )
    flagged_only = np.array([one == "precision" for one in metrics], dtype=np.bool_)
    counted = (pi > 0) & (flagged | ~flagged_only[group])
    least = np.ones(len(metrics))
    np.minimum.at(least, group[counted], pi[counted])
    found, at = [], 0
    for part in parts:
        found.append(
            [
                (name, made[at + index], 1.0 / float(least[at + index]))
                for index, name in enumerate(part.segments)
            ]
        )
        at += len(part.segments)
    return found


def _parts(gates: Sequence[tuple[str, Gate]], predictions: Cells, labels: Cells) -> Iterator[_Part]:
    texts, code = np.unique(np.concatenate([predictions.segment, labels.segment]), return_inverse=True)
    slices = Slices(texts)
    by_route, labels_by_route = ByRoute(predictions.route), ByRoute(labels.route)
    for route, gate in gates:
        names, owner = slices.of(gate.segment)
        rows, label_rows = by_route.rows(route), labels_by_route.rows(route)
        group = owner[code[rows]]
        label_group = owner[code[len(predictions.segment) + label_rows]]
        if gate.segment is not None and "=" not in gate.segment:
            seen = np.unique(group[group >= 0])
            place = np.full(len(names), -1, dtype=np.int64)
            place[seen] = np.arange(len(seen))
            names = [names[one] for one in seen.tolist()]
            group = np.where(group >= 0, place[group], -1) if len(place) else group
            label_group = np.where(label_group >= 0, place[label_group], -1) if len(place) else label_group
        kept, label_kept = group >= 0, label_group >= 0
        yield _Part(names, rows[kept], group[kept], label_rows[label_kept], label_group[label_kept])


def _joined(columns: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    none = np.zeros(0, dtype=np.int64)
    rows, groups = zip(*columns, strict=True) if columns else ((none,), (none,))
    return np.concatenate(rows), np.concatenate(groups)
