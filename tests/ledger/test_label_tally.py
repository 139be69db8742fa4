"""Labels in cells: at all times what adding up the labels themselves would give, however they came."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.ledger import REVIEW, Ledger, Reader, Window, labels, migrations, rolling, schema
from gateway.ledger.database import writer_engine
from gateway.ledger.grid import score_bin
from gateway.ledger.labels import LabelRow, Truth
from gateway.ledger.report_input import label_counts
from gateway.ledger.tallies import _amend
from gateway.types import UNPREDICTED
from tests.ledger.making import FACTS, HOUR_US, NOW_US, decision, label

NOW_H = NOW_US // HOUR_US
HOURS = st.integers(NOW_H - 1_700, NOW_H)
"""Enough for two spans of 768 hours."""

TRUTHS = st.sampled_from(
    [Truth("spam", True), Truth("ham", False), Truth("other"), Truth(None, True), Truth(value=2.0), Truth()]
)
FACT = st.builds(
    lambda hour, flagged, score, pi, sampled, outcome: replace(
        FACTS,
        time_us=hour * HOUR_US + 5,
        flagged=flagged,
        score=score,
        review_pi=pi,
        sampled=sampled,
        outcome=outcome,
    ),
    HOURS,
    st.sampled_from([True, False, None]),
    st.sampled_from([None, 0.0, 0.29, 0.57, 0.999, 1.0, -3.0, 1e9]),
    st.sampled_from([0.0, 0.125, 0.25]),
    st.booleans(),
    st.sampled_from([0, 1, 3, 4]),
)
LABELS = st.lists(
    st.builds(
        lambda number, row, source, truth, facts: LabelRow(
            decision(number), row, source, truth, facts, NOW_US
        ),
        st.integers(1, 4),
        st.integers(0, 1),
        st.sampled_from([REVIEW, "app"]),
        TRUTHS,
        FACT,
    ),
    min_size=1,
    max_size=5,
)


def scanned(connection: sa.Connection, since: int | None, until: int | None) -> Counter[tuple[Any, ...]]:
    """The long way: every label that counts, one by one."""
    last: dict[tuple[Any, ...], Any] = {}
    for row in connection.execute(sa.select(schema.labels).order_by(schema.labels.c.revision)):
        last[row.decision, row.row, row.source, row.kind] = row
    cells: Counter[tuple[Any, ...]] = Counter()
    for row in last.values():
        hour = row.time_us // HOUR_US
        outside = (since is not None and hour < since) or (until is not None and hour >= until)
        if row.kind != "label" or (row.label is None and row.positive is None) or outside:
            continue
        [place] = score_bin(np.array([np.nan if row.score is None else row.score])).tolist()
        flagged, positive = (-1 if one is None else int(one) for one in (row.flagged, row.positive))
        cells[row.outcome, flagged, place, row.review_pi, int(row.sampled), row.source, positive] += 1
    return cells


KEYS = ("outcome", "flagged", "score_bin", "review_pi", "sampled", "source", "positive")


class Cells(RuleBasedStateMachine):
    """Labels, corrections, repetitions, probabilities put right and rolling, in any order."""

    @initialize()
    def begin(self) -> None:
        self.folder = TemporaryDirectory()
        url = f"sqlite:///{Path(self.folder.name) / 'ledger.db'}"
        self.engine = writer_engine(url)
        migrations.make(self.engine)
        self.reader = Reader(url)
        self.any = False

    @rule(rows=LABELS)
    def said(self, rows: list[LabelRow]) -> None:
        with self.engine.begin() as connection:
            labels.keep(connection, rows)
        self.any = True

    @precondition(lambda self: self.any)
    @rule(
        raised=st.lists(
            st.tuples(st.integers(1, 4), st.integers(0, 1), st.sampled_from([0.5, 1.0])), max_size=3
        )
    )
    def put_right(self, raised: list[tuple[int, int, float]]) -> None:
        with self.engine.begin() as connection:
            _amend(
                connection,
                [{"of": decision(number), "at": row, "pi": pi, "now": 4} for number, row, pi in raised],
            )

    @precondition(lambda self: self.any)
    @rule(span=st.sampled_from(rolling.SPANS), times=st.integers(1, 40))
    def roll(self, span: int, times: int) -> None:
        with self.engine.begin() as connection:
            while times and rolling.roll(connection, schema.tally_labels, span, NOW_H):
                times -= 1

    @invariant()
    def everything_is_counted_once(self) -> None:
        self.compare(None, None)

    @precondition(lambda self: self.any)
    @rule(since=HOURS, until=HOURS)
    def every_window_is_exact_to_the_hour(self, since: int, until: int) -> None:
        self.compare(since, until)
        self.compare(since, None)
        self.compare(None, until)

    def compare(self, since: int | None, until: int | None) -> None:
        window = Window(*(None if hour is None else hour * HOUR_US for hour in (since, until)))
        rows = self.reader.summed(schema.tally_labels, window, KEYS)
        found = {tuple(key): count for *key, count in rows if count}
        with self.engine.connect() as connection:
            assert found == dict(scanned(connection, since, until))

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.dispose()
            self.reader.close()
            self.folder.cleanup()


TestCells = Cells.TestCase
TestCells.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


def test_a_report_counts_what_a_model_predicted_and_a_reviewer_was_given_by_chance(ledger: Ledger) -> None:
    """What people answered and what was held out says nothing of a model; nor does a review of what was not drawn."""
    ledger.submit_labels(
        [
            label(1, True, source=REVIEW),
            label(2, True, source=REVIEW, sampled=False),
            label(3, True, source="app", sampled=False),
            *(label(10 + outcome, True, source=REVIEW, outcome=int(outcome)) for outcome in UNPREDICTED),
        ]
    ).result()
    counts = label_counts(ledger.reader, Window())
    assert sorted(zip(counts.source.tolist(), counts.count.tolist(), strict=True)) == [
        ("app", 1),
        (REVIEW, 1),
    ]


@pytest.mark.parametrize(
    ("since", "until", "wanted"),
    [
        (0, 24, [(24, 0, 24)]),
        (1, 49, [(24, 24, 48), (1, 1, 24), (1, 48, 49)]),
        (
            700,
            1_600,
            [(768, 768, 1_536), (24, 720, 768), (24, 1_536, 1_584), (1, 700, 720), (1, 1_584, 1_600)],
        ),
        (1_600, 3_000, [(24, 1_608, 2_400), (1, 1_600, 1_608), (1, 2_400, 3_000)]),
        (5, 5, []),
        (9, 5, []),
    ],
)
def test_a_window_is_read_in_the_fewest_spans(
    since: int, until: int, wanted: list[tuple[int, int, int]]
) -> None:
    """A year is a dozen spans and two ends."""
    found = rolling.pieces(since, until, {24: (0, 2_400), 768: (0, 1_536)})
    assert [(one.span, one.first, one.end) for one in found] == wanted


def test_labels_and_samples_of_before_are_counted_by_the_upgrade(tmp_path: Path) -> None:
    """A ledger that was filled under the schema before has the same cells as one that was filled under this one."""
    url = f"sqlite:///{tmp_path / 'old.db'}"
    engine = writer_engine(url)
    at = label(1).facts.time_us
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        said = (
            "(decision, row, source, kind, revision, label, positive, value, author, received_us, time_us, policy, "
            "route, backend, segment, outcome, score, flagged, review_pi, sampled)"
        )
        tail = f"'ann', 5, {at}, 7, 'spam', 'v3', '', 0, 0.29, 1, 0.25, 1)"
        for values in (
            "(x'01', 0, 'review', 'label', 1, 'spam', 1, NULL, ",
            "(x'01', 0, 'review', 'label', 2, 'ham', 0, NULL, ",
            "(x'01', 1, 'review', 'label', 1, 'spam', 1, NULL, ",
            "(x'01', 1, 'crm', 'outcome', 1, NULL, NULL, 3.5, ",
            "(x'02', 0, 'crm', 'label', 1, 'other', NULL, NULL, ",
        ):
            connection.exec_driver_sql(f"INSERT INTO labels {said} VALUES {values}{tail}")
        for number, sampled in ((1, 1), (2, 1), (3, 0)):
            connection.exec_driver_sql(
                f"INSERT INTO decisions VALUES (x'0{number}', 0, {at}, 7, 'spam', 'v3', '', 0, 'ok', 'spam', 0.29, "
                f"0.9, 1, 1, 0.25, {sampled}, NULL, 1, 5)"
            )
        hour = at // HOUR_US
        connection.exec_driver_sql(
            f"INSERT INTO tally_scores VALUES ({hour}, 'spam', 7, 'v3', '', 0, 1, 290, 0.25, 9),"
            f"({hour}, 'spam', 7, 'v3', '', 0, 1, 289, 0.25, 4)"
        )
    engine.dispose()
    ledger = Ledger(url)
    ledger.open()
    try:
        rows = ledger.reader.summed(schema.tally_labels, Window(), KEYS)
        wanted = ledger.reader.snapshot(lambda connection: scanned(connection, None, None))
        scores = ledger.reader.summed(schema.tally_scores, Window(), ("score_bin",))
    finally:
        ledger.close()
    assert {tuple(key): count for *key, count in rows} == wanted
    assert sum(wanted.values()) == 3
    assert [tuple(row) for row in scores] == [(289, 4, 0), (290, 9, 2)]
