"""A plan becomes a folder."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from gateway.datasets.card import Made, card, redacted
from gateway.datasets.coverage import coverage
from gateway.datasets.folder import CARD, place
from gateway.datasets.payloads import Payloads, Redaction
from gateway.datasets.plan import Plan
from gateway.datasets.source import Columns, Row, Source, columns
from gateway.datasets.splits import Splitter, UnitSet, counted
from gateway.datasets.table import Tables, arrow
from gateway.datasets.tally import Agreement, SplitTally
from gateway.datasets.words import readme
from gateway.errors import DataSetError
from gateway.ledger import Reader
from gateway.ledger.schema import HEAD

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ROW_GROUP_BYTES", "ROW_GROUP_ROWS", "export"]

ROW_GROUP_ROWS: Final = 65_536
"""Rows of a row group: one for each split is held in memory."""

ROW_GROUP_BYTES: Final = 32 * 1024 * 1024
"""A row group is written before its rows have so many; inputs may be large."""


def export(
    reader: Reader,
    out: Path,
    plan: Plan,
    *,
    salt_hex: str,
    redaction: Redaction | None = None,
    force: bool = False,
    command: str = "",
    note: Callable[[Mapping[str, Any]], None] = lambda _: None,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> dict[str, Any]:
    """Write the labelled decisions that a plan means into the folder `out`; returns what its card.json holds.

    Args:
        salt_hex: 64 hex digits; splits and pseudonyms follow from it. redaction: what today's settings take out.
        force: replace a data set that stands there. note: told of the card before the folder appears; what it raises
        ends the export, so that nothing leaves unnoted.
    Raises: DataSetError, LedgerUnavailable. Nothing is left behind then.
    """
    pa = arrow()
    with place(out, force=force) as folder:
        work = partial(
            _write, folder, plan, salt_hex, redaction or Redaction(), Made(now_us(), command, HEAD)
        )
        try:
            made: dict[str, Any] = reader.snapshot(work)
        except pa.ArrowException as error:
            raise DataSetError(
                f"{out} could not be written: {error}; nothing of it is left behind"
            ) from error
        (folder / CARD).write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n")
        (folder / "README.md").write_text(readme(made))
        note(made)
    return made


def _write(
    folder: Path, plan: Plan, salt_hex: str, redaction: Redaction, made: Made, connection: sa.Connection
) -> dict[str, Any]:
    """Everything that is read, from one state of the ledger."""
    source = Source(connection, plan)
    policies = source.policies()
    payloads = Payloads(policies, redaction)
    if plan.inputs:
        payloads.look(source.captured())
    cuts_us = _cuts(plan, source)
    splitter = Splitter(plan, salt_hex, cuts_us, _later(plan, source, Splitter(plan, salt_hex, cuts_us)))
    tables = Tables(salt_hex, plan.splits, source.segments(), payloads.columns, payloads.has_json)
    tallies = {name: SplitTally() for name in plan.splits}
    agreement, dropped = Agreement(), Counter[str]()
    with _Files(folder, plan.splits, tables.schema) as files:
        for rows in source.rows():
            held = columns(rows)
            assigned = splitter.assign(held["unit"], held["decision"], held["call_us"])
            dropped.update(counted(assigned))
            for read, table in _tables(source, payloads, tables, rows, held, assigned):
                _compare(agreement, read)
                for number, part in enumerate(_parted(table, plan.splits)):
                    tallies[plan.splits[number]].add(part)
                    files.add(number, part)
    _refuse_empty(plan, tallies, dropped)
    hidden = redacted(plan, policies, redaction) if plan.inputs else {}
    covered = coverage(connection, plan.window)
    return card(made, plan, cuts_us, tallies, dropped, agreement, covered, payloads, hidden)


def _tables(
    source: Source,
    payloads: Payloads,
    tables: Tables,
    rows: Sequence[Row],
    held: Columns,
    assigned: NDArray[np.int64],
) -> Iterator[tuple[Columns, pa.Table]]:
    """The rows that are in some split, in portions that fit in memory: as they were read, and as a table."""
    kept = np.flatnonzero(assigned >= 0).tolist()
    if not kept:
        return
    if len(kept) < len(rows):
        rows, assigned = [rows[index] for index in kept], assigned[kept]
        held = {name: [column[index] for index in kept] for name, column in held.items()}
    if not payloads.is_captured:
        yield held, tables.table(held, assigned.tolist(), {})
        return
    start = 0
    for portion, requests in source.requests(rows):
        end = start + len(portion)
        part = {name: column[start:end] for name, column in held.items()}
        yield part, tables.table(part, assigned[start:end].tolist(), payloads.read(portion, requests))
        start = end


def _compare(agreement: Agreement, held: Columns) -> None:
    which = [index for index, kind in enumerate(held["kind"]) if kind == "label"]
    names = ("decision", "row", "source", "label", "positive")
    agreement.add(*([held[name][index] for index in which] for name in names))


def _parted(table: pa.Table, splits: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of each split."""
    import pyarrow.compute as pc

    for name in splits:
        yield table if len(splits) == 1 else table.filter(pc.equal(table.column("split"), name))


def _cuts(plan: Plan, source: Source) -> list[int]:
    """By time, where the splits end."""
    split = plan.split
    if split is None or split.by == "unit":
        return []
    if split.at_us is not None:
        return [split.at_us]
    count = source.count()
    found = [source.time_at(min(int(count * cut), count - 1)) for cut in split.cuts] if count else []
    return [cut for cut in found if cut is not None]


def _later(plan: Plan, source: Source, by_time: Splitter) -> list[UnitSet]:
    """By time, the units of the splits after each one but the last."""
    if plan.split is None or plan.split.by == "unit":
        return []
    later = [UnitSet() for _ in plan.splits[1:]]
    for rows in source.times():
        known = [(row.unit, row.call_us) for row in rows if row.unit is not None]
        units = np.array([unit for unit, _ in known], dtype=np.int64)
        side = by_time.side(np.array([at for _, at in known], dtype=np.int64))
        for index, there in enumerate(later):
            there.add(units[side > index])
    return later


def _refuse_empty(plan: Plan, tallies: Mapping[str, SplitTally], dropped: Mapping[str, int]) -> None:
    empty = [name for name, tally in tallies.items() if not tally.rows]
    if not empty:
        return
    out = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items() if count)
    if plan.split is None or (len(empty) == len(tallies) and not out):
        raise DataSetError(
            "no labelled decision is in this window; widen --since and --until, look at --route, or wait for labels "
            "(`gateway report` shows how many there are)"
        )
    mend = "choose other shares or a wider window"
    if dropped["unit_unknown"]:
        mend += "; --unknown-units call takes each call whose unit is not known as a unit of its own"
    if dropped["unit_in_later_split"]:
        mend += "; --split unit:0.8 parts units instead of times"
    raise DataSetError(f"nothing is in {' and '.join(empty)}{f' (left out: {out})' if out else ''}; {mend}")


class _Files:
    """A Parquet file for each split, written a row group at a time."""

    def __init__(self, folder: Path, names: Sequence[str], schema: pa.Schema) -> None:
        self._pq = arrow().parquet
        self._folder = folder
        self._names = names
        self._schema = schema
        self._writers: list[Any] = []
        self._waiting: list[list[pa.Table]] = [[] for _ in names]

    def add(self, number: int, table: pa.Table) -> None:
        if not table.num_rows:
            return
        waiting = self._waiting[number]
        waiting.append(table)
        rows, size = sum(one.num_rows for one in waiting), sum(one.nbytes for one in waiting)
        if rows >= ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
            self._flush(number)

    def __enter__(self) -> Self:
        try:
            for name in self._names:
                file = str(self._folder / f"{name}.parquet")
                self._writers.append(self._pq.ParquetWriter(file, self._schema, compression="zstd"))
        except BaseException:
            self._give_up()
            raise
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        if failed is not None:
            self._give_up()
            return
        try:
            for number, writer in enumerate(self._writers):
                self._flush(number)
                writer.close()
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Close what is open; the files are of no use any more."""
        for writer in self._writers:
            with contextlib.suppress(Exception):
                writer.close()

    def _flush(self, number: int) -> None:
        waiting, self._waiting[number] = self._waiting[number], []
        if waiting:
            table = arrow().concat_tables(waiting)
            self._writers[number].write_table(table, row_group_size=ROW_GROUP_ROWS)
