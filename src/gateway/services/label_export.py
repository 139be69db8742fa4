"""Statements as a file, in the columns that an import reads; whole or not at all under its name."""

from __future__ import annotations

import csv
import os
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

from gateway.ledger.label_rows import SaidRow
from gateway.services.label_files import load_parquet

__all__ = ["write"]

COLUMNS: Final = ("decision_id", "row", "label", "positive", "value", "signal", "time", "source")

_AT_ONCE: Final = 5_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def write(to: Path, rows: Iterable[SaidRow]) -> int:
    """Write `to`, as Parquet where its name says so, else as CSV. Returns: how many statements.

    Raises: OSError; LabelError, where Parquet cannot be written as pyarrow is not installed; LedgerUnavailable.
    """
    draft = to.with_name(f".{to.name}.{os.getpid()}")
    try:
        written = _parquet(draft, rows) if to.suffix == ".parquet" else _csv(draft, rows)
        draft.replace(to)
    finally:
        draft.unlink(missing_ok=True)
    return written


def _fields(row: SaidRow) -> dict[str, Any]:
    """A statement's columns; of label and positive one, as both say the same."""
    return {
        "decision_id": str(uuid.UUID(bytes=row.decision)),
        "row": row.row,
        "label": row.label,
        "positive": bool(row.positive) if row.label is None and row.positive is not None else None,
        "value": row.value,
        "signal": row.name or None,
        "time": None if row.event_us is None else _EPOCH + timedelta(microseconds=row.event_us),
        "source": row.source,
    }


def _csv(to: Path, rows: Iterable[SaidRow]) -> int:
    written = 0
    with to.open("w", encoding="utf-8", newline="") as text:
        lines = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        lines.writeheader()
        for row in rows:
            fields = _fields(row)
            time, positive = fields["time"], fields["positive"]
            lines.writerow(
                fields
                | {
                    "time": None if time is None else time.isoformat(),
                    "positive": None if positive is None else str(positive).lower(),
                }
            )
            written += 1
    return written


def _parquet(to: Path, rows: Iterable[SaidRow]) -> int:
    parquet = load_parquet()
    import pyarrow

    types = {
        "row": pyarrow.int32(),
        "positive": pyarrow.bool_(),
        "value": pyarrow.float64(),
        "time": pyarrow.timestamp("us", tz="UTC"),
    }
    schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in COLUMNS])
    written = 0
    with parquet.ParquetWriter(to, schema) as file:
        for group in _groups(rows):
            file.write_batch(pyarrow.RecordBatch.from_pylist([_fields(row) for row in group], schema))
            written += len(group)
    return written


def _groups(rows: Iterable[SaidRow]) -> Iterator[list[SaidRow]]:
    following = iter(rows)
    while group := list(islice(following, _AT_ONCE)):
        yield group
