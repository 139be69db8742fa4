"""Labels: once each, the last one counts, and everyone who was told so finds theirs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.errors import LabelError
from gateway.ledger import REVIEW, Kept, Ledger, Limits, RouteClasses, Truth, Window, schema, truth_of
from tests.ledger.making import CLASSES, HOUR_US, NOW_US, label


def kept_rows(ledger: Ledger) -> int:
    return ledger.reader.snapshot(
        lambda connection: connection.execute(
            sa.select(sa.func.count()).select_from(schema.labels)
        ).scalar_one()
    )


def test_the_same_again_is_a_duplicate_and_another_a_correction(ledger: Ledger) -> None:
    """Feedback is sent twice whenever a network fails; it must count once."""
    said = [label(1, True), label(1, True), label(1, False), label(1, False), label(1, True)]
    results = [ledger.submit_labels([one]).result()[0] for one in said]
    assert results == [Kept.ACCEPTED, Kept.DUPLICATE, Kept.CORRECTED, Kept.DUPLICATE, Kept.CORRECTED]
    labelled = ledger.reader.labelled()
    assert labelled.positive.tolist() == [True]
    assert kept_rows(ledger) == 3, "corrections do not erase what was said before"


def test_repetition_within_one_call_is_found_too(ledger: Ledger) -> None:
    """Rows of one submission see each other."""
    results = ledger.submit_labels(
        [label(1, True), label(1, True), label(2, False), label(1, False)]
    ).result()
    assert results == [Kept.ACCEPTED, Kept.DUPLICATE, Kept.ACCEPTED, Kept.CORRECTED]


def test_sources_rows_and_kinds_stand_beside_each_other(ledger: Ledger) -> None:
    """An app's label, a reviewer's and an outcome value are different statements."""
    rows = [label(1), label(1, row=1), label(1, False, source=REVIEW), label(1, value=12.5)]
    assert ledger.submit_labels(rows).result() == [Kept.ACCEPTED] * 4
    labelled = ledger.reader.labelled()
    assert sorted(zip(labelled.source.tolist(), labelled.positive.tolist(), strict=True)) == [
        ("app", True),
        ("app", True),
        ("review", False),
    ]
    assert ledger.reader.labelled(source=REVIEW).positive.tolist() == [False]


def test_a_label_is_read_with_the_facts_of_its_prediction(ledger: Ledger) -> None:
    """Weights come from the label's own row: no look-up is needed, and none can go missing."""
    ledger.submit_labels(
        [
            label(
                1, True, time_us=NOW_US + 5, score=None, flagged=None, review_pi=1.0, received_us=NOW_US + 9
            ),
            label(2, False, time_us=NOW_US + 1, flagged=False, score=0.1),
        ]
    ).result()
    found = ledger.reader.labelled()
    assert found.time_us.tolist() == [NOW_US + 1, NOW_US + 5]
    assert found.received_us.tolist() == [NOW_US, NOW_US + 9]
    assert found.flagged.tolist() == [0, -1]
    assert found.pi.tolist() == [0.25, 1.0]
    assert found.score[0] == 0.1
    assert np.isnan(found.score[1])
    assert (found.route[0], found.backend[0], found.segment[0]) == ("spam", "spam-v3", "device=phone")
    assert (found.policy[0], found.outcome[0]) == (7, 0)


def test_windows_cut_labels_by_the_time_of_the_prediction(ledger: Ledger) -> None:
    """A label that came late belongs to the hour of its prediction, as the population does."""
    hour_us = NOW_US // HOUR_US * HOUR_US
    ledger.submit_labels(
        [label(n, time_us=hour_us + n * HOUR_US, received_us=NOW_US * 2) for n in range(4)]
    ).result()
    window = Window(since_us=hour_us + HOUR_US + 1, until_us=hour_us + 2 * HOUR_US + 1)
    assert ledger.reader.labelled(window).time_us.tolist() == [hour_us + HOUR_US, hour_us + 2 * HOUR_US]
    assert ledger.reader.labelled(replace(window, route="other")).time_us.tolist() == []


def test_labels_of_many_threads_are_each_kept_once(ledger: Ledger) -> None:
    """Group commit mixes callers; each gets its own answer."""

    def send(thread: int) -> list[Kept]:
        return [ledger.submit_labels([label(n, True)]).result()[0] for n in range(thread % 2, 60, 2)]

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(send, range(8)))
    assert sum(result.count(Kept.ACCEPTED) for result in results) == 60
    assert sum(result.count(Kept.DUPLICATE) for result in results) == 180
    assert kept_rows(ledger) == 60


def test_one_callers_impossible_label_fails_alone(ledger: Ledger) -> None:
    """What the database refuses must not cost those who were written together with it."""
    unwritable: Any = replace(label(2), author=object())
    futures = [ledger.submit_labels([row]) for row in (label(1), unwritable, label(3))]
    assert futures[0].result() == futures[2].result() == [Kept.ACCEPTED]
    assert isinstance(futures[1].exception(), sa.exc.SQLAlchemyError)
    assert kept_rows(ledger) == 2


def test_a_cancelled_submission_is_not_written(ledger: Ledger) -> None:
    """A caller that went away before its turn is not waited for."""
    begun, go = threading.Event(), threading.Event()

    def hold(_connection: object) -> None:
        begun.set()
        go.wait(10)

    held = ledger._writer.submit(hold)
    assert begun.wait(10)
    waiting = ledger.submit_labels([label(1)])
    assert waiting.cancel()
    go.set()
    held.result()
    ledger.submit_labels([label(2)]).result()
    assert kept_rows(ledger) == 1


@pytest.mark.parametrize(
    ("known", "said", "truth"),
    [
        (CLASSES, {"label": "spam"}, Truth("spam", True)),
        (CLASSES, {"positive": True}, Truth("spam", True)),
        (CLASSES, {"label": "ham"}, Truth("ham", False)),
        (CLASSES, {"positive": False}, Truth("ham", False)),
        (RouteClasses(("a", "b", "c"), "a"), {"positive": False}, Truth(None, False)),
        (RouteClasses(("a", "b", "c")), {"label": "c"}, Truth("c", None)),
        (RouteClasses((), "bad"), {"label": "anything"}, Truth("anything", False)),
        (None, {"positive": True}, Truth(None, True)),
        (None, {"value": -3.5}, Truth(value=-3.5)),
    ],
)
def test_a_truth_has_one_form_however_it_is_said(
    known: RouteClasses | None, said: dict[str, Any], truth: Truth
) -> None:
    """`label: spam` after `positive: true` is a repetition, not a correction."""
    assert truth_of("spam", known, **said) == truth


@pytest.mark.parametrize(
    ("known", "said", "kind"),
    [
        (CLASSES, {"label": "spma"}, "unknown_label"),
        (CLASSES, {"label": ""}, "unknown_label"),
        (RouteClasses(), {"label": "x" * 129}, "unknown_label"),
        (RouteClasses(), {"label": "a\0b"}, "unknown_label"),
        (CLASSES, {}, "no_truth"),
        (RouteClasses(("a", "b")), {"positive": True}, "no_positive"),
        (None, {"label": "spam"}, "unknown_route"),
        (CLASSES, {"value": float("nan")}, "bad_value"),
        (CLASSES, {"value": float("inf")}, "bad_value"),
    ],
)
def test_a_truth_that_means_nothing_is_refused(
    known: RouteClasses | None, said: dict[str, Any], kind: str
) -> None:
    """Each refusal has its own word and says what was wanted."""
    with pytest.raises(LabelError) as refusal:
        truth_of("spam", known, **said)
    assert refusal.value.kind == kind


class Submissions(RuleBasedStateMachine):
    """Whatever is submitted in whatever order, the ledger says and keeps what a dictionary would."""

    folder: TemporaryDirectory[str]
    ledger: Ledger

    @initialize()
    def begin(self) -> None:
        self.folder = TemporaryDirectory()
        self.said: dict[tuple[int, int, str], bool] = {}
        self.start()

    def start(self) -> None:
        self.ledger = Ledger(f"sqlite:///{Path(self.folder.name) / 'ledger.db'}", Limits(linger_s=0.01))
        self.ledger.open()

    items = st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 1), st.sampled_from(["app", "crm"]), st.booleans()),
        min_size=1,
        max_size=6,
    )

    @rule(items=items)
    def submit(self, items: list[tuple[int, int, str, bool]]) -> None:
        results = self.ledger.submit_labels(
            [label(n, yes, row=row, source=by) for n, row, by, yes in items]
        ).result()
        for (number, row, source, yes), result in zip(items, results, strict=True):
            before = self.said.get((number, row, source))
            wanted = Kept.ACCEPTED if before is None else Kept.DUPLICATE if before == yes else Kept.CORRECTED
            assert result is wanted
            self.said[number, row, source] = yes

    @precondition(lambda self: self.said)
    @rule()
    def restart(self) -> None:
        self.ledger.close()
        self.start()

    @invariant()
    def what_counts_is_what_was_said_last(self) -> None:
        labelled = self.ledger.reader.labelled()
        found = sorted(zip(labelled.source.tolist(), labelled.positive.tolist(), strict=True))
        assert found == sorted((source, yes) for (_, _, source), yes in self.said.items())

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            self.folder.cleanup()


TestSubmissions = Submissions.TestCase
TestSubmissions.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
