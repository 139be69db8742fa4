"""Signals as a report shows them, and statements by the model of a register whose last writer wins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ledger import Kept, LabelRow, Ledger, Limits, Truth, Window
from gateway.ledger.label_rows import said_rows
from gateway.ledger.signals import MOST_NAMES, signal_summaries
from tests.ledger.making import HOUR_US, NOW_US, label


def signal(number: int, name: str, value: float, after_s: float = 0.0, **more: object) -> LabelRow:
    row = label(number, received_us=NOW_US + round(after_s * 1e6), **more)  # type: ignore[arg-type]
    return replace(row, truth=Truth(value=value, signal=name))


def test_signals_are_summed_by_source_and_name(ledger: Ledger) -> None:
    """Only what counts: a correction takes the place of what it corrects; labels are not among them."""
    ledger.submit_labels(
        [
            signal(1, "buy", 5.0, 10),
            signal(1, "buy", 10.0, 20),
            signal(2, "buy", 20.0, 40),
            signal(3, "click", 1.0, 7_265, source="web"),
            label(4, True),
            label(5, value=-3.0),
        ]
    ).result()
    [found] = signal_summaries(ledger.reader, Window()).values()
    assert [(one.source, one.name, one.count, one.mean, one.median_delay_s) for one in found] == [
        ("app", "", 1, -3.0, 0),
        ("app", "buy", 2, 15.0, 30.0),
        ("web", "click", 1, 1.0, 7_260),
    ]


def test_the_time_that_was_said_is_the_delay_and_no_delay_is_negative(ledger: Ledger) -> None:
    """Clocks may differ by a little; days are right to the hour."""
    day = replace(signal(1, "a", 1.0), event_us=NOW_US + 90_000_000_000)
    early = replace(signal(2, "b", 1.0, 99), event_us=NOW_US - 2_000_000)
    ledger.submit_labels([day, early]).result()
    [found] = signal_summaries(ledger.reader, Window()).values()
    assert [one.median_delay_s for one in found] == [90_000, 0]


def test_signals_are_cut_by_the_time_of_the_prediction(ledger: Ledger) -> None:
    """As everything else of a report."""
    ledger.submit_labels([signal(n, "a", 1.0, time_us=NOW_US + n * HOUR_US) for n in range(4)]).result()
    window = Window(since_us=NOW_US + HOUR_US, until_us=NOW_US + 2 * HOUR_US, route="spam")
    [found] = signal_summaries(ledger.reader, window)["spam"]
    assert found.count == 2
    assert signal_summaries(ledger.reader, replace(window, route="other")) == {}


def test_a_report_names_a_bounded_number(ledger: Ledger) -> None:
    """Whoever sends feedback chooses the names."""
    rows = [signal(n, f"s{n % (MOST_NAMES + 5)}", 1.0) for n in range(2 * MOST_NAMES)]
    ledger.submit_labels(rows).result()
    [found] = signal_summaries(ledger.reader, Window()).values()
    assert len(found) == MOST_NAMES
    assert {one.count for one in found} == {2, 1}


def test_a_report_does_not_pass_over_labels_to_find_signals(ledger: Ledger) -> None:
    """A million labels and no signal cost nothing: the index has signals alone."""
    if ledger._engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL plans by what is in the table")
    plans = []

    def explain(_c: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        if "GROUP BY" in statement:
            plans.append((statement, parameters))

    sa.event.listen(ledger.reader._engine, "before_cursor_execute", explain)
    signal_summaries(ledger.reader, Window(since_us=NOW_US))
    sa.event.remove(ledger.reader._engine, "before_cursor_execute", explain)
    [(statement, parameters)] = plans
    with ledger._engine.connect() as connection:
        plan = connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters).all()
    assert any("ix_labels_signals" in row[3] for row in plan), plan


@pytest.fixture(scope="module")
def shared() -> Iterator[Ledger]:
    """One ledger for all examples, which use decisions of their own: making one takes longer than an example."""
    with TemporaryDirectory() as folder:
        opened = Ledger(f"sqlite:///{Path(folder) / 'ledger.db'}", Limits(linger_s=0.0))
        opened.open()
        yield opened
        opened.close()


_number = iter(range(1_000_000, 2**31))

TRUTHS = st.one_of(
    st.booleans().map(lambda yes: Truth("spam" if yes else "ham", yes)),
    st.sampled_from([1.0, 2.0]).map(lambda value: Truth(value=value)),
    st.tuples(st.sampled_from(["click", "buy"]), st.sampled_from([1.0, 2.0])).map(
        lambda said: Truth(value=said[1], signal=said[0])
    ),
)
STATEMENTS = st.lists(
    st.tuples(TRUTHS, st.integers(0, 1), st.sampled_from(["app", "crm"]), st.none() | st.integers(0, 5)),
    max_size=12,
)
Said = tuple[Truth, int, str, int | None]
Register = dict[tuple[int, str, str, str], tuple[Truth, int | None]]


def rows_of(number: int, said: list[Said]) -> list[LabelRow]:
    return [
        replace(
            label(number, row=row, source=source),
            truth=truth,
            event_us=None if at is None else NOW_US + at,
        )
        for truth, row, source, at in said
    ]


def kept(ledger: Ledger, number: int) -> Register:
    from tests.ledger.making import decision

    return {
        (row.row, row.source, row.kind, row.name): (
            Truth(row.label, row.positive, row.value, row.name),
            None if row.event_us is None else row.event_us - NOW_US,
        )
        for row in said_rows(ledger.reader)
        if row.decision == decision(number)
    }


@settings(max_examples=60, deadline=None)
@given(said=STATEMENTS, cuts=st.integers(1, 4))
def test_what_counts_is_what_a_register_of_the_last_writer_holds(
    shared: Ledger, said: list[Said], cuts: int
) -> None:
    """Whatever is said in whatever order, in one call or several; by when it happened where both say so."""
    number, model = next(_number), Register()
    rows = rows_of(number, said)
    results: list[Kept] = []
    for start in range(0, len(rows), cuts):
        results += shared.submit_labels(rows[start : start + cuts]).result()
    for (truth, row, source, at), result in zip(said, results, strict=True):
        key = (row, source, truth.kind, truth.signal)
        before = model.get(key)
        if before is None:
            assert result is Kept.ACCEPTED
        elif before[0] == truth and at in (None, before[1]):
            assert result is Kept.DUPLICATE
            continue
        elif None not in (at, before[1]) and at < before[1]:  # type: ignore[operator]
            assert result is Kept.SUPERSEDED
            continue
        else:
            assert result is Kept.CORRECTED
        model[key] = (truth, at)
    assert kept(shared, number) == model


@settings(max_examples=40, deadline=None)
@given(data=st.data(), said=st.lists(st.tuples(TRUTHS, st.integers(0, 1)), min_size=1, max_size=6))
def test_with_times_the_order_and_repetition_of_statements_do_not_matter(
    shared: Ledger, data: st.DataObject, said: list[tuple[Truth, int]]
) -> None:
    """Retries, queues that overtake each other, a file that is imported twice: the same state."""
    timed: list[Said] = [(truth, row, "app", at) for at, (truth, row) in enumerate(said)]
    again = data.draw(st.lists(st.sampled_from(timed), max_size=6))
    mixed = data.draw(st.permutations([*timed, *again]))
    first, second = next(_number), next(_number)
    shared.submit_labels(rows_of(first, timed)).result()
    for one in rows_of(second, mixed):
        shared.submit_labels([one]).result()
    assert kept(shared, first) == kept(shared, second)
