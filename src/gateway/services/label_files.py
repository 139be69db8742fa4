"""Labels as files, CSV or Parquet: one statement a line, by named columns.

    receipt | decision_id   which prediction: one of them
    row                     of a batch, 0 if empty
    label | positive | value            the truth: one of them; `positive` is true or false
    signal (with value)     or what somebody did; `value` is 1 if empty
    time                    when it happened: ISO 8601 with its zone; may be empty
    source                  instead of the one that the import is given

Other columns are refused, as a name with a typing error would be lost without a word; but for `line`, `code` and
`message`, which stand in the file of refused lines, so that one can be mended and imported as it is.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gateway.errors import LabelError
from gateway.services.intake import Statement

__all__ = ["COLUMNS", "Line", "Refused", "load_parquet", "read"]

COLUMNS: Final = ("receipt", "decision_id", "row", "label", "positive", "value", "signal", "time", "source")

IGNORED: Final = ("line", "code", "message")

MAX_FIELD: Final = 16_384
"""Characters of a field; no receipt is half as long."""

_YES: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_ROWS_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file, and what it says; `fault` where that cannot be read.

    `number`: in a CSV file as editors count, the head being line 1; in a Parquet file rows from 1.
    """

    number: int
    fields: Mapping[str, str]
    said: Statement | None
    fault: LabelError | None = None


def read(file: Path, source: str) -> Iterator[Line]:
    """The lines of a file, by its ending: `.parquet`, else CSV. Memory does not grow with the file.

    Args:
        source: for lines without one of their own.
    Raises: LabelError `bad_file`, before the first line, when the file as a whole cannot be read; OSError.
    """
    rows = _parquet(file) if file.suffix == ".parquet" else _csv(file)
    head = next(rows)[1]
    _check_head(file, list(head))

    def lines() -> Iterator[Line]:
        for number, fields, fault in rows:
            if fault is not None:
                yield Line(number, fields, None, fault)
                continue
            try:
                yield Line(number, fields, _statement(fields, source))
            except LabelError as error:
                yield Line(number, fields, None, error)

    return lines()


_Row = tuple[int, dict[str, str], LabelError | None]


def _check_head(file: Path, names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in COLUMNS and name not in IGNORED]
    if unknown:
        found = ", ".join(map(repr, unknown[:5]))
        raise LabelError("bad_file", f"{file}: unknown columns {found}; wanted some of {', '.join(COLUMNS)}")
    if not {"receipt", "decision_id"} & set(names):
        raise LabelError(
            "bad_file", f"{file}: neither column receipt nor decision_id; one says which prediction"
        )
    if not {"label", "positive", "value", "signal"} & set(names):
        raise LabelError(
            "bad_file", f"{file}: no column label, positive, value or signal; one says what is true"
        )


def _csv(file: Path) -> Iterator[_Row]:
    """Lines as they stand; the first one has the names. A line that is no CSV is refused, and the rest goes on."""
    # What is no UTF-8 must cost its own line, not the file.
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines = csv.reader(text, strict=True)
        try:
            names = [name.strip() for name in next(lines, [])]
        except csv.Error as error:
            raise LabelError("bad_file", f"{file}: line 1 is no CSV: {error}") from None
        if not names:
            raise LabelError("bad_file", f"{file} is empty; wanted a first line of column names")
        if len(set(names)) != len(names):
            raise LabelError("bad_file", f"{file}: a column stands there twice; wanted each once")
        yield 1, dict.fromkeys(names, ""), None
        while True:
            number = lines.line_num + 1
            try:
                values = next(lines)
            except StopIteration:
                return
            except csv.Error as error:
                yield (
                    number,
                    {},
                    LabelError("malformed", f"the line is no CSV: {error}; quote what holds a quote"),
                )
                continue
            if not values:
                continue
            fields = dict(zip(names, values, strict=False))
            yield number, fields, _csv_fault(names, values)


def _csv_fault(names: Sequence[str], values: Sequence[str]) -> LabelError | None:
    if len(values) != len(names):
        return LabelError("malformed", f"{len(values)} fields, wanted {len(names)} as in the first line")
    if any(len(value) > MAX_FIELD for value in values):
        return LabelError("malformed", f"a field of more than {MAX_FIELD:,} characters")
    if any("\ud800" <= letter <= "\udfff" for value in values for letter in value):
        return LabelError("malformed", "the line is not UTF-8; save the file as UTF-8")
    return None


def load_parquet() -> Any:
    """pyarrow's Parquet module.

    Raises: LabelError `bad_file`, where it is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError:
        mend = "pip install 'model-gateway[data]', or use CSV"
        raise LabelError("bad_file", f"Parquet needs pyarrow, which is not installed: {mend}") from None
    return parquet


def _parquet(file: Path) -> Iterator[_Row]:
    parquet = load_parquet()
    from pyarrow import ArrowException

    if not file.exists():
        raise FileNotFoundError(2, "No such file", str(file))
    try:
        with parquet.ParquetFile(file) as opened:
            yield 0, dict.fromkeys(opened.schema_arrow.names, ""), None
            number = 0
            for batch in opened.iter_batches(batch_size=_ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    number += 1
                    try:
                        yield number, {name: _as_text(value) for name, value in row.items()}, None
                    except LabelError as error:
                        yield number, {}, error
    except ArrowException as error:
        raise LabelError("bad_file", f"{file} cannot be read as Parquet: {error}") from None


def _as_text(value: Any) -> str:
    """A cell as it would stand in a CSV file."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (str, bool, int, float)):
        text = repr(value) if isinstance(value, float) else str(value)
        if len(text) <= MAX_FIELD:
            return text
    raise LabelError(
        "malformed", f"a {type(value).__name__} that is no text, number, yes or no, or time, or too long"
    )


def _statement(fields: Mapping[str, str], source: str) -> Statement:
    said = {name: fields.get(name, "").strip() or None for name in COLUMNS}
    if said["receipt"] and said["decision_id"]:
        raise LabelError("two_decisions", "both receipt and decision_id are set; keep one of them")
    # A label may begin with a space; nothing else may.
    label = fields.get("label") or None
    truths = [name for name in ("label", "positive", "signal") if said[name] is not None]
    truths += ["value"] if said["value"] is not None and not said["signal"] else []
    if len(truths) > 1:
        raise LabelError(
            "two_truths", f"{' and '.join(truths)} are set; keep one of them, the rest on further lines"
        )
    return Statement(
        source=said["source"] or source,
        receipt=said["receipt"],
        decision_id=said["decision_id"],
        row=_whole(said["row"]),
        label=label if said["label"] is not None else None,
        positive=_yes(said["positive"]),
        value=_number(said["value"]),
        signal=said["signal"],
        event_us=_time_us(said["time"]),
    )


def _whole(text: str | None) -> int:
    if text is None:
        return 0
    try:
        number = float(text)  # spreadsheets and NULLs beside whole numbers make 3 into 3.0
    except ValueError:
        number = -1.0
    if number < 0 or not number.is_integer():
        raise LabelError("no_such_row", f"row {text[:64]!r}, wanted a whole number from 0")
    return int(min(number, 2**40))


def _yes(text: str | None) -> bool | None:
    if text is None:
        return None
    if (said := _YES.get(text.lower())) is None:
        raise LabelError("bad_positive", f"positive {text[:64]!r}, wanted true or false")
    return said


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        raise LabelError("bad_value", f"value {text[:64]!r}, wanted a number such as 12.5") from None


def _time_us(text: str | None) -> int | None:
    if text is None:
        return None
    wanted = "wanted ISO 8601 with its zone, such as 2026-11-29T12:00:00Z"
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise LabelError("bad_time", f"time {text[:64]!r}, {wanted}") from None
    if time.tzinfo is None:
        raise LabelError("bad_time", f"time {text[:64]!r} does not say its zone, {wanted}")
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


class Refused:
    """Writes refused lines, with why, as a CSV file that can be mended and imported again."""

    def __init__(self, file: Path) -> None:
        self._text = file.open("w", encoding="utf-8", errors="replace", newline="")
        self._lines = csv.writer(self._text, lineterminator="\n")
        self._lines.writerow((*IGNORED, *COLUMNS))

    def write(self, line: Line, code: str, message: str) -> None:
        """Append a line."""
        self._lines.writerow((line.number, code, message, *(line.fields.get(name, "") for name in COLUMNS)))

    def close(self) -> None:
        """Have all of it in the file."""
        self._text.close()
