"""Rows as Arrow tables, of one schema for a whole data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from gateway.datasets.payloads import Column
from gateway.datasets.source import Columns
from gateway.datasets.splits import Hasher
from gateway.errors import DataSetError
from gateway.ledger import REVIEW
from gateway.types import Outcome, Stratum

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SEGMENT", "Tables", "arrow", "weight"]

SEGMENT: Final = "segment."
"""What the column of a segment's key begins with."""

_TYPES: Final[Mapping[str, str]] = {
    "BOOL": "bool_",
    **{
        name: name.lower()
        for name in ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")
    },
    "FP16": "float32",  # few readers know 16 bits
    "BF16": "float32",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "binary",
}

_NAMED: Final[Sequence[tuple[str, str]]] = (
    ("decision", "string"),
    ("row", "int32"),
    ("split", "string"),
    ("time", "time"),
    ("label_time", "time"),
    ("event_time", "time"),
    ("route", "string"),
    ("policy", "int32"),
    ("backend", "string"),
    ("outcome", "string"),
    ("reason", "string"),
    ("predicted", "string"),
    ("score", "float64"),
    ("confidence", "float64"),
    ("flagged", "bool_"),
    ("segment", "string"),
    ("unit", "string"),
    ("stratum", "string"),
    ("sampled", "bool_"),
    ("inclusion_probability", "float64"),
    ("weight", "float64"),
    ("arm", "string"),
    ("propensity", "float64"),
    ("source", "string"),
    ("kind", "string"),
    ("signal", "string"),
    ("label", "string"),
    ("positive", "bool_"),
    ("value", "float64"),
    ("revision", "int32"),
    ("agreement", "float64"),
    ("reviews", "int32"),
    ("author", "string"),
)
"""The columns that every data set has."""


def arrow() -> Any:
    """pyarrow.

    Raises: DataSetError where it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataSetError(
            "Parquet files are written by pyarrow, which is not installed; install model-gateway[data]"
        ) from None
    return pyarrow


def weight(source: str, sampled: bool, review_pi: float) -> float | None:
    """One over the inclusion probability, where that is what the row was chosen with: in a review of the sample."""
    if source != REVIEW or not sampled or not review_pi > 0:
        return None
    return 1.0 / review_pi


class Tables:
    """Makes tables of rows.

    Args:
        segments: every text of a segment there is. inputs: columns of captured requests. has_json: whether there is a
            column `request`.
    """

    def __init__(
        self,
        salt_hex: str,
        splits: Sequence[str],
        segments: Sequence[str],
        inputs: Sequence[Column],
        has_json: bool,
    ) -> None:
        self._pa = pa = arrow()
        self._splits = splits
        self.keys = sorted({key for text in segments for key in _segment(text)})
        """Of the segments."""
        self._units, self._authors = Hasher(salt_hex, "unit"), Hasher(salt_hex, "author")
        fields = [pa.field(name, self._type(kind)) for name, kind in _NAMED]
        fields += [pa.field(SEGMENT + key, pa.string()) for key in self.keys]
        fields += [pa.field("request", pa.string())] if has_json else []
        for column in inputs:
            fields.append(pa.field(column.name, pa.list_(getattr(pa, _TYPES[column.datatype])())))
            fields.append(pa.field(column.shape, pa.list_(pa.int64())))
        self.schema = pa.schema(fields)
        if len(set(self.schema.names)) < len(self.schema.names):
            twice = sorted({name for name in self.schema.names if self.schema.names.count(name) > 1})
            raise DataSetError(
                f"two inputs would have the column {twice[0]!r}; redact one of them in the route's review, or export "
                "with --no-inputs"
            )

    def table(self, rows: Columns, assigned: Sequence[int], inputs: Columns) -> pa.Table:
        """Rows as a table; `assigned`: the number of each one's split."""
        made: dict[str, Sequence[Any]] = {**rows, **inputs}
        made["decision"] = [_uuid(bytes(one).hex()) for one in rows["decision"]]
        made["split"] = [self._splits[number] for number in assigned]
        made["time"], made["label_time"] = rows["time_us"], rows["received_us"]
        made["event_time"], made["signal"] = rows["event_us"], [one or None for one in rows["name"]]
        made["outcome"] = [_OUTCOMES.get(one) for one in rows["outcome"]]
        made["stratum"] = [_STRATA.get(one) for one in rows["stratum"]]
        made["inclusion_probability"] = rows["review_pi"]
        made["weight"] = [
            weight(*one) for one in zip(rows["source"], rows["sampled"], rows["review_pi"], strict=True)
        ]
        made["unit"] = [
            None if unit is None else self._units.text(unit.to_bytes(8, "big", signed=True))
            for unit in rows["unit"]
        ]
        named = {one: self._authors.text(one.encode()) if one else None for one in set(rows["author"])}
        made["author"] = [named[one] for one in rows["author"]]
        parted = {one: _segment(one) for one in set(rows["segment"])}
        for key in self.keys:
            made[SEGMENT + key] = [parted[one].get(key) for one in rows["segment"]]
        pa = self._pa
        arrays = [pa.array(made[field.name], type=field.type) for field in self.schema]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _type(self, kind: str) -> Any:
        return self._pa.timestamp("us", tz="UTC") if kind == "time" else getattr(self._pa, kind)()


_OUTCOMES: Final = {int(outcome): outcome.text for outcome in Outcome}
_STRATA: Final = {int(stratum): stratum.text for stratum in Stratum}


def _uuid(digits: str) -> str:
    """As `uuid.UUID` writes it, in a third of the time: there are many."""
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _segment(text: str) -> dict[str, str]:
    """`device=phone,country=de` by key; empty for `(other)`, which no key can be read from."""
    return {
        key: value for part in text.split(",") for key, sign, value in [part.partition("=")] if sign and key
    }
