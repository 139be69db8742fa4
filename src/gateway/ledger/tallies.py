"""A batch of records becomes a few sums and the rows that are kept one by one.

Records are grouped by numpy over their integer columns and named only afterwards, once per distinct key: at 20,000
records a second a Python loop over records would take a whole core.
"""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import Any, Protocol

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from gateway.ledger import label_tally, rolling, schema
from gateway.ledger.database import insert_once, insert_tasks, replace_unsampled
from gateway.ledger.grid import MOST_DIFFERENCE, hours, overhead_bucket, score_bin
from gateway.ledger.limits import Limits
from gateway.ledger.locks import lock_labels
from gateway.ledger.review import counts
from gateway.ledger.review.rules import USUAL, ReviewRules
from gateway.ledger.segments import OTHER_SEGMENT, Segments
from gateway.types import NO_INDEX, NO_STRING, UNKNOWN, reason_text

__all__ = ["Batch", "Delta", "reduce_batch", "store"]

Array = NDArray[Any]
Key = tuple[Any, ...]


class PolicyNames(Protocol):
    """The names behind the indexes of one policy version."""

    def route(self, index: int) -> str: ...
    def backend(self, index: int) -> str: ...
    def rule(self, route: int, index: int) -> str | None: ...


class Batch(Protocol):
    """What this room needs of a batch; the data plane's own is `gateway.runtime.batch.Batch`."""

    @property
    def records(self) -> Mapping[str, Array]: ...
    @property
    def mirrors(self) -> Mapping[str, Array]: ...
    @property
    def raises(self) -> Mapping[str, Array]: ...
    @property
    def strings(self) -> Sequence[str]: ...
    @property
    def captures(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def names(self) -> Mapping[int, PolicyNames]: ...


@dataclass(slots=True)
class Delta:
    """What some batches add to the ledger."""

    sums: dict[sa.Table, dict[Key, list[float]]] = field(default_factory=lambda: defaultdict(dict))
    decisions: list[dict[str, Any]] = field(default_factory=list)
    captures: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    raised: list[dict[str, Any]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    records: int = 0

    def merge(self, other: Delta) -> None:
        """Add another delta to this one."""
        for table, rows in other.sums.items():
            mine = self.sums[table]
            if not mine:
                mine.update(rows)
                continue
            for key, sums in rows.items():
                if mine.setdefault(key, sums) is not sums:
                    self.add(table, key, sums)
        self.decisions += other.decisions
        self.captures += other.captures
        self.tasks += other.tasks
        self.raised += other.raised
        self.dropped += other.dropped
        self.records += other.records

    def add(self, table: sa.Table, key: Key, sums: Sequence[float]) -> None:
        """Raise the sums under a key; the order is that of the table's columns."""
        rows = self.sums[table]
        there = rows.get(key)
        rows[key] = list(sums) if there is None else list(map(add, there, sums))


def reduce_batch(batch: Batch, delta: Delta, segments: Segments, limits: Limits) -> None:
    """Add a batch to `delta`. Records whose policy has no names are dropped and counted."""
    records = batch.records
    known = _known(records["policy"], batch.names)
    missing = len(known) - int(np.count_nonzero(known))
    if missing:
        delta.dropped["records.unknown_policy"] += missing
        records = {name: column[known] for name, column in records.items()}
    delta.records += len(records["row"])
    names = _Named(batch, segments)
    if len(records["row"]):
        hour = hours(records["time_us"])
        _calls(records, hour, names, delta)
        _scores(records, hour, names, delta)
        _overhead(records, hour, names, delta)
        kept = np.flatnonzero((records["sampled"] == 1) & (records["route"] != NO_INDEX))
        delta.decisions += _decisions({name: column[kept] for name, column in records.items()}, names)
    mirrors = batch.mirrors
    if len(mirrors["route"]):
        known = _known(mirrors["policy"], batch.names)
        delta.dropped["comparisons.unknown_policy"] += len(known) - int(np.count_nonzero(known))
        _shadow({name: column[known] for name, column in mirrors.items()}, names, delta)
    if len(batch.raises.get("row", ())):
        known = _known(batch.raises["policy"], batch.names)
        delta.dropped["raises.unknown_policy"] += len(known) - int(np.count_nonzero(known))
        _raises({name: column[known] for name, column in batch.raises.items()}, names, delta)
    _captures(batch.captures, delta, limits)


def store(
    connection: sa.Connection, delta: Delta, limits: Limits, rules: ReviewRules = USUAL
) -> Counter[str]:
    """Write a delta; returns what was dropped on the way. The transaction is the caller's, who writes the counts."""
    for table in sorted(delta.sums, key=lambda table: table.name):
        rolling.add(connection, table, delta.sums[table])
    replace_unsampled(connection, delta.decisions)
    _amend(connection, delta.raised)
    dropped: Counter[str] = Counter()
    tasks: list[dict[str, Any]] = []
    for queue in sorted({row["queue"] for row in delta.tasks}):
        is_open = counts.read(connection, queue).get(queue, {}).get("open", 0)
        room = max(0, limits.open_tasks - is_open)
        wanted = [row for row in delta.tasks if row["queue"] == queue]
        tasks += wanted[:room]
        dropped["review_tasks.queue_full"] += len(wanted[room:])
    tasks = [_with_rule(row, rules) for row in tasks]
    kept = {row["decision"] for row in tasks}
    insert_once(connection, schema.captures, [row for row in delta.captures if row["decision"] in kept])
    for queue, count in insert_tasks(connection, tasks).items():
        counts.note(connection, queue, "open", count)
    return dropped


def _with_rule(row: dict[str, Any], rules: ReviewRules) -> dict[str, Any]:
    """A task with what the settings give those of its route."""
    rule = rules.route(row["route"])
    due_us = schema.NEVER_US if rule.deadline_us is None else row["created_us"] + rule.deadline_us
    values = {name: value for name, value in row.items() if name != "route"}
    return {**values, "priority": rule.priority, "due_us": due_us}


class _Named:
    """Turns a record's indexes into names."""

    def __init__(self, batch: Batch, segments: Segments) -> None:
        self.policies = batch.names
        self.strings = batch.strings
        self._segments = segments

    def route(self, policy: int, route: int) -> str:
        return self.policies[policy].route(route)

    def segment(self, route: str, index: int) -> str:
        # A call without a segment has the text ""; no text at all means that the batch held too many others.
        return OTHER_SEGMENT if index == NO_STRING else self._segments.admit(route, self._text(index))

    def label(self, index: int) -> str | None:
        return None if index == NO_STRING else self._text(index)

    def _text(self, index: int) -> str:
        return self.strings[index].replace("\0", "\N{REPLACEMENT CHARACTER}")  # PostgreSQL's text has no NUL


def _known(policies: Array, names: Mapping[int, PolicyNames]) -> NDArray[np.bool_]:
    return np.isin(policies, np.fromiter(names, dtype=np.int64, count=len(names)))


def _groups(columns: Sequence[Array]) -> tuple[list[Array], Array]:
    """Distinct rows of some integer columns: each column's values at them, and which one every row belongs to."""
    length = len(columns[0])
    code, span = np.zeros(length, dtype=np.int64), 1
    for column in columns:
        if column.min() == column.max():
            continue
        values, index = np.unique(column, return_inverse=True)
        if span * len(values) >= 2**62:  # the code would overflow: number what is there so far anew
            there, code = np.unique(code, return_inverse=True)
            span = len(there)
        code = code * len(values) + index
        span *= len(values)
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    return [column[first] for column in columns], inverse


def _rows(columns: Sequence[Array]) -> Iterator[Key]:
    """Columns -> tuples of Python's own numbers."""
    return zip(*(column.tolist() for column in columns), strict=True)


def _calls(records: Mapping[str, Array], hour: Array, names: _Named, delta: Delta) -> None:
    columns = ("policy", "route", "backend", "segment", "outcome", "reason", "rule")
    keys, group = _groups([hour, *(records[name] for name in columns)])
    rows = np.bincount(group)
    calls = np.bincount(group, weights=records["row"] == 0, minlength=len(rows)).astype(np.int64)
    for (at, policy, route_index, backend, segment, outcome, reason, rule), *sums in zip(
        _rows(keys), calls.tolist(), rows.tolist(), strict=True
    ):
        of = names.policies[policy]
        route = of.route(route_index)
        words = reason_text(reason, of.rule(route_index, rule))
        key = (at, route, policy, of.backend(backend), names.segment(route, segment), outcome, words)
        delta.add(schema.tally_calls, key, sums)


def _scores(records: Mapping[str, Array], hour: Array, names: _Named, delta: Delta) -> None:
    predicted = (
        (records["flagged"] != UNKNOWN) | np.isfinite(records["score"]) | (records["label"] != NO_STRING)
    )
    predicted &= records["route"] != NO_INDEX
    if not predicted.any():
        return
    columns = [
        records[name][predicted] for name in ("policy", "route", "backend", "segment", "outcome", "flagged")
    ]
    pi = records["review_pi"][predicted].astype(np.float32).view(np.uint32)
    keys, group = _groups([hour[predicted], *columns, score_bin(records["score"][predicted]), pi])
    keys[-1] = keys[-1].view(np.float32).astype(np.float64)
    counts = np.bincount(group)
    sampled = np.bincount(group, weights=records["sampled"][predicted] == 1, minlength=len(counts))
    for (at, policy, route_index, backend, segment, outcome, flagged, score, weight), *sums in zip(
        _rows(keys), counts.tolist(), sampled.astype(np.int64).tolist(), strict=True
    ):
        of = names.policies[policy]
        route = of.route(route_index)
        flag = -1 if flagged == UNKNOWN else flagged
        key = (
            at,
            route,
            policy,
            of.backend(backend),
            names.segment(route, segment),
            outcome,
            flag,
            score,
            weight,
        )
        delta.add(schema.tally_scores, key, sums)


def _overhead(records: Mapping[str, Array], hour: Array, names: _Named, delta: Delta) -> None:
    call = records["row"] == 0
    if not call.any():
        return
    bucket = overhead_bucket(records["overhead_us"][call])
    keys, group = _groups([hour[call], records["policy"][call], records["route"][call], bucket])
    for (at, policy, route, bucket_index), calls in zip(
        _rows(keys), np.bincount(group).tolist(), strict=True
    ):
        delta.add(schema.tally_overhead, (at, names.route(policy, route), bucket_index), [calls])


def _shadow(mirrors: Mapping[str, Array], names: _Named, delta: Delta) -> None:
    if not len(mirrors["route"]):
        return
    keyed = ("policy", "route", "backend", "to", "segment", "noise")
    keys, group = _groups([hours(mirrors["time_us"]), *(mirrors[name] for name in keyed)])
    compared, agree, difference = mirrors["result"] == 0, mirrors["agree"], mirrors["difference"]
    judged = compared & (agree != UNKNOWN)
    scored = compared & (np.abs(difference) < MOST_DIFFERENCE)
    step = np.where(scored, difference, 0.0)
    counts = (compared, ~compared, judged, judged & (agree == 1), scored)
    sums = [np.bincount(group, weights=weights).astype(np.int64).tolist() for weights in counts]
    sums += [np.bincount(group, weights=weights).tolist() for weights in (step, step * step, np.abs(step))]
    for (at, policy, route_index, backend, shadow, segment, noise), *values in zip(
        _rows(keys), *sums, strict=True
    ):
        of = names.policies[policy]
        route = of.route(route_index)
        ends = (of.backend(backend), of.backend(shadow), names.segment(route, segment), noise)
        delta.add(schema.tally_shadow, (at, route, policy, *ends), values)


def _raises(raises: Mapping[str, Array], names: _Named, delta: Delta) -> None:
    """Predictions whose probability a shadow's contradiction raised, after their records were counted.

    They move from one cell of the tally to another, by the hour of the prediction; those that are now sampled are kept,
    those that were so before have their probability put right.
    """
    hour, bins = hours(raises["time_us"]).tolist(), score_bin(raises["score"]).tolist()
    pis = [raises[name].astype(np.float64).tolist() for name in ("review_pi_before", "review_pi")]
    chosen = [raises[name].tolist() for name in ("sampled_before", "sampled")]
    columns = zip(
        *(raises[name].tolist() for name in ("policy", "route", "backend", "segment", "outcome", "flagged")),
        strict=True,
    )
    for at, (policy, route_index, backend, segment, outcome, flagged) in enumerate(columns):
        of = names.policies[policy]
        route = of.route(route_index)
        cell = (hour[at], route, policy, of.backend(backend), names.segment(route, segment), outcome)
        flag = -1 if flagged == UNKNOWN else flagged
        for rows, pi, sampled in zip((-1, 1), pis, chosen, strict=True):
            delta.add(schema.tally_scores, (*cell, flag, bins[at], pi[at]), [rows, rows * sampled[at]])
    now, before = raises["sampled"] == 1, raises["sampled_before"] == 1
    fresh, known = np.flatnonzero(now & ~before), np.flatnonzero(now & before)
    delta.decisions += _decisions({name: column[fresh] for name, column in raises.items()}, names)
    delta.raised += [
        {"of": row["decision"], "at": row["row"], "pi": row["review_pi"], "now": row["stratum"]}
        for row in _decisions({name: column[known] for name, column in raises.items()}, names)
    ]


def _amend(connection: sa.Connection, raised: Sequence[Mapping[str, Any]]) -> None:
    """Put the probabilities of rows that were kept before right; a label may be there already."""
    if not raised:
        return
    decision, label = schema.decisions, schema.labels
    now: dict[str, Any] = {"review_pi": sa.bindparam("pi"), "stratum": sa.bindparam("now")}
    kept = (decision.c.decision == sa.bindparam("of"), decision.c.row == sa.bindparam("at"))
    connection.execute(sa.update(decision).where(*kept).values(now), raised)
    lock_labels(connection, alone=True)
    label_tally.move(connection, {(row["of"], row["at"]): row["pi"] for row in raised})
    said = (label.c.decision == sa.bindparam("of"), label.c.row == sa.bindparam("at"))
    pis = [{name: row[name] for name in ("of", "at", "pi")} for row in raised]
    connection.execute(sa.update(label).where(*said).values({"review_pi": sa.bindparam("pi")}), pis)


def _decisions(records: Mapping[str, Array], names: _Named) -> list[dict[str, Any]]:
    """Sampled predictions, one row each; few enough for a loop."""
    decisions = []
    columns = {name: column.tolist() for name, column in records.items()}
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        of = names.policies[row["policy"]]
        route = of.route(row["route"])
        decisions.append(
            {
                "decision": struct.pack(">QQ", row["id_hi"], row["id_lo"]),
                "row": row["row"],
                "time_us": row["time_us"],
                "policy": row["policy"],
                "route": route,
                "backend": of.backend(row["backend"]),
                "segment": names.segment(route, row["segment"]),
                "outcome": row["outcome"],
                "reason": reason_text(row["reason"], of.rule(row["route"], row["rule"])),
                "label": names.label(row["label"]),
                "score": _number(row["score"]),
                "confidence": _number(row["confidence"]),
                "flagged": None if row["flagged"] == UNKNOWN else bool(row["flagged"]),
                "stratum": None if row["stratum"] == UNKNOWN else row["stratum"],
                "review_pi": row["review_pi"],
                "sampled": True,
                "arm": of.backend(row["arm"]) or None,
                "propensity": row["propensity"],
                "unit": struct.unpack(">q", struct.pack(">Q", row["unit"]))[0],
            }
        )
    return decisions


def _captures(captures: Sequence[Mapping[str, Any]], delta: Delta, limits: Limits) -> None:
    """Tasks from captured calls. Their facts are joined from `decisions` by id, in whichever batch the record came."""
    for capture in captures:
        if len(capture["request"]) + len(capture["answer"]) > limits.task_bytes:
            delta.dropped["review_tasks.too_large"] += len(capture["rows"])
            continue
        decision, time_us = bytes(capture["id"]), int(capture["time_us"])
        delta.captures.append(
            {
                "decision": decision,
                "time_us": time_us,
                "request": bytes(capture["request"]),
                "answer": bytes(capture["answer"]),
            }
        )
        delta.tasks += [
            {
                "decision": decision,
                "row": int(row),
                "queue": capture["queue"],
                "home": capture["queue"],
                "route": capture["route"],
                "created_us": time_us,
                "lease_token": 0,
                "lease_until_us": 0,
                "reviewer": "",
            }
            for row in capture["rows"]
        ]


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
