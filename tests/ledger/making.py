"""Batches, labels and ledgers for tests."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from gateway.ledger import Facts, LabelRow, RouteClasses, truth_of
from gateway.ledger.database import writer_engine
from gateway.runtime.batch import Batch, PolicyNames
from gateway.types import NO_INDEX, NO_STRING, UNKNOWN

HOUR_US = 3_600_000_000
NOW_US = 1_790_000_000_000_000
CLASSES = RouteClasses(("ham", "spam"), "spam")
NAMES = {7: PolicyNames(("spam", "fraud"), ("spam-v3", "spam-lite", "ham"), (("allow-list",), ()))}
FACTS = Facts(
    time_us=NOW_US,
    policy=7,
    route="spam",
    backend="spam-v3",
    segment="device=phone",
    outcome=0,
    score=0.9,
    flagged=True,
    review_pi=0.25,
    sampled=True,
)

_RECORD: Mapping[str, tuple[str, Any]] = {
    "id_hi": ("u8", 0),
    "id_lo": ("u8", 0),
    "row": ("u4", 0),
    "rows": ("u4", 1),
    "time_us": ("i8", NOW_US),
    "duration_us": ("u4", 1000),
    "overhead_us": ("f4", 50.0),
    "policy": ("u4", 7),
    "route": ("u2", 0),
    "backend": ("u2", 0),
    "outcome": ("u1", 0),
    "reason": ("u1", 0),
    "rule": ("u2", NO_INDEX),
    "label": ("u4", NO_STRING),
    "flagged": ("u1", UNKNOWN),
    "score": ("f8", np.nan),
    "confidence": ("f8", np.nan),
    "segment": ("u4", NO_STRING),
    "unit": ("u8", 2**63 + 5),
    "stratum": ("u1", UNKNOWN),
    "review_pi": ("f4", 0.0),
    "sampled": ("u1", 0),
    "arm": ("u2", NO_INDEX),
    "propensity": ("f4", 1.0),
    "status": ("u1", 0),
}
_MIRROR: Mapping[str, tuple[str, Any]] = {
    "time_us": ("i8", NOW_US),
    "policy": ("u4", 7),
    "route": ("u2", 0),
    "backend": ("u2", 0),
    "to": ("u2", 1),
    "result": ("u1", 0),
    "noise": ("u1", 0),
    "segment": ("u4", NO_STRING),
    "agree": ("u1", UNKNOWN),
    "difference": ("f8", np.nan),
}
_RAISE: Mapping[str, tuple[str, Any]] = {
    **{
        name: form
        for name, form in _RECORD.items()
        if name not in ("rows", "duration_us", "overhead_us", "status")
    },
    "stratum": ("u1", 4),
    "review_pi_before": ("f4", 0.0),
    "sampled_before": ("u1", 0),
}


@dataclass
class Clock:
    """A time that a test sets."""

    now_us: int = NOW_US

    def __call__(self) -> int:
        return self.now_us

    def pass_s(self, seconds: float) -> None:
        self.now_us += int(seconds * 1_000_000)


def columns(
    form: Mapping[str, tuple[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> dict[str, NDArray[Any]]:
    """Rows given by what differs from an ordinary record -> columns as the data plane makes them."""
    return {
        name: np.array([row.get(name, usual) for row in rows], dtype=kind)
        for name, (kind, usual) in form.items()
    }


def batch(
    records: Sequence[Mapping[str, Any]] = (),
    mirrors: Sequence[Mapping[str, Any]] = (),
    strings: Sequence[str] = (),
    captures: Sequence[Mapping[str, Any]] = (),
    raises: Sequence[Mapping[str, Any]] = (),
) -> Batch:
    """A batch of the policy version 7; rows that name no segment have the empty one."""
    records, mirrors, raises = (
        [{"segment": len(strings), **row} for row in rows] for rows in (records, mirrors, raises)
    )
    return Batch(
        records=columns(_RECORD, records),
        attempts={},
        mirrors=columns(_MIRROR, mirrors),
        strings=[*strings, ""],
        captures=captures,
        names=NAMES,
        raises=columns(_RAISE, raises),
    )


def decision(number: int) -> bytes:
    """A decision id."""
    return uuid.UUID(int=number).bytes


def sampled(number: int, rows: int = 1, queue: str = "moderation") -> Batch:
    """One call of some rows, all of them sampled and captured."""
    records = [
        {
            "id_lo": number,
            "row": row,
            "rows": rows,
            "sampled": 1,
            "review_pi": 0.25,
            "score": 0.9,
            "flagged": 1,
            "stratum": 1,
            "segment": 0,
            "label": 1,
        }
        for row in range(rows)
    ]
    capture = {
        "id": decision(number),
        "rows": list(range(rows)),
        "route": "spam",
        "queue": queue,
        "request": b"request %d" % number,
        "answer": b"answer %d" % number,
        "policy": 7,
        "time_us": NOW_US,
    }
    return batch(records, strings=["device=phone", "spam"], captures=[capture])


def label(
    number: int,
    positive: bool | None = True,
    *,
    row: int = 0,
    source: str = "app",
    value: float | None = None,
    received_us: int = NOW_US,
    **facts: Any,
) -> LabelRow:
    """A label about one prediction of the route `spam`."""
    truth = truth_of("spam", CLASSES, positive=None if value is not None else positive, value=value)
    return LabelRow(decision(number), row, source, truth, replace(FACTS, **facts), received_us)


@contextmanager
def another(url: str) -> Iterator[sa.Connection]:
    """A transaction of another process on the same database; committed at the end."""
    engine = writer_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def locked(url: str, *tables: str) -> Iterator[None]:
    """Another process holds some tables (in SQLite: the whole database)."""
    with another(url) as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
        yield


def wait_for(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    """Poll until something holds; fail when it does not in time."""
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "it did not come to hold in time"
        time.sleep(0.01)
