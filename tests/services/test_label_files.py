"""Files of labels: what is read, what is refused by its line, and that an export comes back as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from gateway.errors import LabelError, LedgerUnavailable
from gateway.ledger import Ledger, Limits
from gateway.ledger.label_rows import said_rows
from gateway.services import Intake, Statement
from gateway.services.bulk import AT_ONCE, BulkReport, take_in
from gateway.services.label_export import write
from gateway.services.label_files import Line, Refused, read
from tests.ledger.making import NOW_US, Clock, label
from tests.services.control_plane import ROUTES, RULES, receipt, verify

TIME = "2026-11-29T12:00:00+00:00"
TIME_US = 1_795_953_600_000_000


def lines(file: Path) -> list[Line]:
    return list(read(file, "import"))


def text(folder: Path, *rows: str, name: str = "labels.csv") -> Path:
    file = folder / name
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file


def test_a_line_says_one_thing_about_one_prediction(tmp_path: Path) -> None:
    """Every column, and the defaults of those that are empty."""
    file = text(
        tmp_path,
        "receipt,row,label,positive,value,signal,time,source",
        f"r1,2,spam,,,,{TIME},crm",
        "r2,,,No,,,,",
        'r3,,"a, ""b""",,,,,',
        "r4,,,,-1.5,,,",
        "r5,3.0,,,2,click,2026-11-29T13:00:00+01:00,",
        "r6,,,,,thumbs,,",
        "",
        "r7,, padded ,,,,,",
    )
    usual = Statement("import")
    assert [line.said for line in lines(file)] == [
        Statement("crm", "r1", row=2, label="spam", event_us=TIME_US),
        replace(usual, receipt="r2", positive=False),
        replace(usual, receipt="r3", label='a, "b"'),
        replace(usual, receipt="r4", value=-1.5),
        replace(usual, receipt="r5", row=3, value=2.0, signal="click", event_us=TIME_US),
        replace(usual, receipt="r6", signal="thumbs"),
        replace(usual, receipt="r7", label=" padded "),
    ]
    assert [line.number for line in lines(file)] == [2, 3, 4, 5, 6, 7, 9]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("r,id,,spam,,,,", "two_decisions"),
        ("r,,,spam,true,,,", "two_truths"),
        ("r,,,spam,,1.5,,", "two_truths"),
        ("r,,,,maybe,,,", "bad_positive"),
        ("r,,,,,lots,,", "bad_value"),
        ("r,,-1,spam,,,,", "no_such_row"),
        ("r,,1.5,spam,,,,", "no_such_row"),
        ("r,,nan,spam,,,,", "no_such_row"),
        ("r,,,spam,,,,yesterday", "bad_time"),
        ("r,,,spam,,,,2026-11-29T12:00:00", "bad_time"),
        ("r,,,spam", "malformed"),
        ("r,,,spam,,,,,,", "malformed"),
        ('r,,,"spam"x,,,,', "malformed"),
        ("r" * 20_000 + ",,,spam,,,,", "malformed"),
        ("r" * 200_000 + ",,,spam,,,,", "malformed"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused_and_the_next_one_is_read(
    tmp_path: Path, row: str, code: str
) -> None:
    """With its number; nothing after it is lost."""
    file = text(tmp_path, "receipt,decision_id,row,label,positive,value,signal,time", row, "r2,,,ham,,,,")
    bad, good = lines(file)
    assert bad.fault is not None
    assert (bad.number, bad.fault.kind, bad.said) == (2, code, None)
    assert good.said == Statement("import", "r2", label="ham")


def test_bytes_that_are_no_utf_8_cost_their_line(tmp_path: Path) -> None:
    """And a byte order mark, as spreadsheets write it, none."""
    file = tmp_path / "labels.csv"
    file.write_bytes(b"\xef\xbb\xbfreceipt,label\nr1,caf\xe9\nr2,caf\xc3\xa9\n")
    bad, good = lines(file)
    assert bad.fault is not None
    assert "UTF-8" in str(bad.fault)
    assert good.said == Statement("import", "r2", label="café")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("receipt,lable", "'lable'"),
        ("label,row", "neither column receipt nor decision_id"),
        ("receipt,row", "no column label, positive, value or signal"),
        ("receipt,label,label", "twice"),
        ("", "empty"),
        ('"receipt', "no CSV"),
    ],
)
def test_a_file_with_other_columns_is_refused_as_a_whole(tmp_path: Path, head: str, words: str) -> None:
    """A column with a typing error would be lost without a word."""
    file = tmp_path / "labels.csv"
    file.write_text(head and head + "\n")
    with pytest.raises(LabelError, match=words):
        read(file, "import")


def test_parquet_says_the_same_in_its_own_types(tmp_path: Path) -> None:
    """Numbers, booleans, times and NULLs as pandas and polars write them."""
    file = tmp_path / "labels.parquet"
    when = pyarrow.array([TIME_US, None, None], pyarrow.timestamp("us", tz="Europe/Berlin"))
    columns = {
        "receipt": ["r1", "r2", "r3"],
        "row": pyarrow.array([2.0, None, float("nan")]),
        "positive": [True, None, None],
        "value": [None, 1.5, 2.0],
        "signal": [None, None, "click"],
        "time": when,
    }
    parquet.write_table(pyarrow.table(columns), file)
    assert [line.said for line in lines(file)] == [
        Statement("import", "r1", row=2, positive=True, event_us=TIME_US),
        Statement("import", "r2", value=1.5),
        Statement("import", "r3", value=2.0, signal="click"),
    ]


def test_what_is_no_parquet_is_told(tmp_path: Path) -> None:
    """A CSV file of that name, and cells that are no text or number."""
    file = text(tmp_path, "receipt,label", name="labels.parquet")
    with pytest.raises(LabelError, match="Parquet"):
        read(file, "import")
    parquet.write_table(pyarrow.table({"receipt": ["r1"], "label": [["spam"]]}), file)
    [line] = lines(file)
    assert line.fault is not None
    assert line.fault.kind == "malformed"


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Nothing breaks the reader but its own words."""
    file = tmp_path_factory.mktemp("any") / "labels.csv"
    file.write_bytes(b"receipt,label\n" + data)
    for line in read(file, "import"):
        assert (line.said is None) != (line.fault is None)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    opened = Ledger(ledger_url, Limits(linger_s=0.01), Clock())
    opened.open()
    yield opened
    opened.close()


Import = Callable[..., BulkReport]


@pytest.fixture
def bring(ledger: Ledger) -> Import:
    def run(file: Path, **options: Any) -> BulkReport:
        intake = Intake(ledger, verify, ROUTES.get, lambda: RULES, Clock())
        return take_in(
            ledger, intake, read(file, "import"), author="ann", sleep=lambda _seconds: None, **options
        )

    return run


def quoted(number: int, **changes: Any) -> str:
    return '"' + receipt(number, **changes).replace('"', '""') + '"'


def test_an_import_says_what_became_of_every_line_and_counts_once(
    ledger: Ledger, bring: Import, tmp_path: Path
) -> None:
    """Sent again, all of it is there; refused lines are the same ones, and can be mended in their own file."""
    file = text(
        tmp_path,
        "receipt,label,value,signal",
        f"{quoted(1)},spam,,",
        f"{quoted(1)},spam,,",
        f"{quoted(1)},ham,,",
        f"{quoted(2)},spma,,",
        "forged,ham,,",
        f"{quoted(3)},,7,buy",
        f"{quoted(3)},,7,",
    )
    to = Refused(tmp_path / "refused.csv")
    report = bring(file, refused=to.write)
    to.close()
    assert report.kept == {"accepted": 3, "duplicate": 1, "corrected": 1}
    assert [(line, code) for line, code, _ in report.examples] == [
        (5, "unknown_label"),
        (6, "receipt_forged"),
    ]
    assert report.lines == 7
    assert ledger.reader.labelled().positive.tolist() == [False]
    assert {row.name: row.value for row in said_rows(ledger.reader) if row.kind != "label"} == {
        "buy": 7.0,
        "": 7.0,
    }
    mended = tmp_path / "refused.csv"
    mended.write_text(mended.read_text().replace("spma", "spam"))
    report = bring(mended)
    assert (report.kept, report.refused) == ({"accepted": 1}, {"receipt_forged": 1})


def test_a_dry_run_judges_and_keeps_nothing(ledger: Ledger, bring: Import, tmp_path: Path) -> None:
    """What it says is what the import then does."""
    file = text(tmp_path, "receipt,label", f"{quoted(1)},spam", f"{quoted(1)},ham", "forged,ham")
    tried = bring(file, dry_run=True)
    assert list(said_rows(ledger.reader)) == []
    assert bring(file).as_dict() == tried.as_dict()
    assert len(list(said_rows(ledger.reader))) == 1


def test_a_locked_database_is_waited_for_and_then_told(
    ledger: Ledger, bring: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that writes beside it costs patience, not lines."""
    submit, busy = ledger.submit_feedback, [True, True]

    def sometimes(*rows: Any, **options: Any) -> Any:
        if busy and busy.pop():
            raise LedgerUnavailable("locked")
        return submit(*rows, **options)

    monkeypatch.setattr(ledger, "submit_feedback", sometimes)
    report = bring(text(tmp_path, "receipt,label", f"{quoted(1)},spam"))
    assert report.kept == {"accepted": 1}


def test_more_lines_than_one_commit_has(ledger: Ledger, bring: Import, tmp_path: Path) -> None:
    """Every line is counted in whichever commit it is, with its number."""
    many = 2 * AT_ONCE + 7
    rows = [f"{quoted(n)},spam" for n in range(many)]
    rows[AT_ONCE] = "forged,spam"
    report = bring(text(tmp_path, "receipt,label", *rows))
    assert (report.lines, report.kept) == (many, {"accepted": many - 1})
    assert report.examples[0][:2] == (AT_ONCE + 2, "receipt_forged")


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
def test_an_export_comes_back_as_duplicates(ledger: Ledger, bring: Import, tmp_path: Path, name: str) -> None:
    """By decision id: a decision that was spoken of is known. Only what counts goes out, and reviews only if wanted."""
    said = [
        label(1, True),
        label(1, False),
        label(2, value=0.1, source="crm"),
        replace(label(3, row=1), event_us=NOW_US - 1),
        label(4, source="review"),
    ]
    ledger.submit_labels(said).result()
    file = tmp_path / name
    assert write(file, said_rows(ledger.reader)) == 3
    report = bring(file)
    assert (report.kept, report.refused) == ({"duplicate": 3}, {})
    assert write(file, said_rows(ledger.reader, review=True)) == 4
    assert bring(file).refused == {"bad_source": 1}
