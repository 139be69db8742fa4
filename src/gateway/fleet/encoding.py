"""A batch as a message, and back.

Columns travel as they lie in memory, little-endian, by name and kind: 2,500 records are packed in well under a
millisecond, where a message per record would cost a core. What arrives is not trusted: see `gateway.fleet.forms`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from gateway.fleet.forms import KINDS, LATEST_US, LEAST, MOST_NUMBER, UNSENT, Malformed, check_columns
from gateway.runtime.batch import Batch, PolicyNames
from gateway.v1 import fleet_pb2

__all__ = ["MOST_BATCH_BYTES", "MOST_ROWS", "RUN_BYTES", "Malformed", "decode", "encode", "messages", "parse"]

MOST_BATCH_BYTES: Final = 4 * 1024 * 1024 - 65_536
"""One message. A gRPC server has one bound for all of its services, and what anybody may send to control (feedback)
must not be larger than gRPC's usual 4 MiB: so a batch that is goes up in parts."""

MOST_ROWS: Final = 262_144
"""Rows of one table of a batch."""

MOST_NAMES: Final = 4_096
"""Routes or backends of a policy, as the settings allow."""

MOST_TEXT: Final = 4_096
"""Characters of a name."""

RUN_BYTES: Final = 16

Array = NDArray[Any]


def encode(batch: Batch, *, run: bytes, sequence: int, sidecar: str) -> bytes:
    """The message of a batch; names of policies that it does not speak of are left out."""
    message = fleet_pb2.RecordBatch(run=run, sequence=sequence, sidecar=sidecar, rows=len(batch))
    tables = (
        (message.records, batch.records),
        (message.mirrors, batch.mirrors),
        (message.raises, batch.raises),
    )
    versions: set[int] = set()
    for to, columns in tables:
        _pack(to, columns)
        if "policy" in columns:
            versions.update(np.unique(columns["policy"]).tolist())
    message.strings.extend(batch.strings)
    for capture in batch.captures:
        message.captures.add(
            decision=bytes(capture["id"]),
            rows=capture["rows"],
            route=capture["route"],
            queue=capture["queue"],
            request=bytes(capture["request"]),
            answer=bytes(capture["answer"]),
            policy=capture["policy"],
            time_us=capture["time_us"],
        )
    for version in sorted(versions & batch.names.keys()):
        names = batch.names[version]
        of = message.names.add(version=version, routes=names.routes, backends=names.backends)
        for rules in names.rules:
            of.rules.add(names=rules)
    return message.SerializeToString()


def messages(batch: Batch, *, run: bytes, sequence: int, sidecar: str) -> Iterator[tuple[int, int, bytes]]:
    """A batch as one message, or as several with the sequences that follow where it is too large for one.

    Yields: sequence, records, the message's bytes; no bytes for what is too large and cannot be divided.
    """
    waiting = [batch]
    while waiting:
        part = waiting.pop()
        data = encode(part, run=run, sequence=sequence, sidecar=sidecar)
        if len(data) <= MOST_BATCH_BYTES:
            yield sequence, len(part), data
            sequence += 1
        elif (halves := _halves(part)) is not None:
            waiting += reversed(halves)
        else:
            yield sequence, len(part), b""


def _halves(batch: Batch) -> tuple[Batch, Batch] | None:
    """Records before captures, then each in two; None for what cannot be divided."""
    tables = (batch.records, batch.mirrors, batch.raises)
    rows = max(len(next(iter(table.values()), ())) for table in tables)
    if batch.captures and rows:
        return _part(batch, 0, None), _part(batch, None, None, batch.captures)
    if batch.captures:
        middle = len(batch.captures) // 2
        parts = batch.captures[:middle], batch.captures[middle:]
        return (
            None if not middle else (_part(batch, None, None, parts[0]), _part(batch, None, None, parts[1]))
        )
    return None if rows < 2 else (_part(batch, 0, rows // 2), _part(batch, rows // 2, None))


def _part(
    batch: Batch, since: int | None, until: int | None, captures: Sequence[Mapping[str, Any]] = ()
) -> Batch:
    """Some rows of every table; none where `since` is None."""
    at = slice(0, 0) if since is None else slice(since, until)

    def cut(columns: Mapping[str, Array]) -> dict[str, Array]:
        return {name: column[at] for name, column in columns.items()}

    return Batch(
        cut(batch.records),
        {},
        cut(batch.mirrors),
        () if since is None else batch.strings,
        captures,
        batch.names,
        cut(batch.raises),
    )


def parse(data: bytes) -> fleet_pb2.RecordBatch:
    """Bytes -> the message, of which nothing is checked yet but that it names itself.

    Raises: Malformed.
    """
    try:
        message = fleet_pb2.RecordBatch.FromString(data)
    except DecodeError:
        raise Malformed("these bytes are no RecordBatch") from None
    if len(message.run) != RUN_BYTES or not 0 < message.sequence < 2**63:
        raise Malformed(
            f"a run of {len(message.run)} bytes and sequence {message.sequence}, wanted 16 bytes and 1 or more"
        )
    return message


def decode(message: fleet_pb2.RecordBatch) -> Batch:
    """The batch of a message, every index in it in range.

    Raises: Malformed, with what is wrong; then nothing of the batch is to be counted.
    """
    names = _names(message.names)
    _text("sidecar", message.sidecar)
    tables = {
        "records": _unpack("records", message.records),
        "mirrors": _unpack("mirrors", message.mirrors),
        "raises": _unpack("raises", message.raises),
    }
    if len(tables["records"]["row"]) != message.rows:
        raise Malformed(f"{len(tables['records']['row'])} records where {message.rows} are announced")
    for table, columns in tables.items():
        check_columns(table, columns, names, len(message.strings))
    return Batch(
        records=tables["records"],
        attempts={},
        mirrors=tables["mirrors"],
        strings=list(message.strings),
        captures=[_capture(capture) for capture in message.captures],
        names=names,
        raises=tables["raises"],
    )


def _pack(to: Any, columns: Mapping[str, Array]) -> None:
    for name, column in columns.items():
        if name not in UNSENT:
            little = np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("<"))
            to.add(name=name, dtype=little.dtype.str, values=little.tobytes())


def _unpack(table: str, columns: Iterable[Any]) -> dict[str, Array]:
    found: dict[str, Array] = {}
    least = LEAST[table]
    for column in columns:
        name, kind = column.name, column.dtype
        if name in found or not name.isidentifier() or len(name) > 64 or len(found) >= 256:
            raise Malformed(f"{table} has a column {name[:64]!r}, wanted identifiers, each once, at most 256")
        if kind not in KINDS or kind != least.get(name, kind):
            wanted = least.get(name, f"one of {', '.join(sorted(KINDS))}")
            raise Malformed(f"{table}.{name} is of {kind[:16]!r}, wanted {wanted}")
        if len(column.values) % np.dtype(kind).itemsize:
            raise Malformed(f"{table}.{name} has {len(column.values)} bytes, no whole number of {kind}")
        found[name] = np.frombuffer(column.values, dtype=kind)
    if not found and table != "records":
        return {name: np.empty(0, kind) for name, kind in least.items()}
    missing = least.keys() - found.keys()
    if missing:
        raise Malformed(f"{table} lacks {', '.join(sorted(missing))}")
    lengths = {len(column) for column in found.values()}
    if len(lengths) > 1 or max(lengths) > MOST_ROWS:
        raise Malformed(
            f"{table} has columns of {sorted(lengths)} rows, wanted one length of at most {MOST_ROWS}"
        )
    return found


def _names(messages: Sequence[fleet_pb2.PolicyNames]) -> dict[int, PolicyNames]:
    found: dict[int, PolicyNames] = {}
    for message in messages:
        if message.version in found or message.version > MOST_NUMBER:
            raise Malformed(f"names of policy {message.version}, wanted each version once")
        if len(message.rules) != len(message.routes):
            raise Malformed(f"rules of {len(message.rules)} routes, wanted {len(message.routes)}")
        if max(len(message.routes), len(message.backends)) > MOST_NAMES:
            raise Malformed(f"more than {MOST_NAMES} routes or backends")
        rules = tuple(tuple(_text("rule", name) for name in of.names) for of in message.rules)
        found[message.version] = PolicyNames(
            tuple(_text("route", name) for name in message.routes),
            tuple(_text("backend", name) for name in message.backends),
            rules,
        )
    return found


def _text(what: str, text: str) -> str:
    if "\0" in text or len(text) > MOST_TEXT:
        raise Malformed(f"a {what} of {len(text)} characters, wanted at most {MOST_TEXT}, and no NUL")
    return text


def _capture(message: fleet_pb2.Capture) -> dict[str, Any]:
    if len(message.decision) != 16 or not 0 <= message.time_us < LATEST_US or message.policy > MOST_NUMBER:
        raise Malformed("a capture whose decision, time or policy is none")
    if max(message.rows, default=0) > MOST_NUMBER:
        raise Malformed(f"a capture of row {max(message.rows)}")
    return {
        "id": message.decision,
        "rows": list(message.rows),
        "route": _text("route", message.route),
        "queue": _text("queue", message.queue),
        "request": message.request,
        "answer": message.answer,
        "policy": message.policy,
        "time_us": message.time_us,
    }
