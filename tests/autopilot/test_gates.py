"""Gates over a ledger: an innocent model is left alone, a fall is found, and what cannot be known is said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from gateway.autopilot.gates import GateWatch, Judged
from gateway.ledger import Ledger, acts, verdicts
from gateway.ledger.acts import Act
from gateway.ledger.grid import HOUR_US
from tests.autopilot.labelled import (
    DAY_US,
    START_US,
    Flow,
    Model,
    Writer,
    close_tasks,
    open_task,
    opened,
    settings,
)

LONG = os.environ.get("SIMULATE") == "long"
GATE = "{name: holds, metric: precision, at_least: 0.93, label_delay_h: 0, then: roll_back}"


@pytest.fixture
def clock() -> list[int]:
    return [START_US]


@pytest.fixture
def ledger(tmp_path: Path, clock: list[int]) -> Iterator[Ledger]:
    with opened(tmp_path, clock) as made:
        yield made


def verdict_of(judged: tuple[Judged, ...], gate: str = "holds", segment: str = "") -> Judged:
    [found] = [one for one in judged if one.gate.name == gate and one.verdict.segment == segment]
    return found


def test_an_innocent_model_is_left_alone_in_50_runs(ledger: Ledger) -> None:
    """Ten days of .96 where .93 is wanted, looked at every six hours, fifty times: no failure, and passes in the end.

    The model in the 51st run is not innocent: its precision falls to .70 on the sixth day.
    """
    routes = [f"run-{number}" for number in range(50)]
    made = settings([*routes, "fallen"], GATE)
    writer, watch = Writer(ledger, 801), GateWatch(ledger)
    failed: set[str] = set()
    found_us, labels = 0, 0
    flow = Flow(flagged=50, unflagged=10, pi_flagged=0.5, pi_unflagged=0.25)
    judged: tuple[Judged, ...] = ()
    for step in range(20 if LONG else 10):
        for hour in (0, 12):
            at_us = START_US + step * DAY_US + hour * HOUR_US
            writer.hour(routes, at_us, Model(precision=0.96), flow)
            new = writer.hour(["fallen"], at_us, Model(precision=0.96 if step < 5 else 0.70), flow)
            labels += new if step >= 5 and not found_us else 0
            judged = watch.evaluate(made, 1, at_us + 6 * HOUR_US)
            failing = {one.verdict.route for one in judged if one.verdict.verdict == "fail"}
            if "fallen" in failing and not found_us:
                found_us = at_us
            failed |= failing
    assert failed == {"fallen"}
    assert found_us >= START_US + 5 * DAY_US
    assert labels <= 2 * 138
    passing = sum(one.verdict.verdict == "pass" for one in judged)
    assert passing >= 25
    assert not any(one.failure for one in judged if one.verdict.route != "fallen")


def fallen(ledger: Ledger, watch: GateWatch, made: object, *, days: int = 8) -> tuple[Judged, int]:
    """A route whose precision falls to .60 on the fifth day; the last verdict, and the time."""
    writer, now_us = Writer(ledger, 802), START_US
    for day in range(days):
        for hour in range(0, 24, 6):
            at_us = START_US + day * DAY_US + hour * HOUR_US
            writer.hour(["spam"], at_us, Model(precision=0.97 if day < 4 else 0.60))
            now_us = at_us + 6 * HOUR_US
            judged = watch.evaluate(made, 3, now_us)  # type: ignore[arg-type]
    return verdict_of(judged), now_us


def test_a_fall_is_a_failure_in_words_and_is_kept(ledger: Ledger) -> None:
    """The verdict says the number, its interval, what was wanted and since when; the history has each change once."""
    made, watch = settings(["spam"], GATE), GateWatch(ledger)
    last, _ = fallen(ledger, watch, made)
    assert last.verdict.verdict == "fail"
    assert last.failure is not None
    assert last.failure.since_us >= START_US + 4 * DAY_US
    number = last.verdict
    assert number.value is not None
    assert f"precision {number.value:.2f} [" in number.words
    assert f"from {number.labels} labels; wanted at least 0.93: fail since 20" in number.words
    assert number.low < number.value < number.high < 0.93  # type: ignore[operator]
    told = ledger.reader.snapshot(partial(verdicts.history, route="spam"))
    changes = [one.verdict for one in told]
    assert changes[-1] == "fail"
    assert "pass" in changes
    assert len(told) <= 2 * 8 + 4, "once a change and once a day"
    assert told[-1].words.startswith("precision ")


def test_a_restart_forgets_nothing(ledger: Ledger) -> None:
    """A watch made anew before every look says word for word what one that stayed says."""
    made, steady = (
        settings(["spam"], GATE, "{name: recall-holds, metric: recall, at_least: 0.5}"),
        GateWatch(ledger),
    )
    writer = Writer(ledger, 803)
    for day in range(7):
        at_us = START_US + day * DAY_US
        for hour in (0, 8, 16):
            writer.hour(["spam"], at_us + hour * HOUR_US, Model(precision=0.97 if day < 4 else 0.60))
        one = steady.evaluate(made, 1, at_us + DAY_US)
        again = GateWatch(ledger).evaluate(made, 1, at_us + DAY_US)
        assert [(x.verdict, x.failure) for x in again] == [(x.verdict, x.failure) for x in one]
    assert verdict_of(one).verdict.verdict == "fail"


def test_after_an_act_only_what_came_since_counts(ledger: Ledger) -> None:
    """The backend that was rolled back to is not judged by the labels of the one that failed."""
    made, watch = settings(["spam"], GATE), GateWatch(ledger)
    _, now_us = fallen(ledger, watch, made)
    act = Act(now_us, "spam", "holds", "roll_back", "done", "rolled back", "autopilot", before=3, after=4)
    ledger.transact(partial(acts.note, act=act)).result()
    after = verdict_of(watch.evaluate(made, 4, now_us + HOUR_US))
    assert (after.verdict.verdict, after.failure) == ("inconclusive", None)
    writer = Writer(ledger, 804)
    writer._number = 10**9
    for hour in range(1, 40, 3):
        writer.hour(["spam"], now_us + hour * HOUR_US, Model(precision=0.99), Flow(120, 50))
    assert verdict_of(watch.evaluate(made, 4, now_us + 41 * HOUR_US)).verdict.verdict == "pass"
    told = replace(act, act="notify", after=None, time_us=now_us + 41 * HOUR_US)
    ledger.transact(partial(acts.note, act=told)).result()
    assert verdict_of(watch.evaluate(made, 4, now_us + 42 * HOUR_US)).verdict.verdict == "pass"


def test_a_failure_ends_when_what_came_since_is_shown_to_be_good(ledger: Ledger) -> None:
    """A model that was mended passes before the bad days have left the window."""
    made, watch = settings(["spam"], GATE), GateWatch(ledger)
    last, now_us = fallen(ledger, watch, made, days=5)
    assert last.verdict.verdict == "fail"
    writer = Writer(ledger, 805)
    writer._number = 10**9
    said = []
    for hour in range(0, 60, 4):
        writer.hour(["spam"], now_us + hour * HOUR_US, Model(precision=0.995), Flow(40, 50))
        said.append(verdict_of(watch.evaluate(made, 3, now_us + (hour + 1) * HOUR_US)).verdict.verdict)
    assert said[0] == "fail"
    assert said[-1] == "pass"
    assert said == sorted(said), "fail, then pass, and never back"


def test_a_segment_that_is_bad_alone_is_named(ledger: Ledger) -> None:
    """Each value of `device` is judged by itself; together they still pass for good."""
    made = settings(
        ["spam"],
        "{name: holds, metric: precision, at_least: 0.85, label_delay_h: 0}",
        "{name: each, metric: precision, at_least: 0.85, segment: device, label_delay_h: 0}",
        "{name: phones, metric: precision, at_least: 0.85, segment: device=phone, label_delay_h: 0}",
    )
    writer, watch = Writer(ledger, 806), GateWatch(ledger)
    for hour in range(0, 72, 6):
        at_us = START_US + hour * HOUR_US
        writer.hour(["spam"], at_us, Model(0.97), Flow(180, 50), "device=desktop,country=de")
        writer.hour(["spam"], at_us, Model(0.60), Flow(24, 50), "country=de,device=phone")
        judged = watch.evaluate(made, 1, at_us + 2 * HOUR_US)
    said = {(one.gate.name, one.verdict.segment): one.verdict.verdict for one in judged}
    assert said == {
        ("holds", ""): "pass",
        ("each", "device=desktop"): "pass",
        ("each", "device=phone"): "fail",
        ("phones", "device=phone"): "fail",
    }
    failure = verdict_of(judged, "each", "device=phone").failure
    assert failure is not None
    assert failure.cause == "each[device=phone]"


def test_recall_by_the_bound_that_may_be_acted_on(ledger: Ledger) -> None:
    """Unflagged labels weigh 16 times: a model that misses three of four fails, and precision knows nothing of it."""
    made = settings(
        ["spam"],
        "{name: holds, metric: precision, at_least: 0.9, label_delay_h: 0}",
        "{name: finds, metric: recall, at_least: 0.6, label_delay_h: 0}",
        "{name: alarms, metric: false_positive_rate, at_most: 0.05, label_delay_h: 0}",
    )
    writer, watch = Writer(ledger, 807), GateWatch(ledger)
    for hour in range(0, 100, 5):
        at_us = START_US + hour * HOUR_US
        writer.hour(["spam"], at_us, Model(0.96, missed=0.0 if hour < 40 else 0.2), Flow(100, 500))
        judged = watch.evaluate(made, 1, at_us + 2 * HOUR_US)
    said = {one.gate.name: one.verdict.verdict for one in judged}
    assert said == {"holds": "pass", "finds": "fail", "alarms": "pass"}
    recall = verdict_of(judged, "finds")
    assert recall.estimate.method == "clopper_pearson_matched"


@pytest.mark.parametrize("option", ["inconclusive", "fail", "keep_last"])
def test_too_little_counts_as_the_settings_say(ledger: Ledger, option: str) -> None:
    """And never as a pass that nobody saw."""
    options = f"on_no_data: {option}, on_inconclusive: {option}"
    gate = f"{{name: holds, metric: precision, at_least: 0.8, window_h: 24, {options}}}"
    made, watch = settings(["spam"], gate), GateWatch(ledger)
    writer = Writer(ledger, 808)
    first = verdict_of(watch.evaluate(made, 1, START_US))
    assert first.verdict.verdict == ("fail" if option == "fail" else "inconclusive")
    assert "no label in the whole window" in first.verdict.words
    writer.hour(["spam"], START_US, Model(0.97), Flow(flagged=40))
    few = verdict_of(watch.evaluate(made, 1, START_US + 2 * HOUR_US))
    assert few.verdict.verdict == ("fail" if option == "fail" else "inconclusive")
    assert "fewer than the 50 labels that it takes" in few.verdict.words
    writer.hour(["spam"], START_US + 2 * HOUR_US, Model(1.0), Flow(flagged=200))
    assert verdict_of(watch.evaluate(made, 1, START_US + 4 * HOUR_US)).verdict.verdict == "pass"
    late = verdict_of(watch.evaluate(made, 1, START_US + 60 * HOUR_US))
    assert late.verdict.verdict == {"keep_last": "pass"}.get(option, option)


def test_consecutive_failures_each_bring_new_labels(ledger: Ledger) -> None:
    """Looking three times at the same labels is one failure."""
    gate = "{name: holds, metric: precision, at_least: 0.93, label_delay_h: 0, consecutive: 3}"
    made, watch = settings(["spam"], gate), GateWatch(ledger)
    writer = Writer(ledger, 809)
    writer.hour(["spam"], START_US, Model(0.4), Flow(flagged=200))
    for look in range(5):
        one = verdict_of(watch.evaluate(made, 1, START_US + 2 * HOUR_US + look))
        assert (one.verdict.verdict, one.failure) == ("fail", None)
    for more in (2, 3):
        writer.hour(["spam"], START_US + more * HOUR_US, Model(0.4))
        one = verdict_of(watch.evaluate(made, 1, START_US + (more + 1) * HOUR_US))
    assert one.failure is not None
    assert one.failure.since_us == START_US + 2 * HOUR_US


def test_labels_wait_for_their_turn(ledger: Ledger) -> None:
    """Good news comes at once, bad news after ten hours: in the order of arrival the fall would be seen late or never.

    Nothing is believed before the wait is over, and then all of it is.
    """
    gate = "{name: holds, metric: precision, at_least: 0.93, label_delay_h: 12}"
    made, watch = settings(["spam"], gate), GateWatch(ledger)
    writer = Writer(ledger, 810)
    for hour in range(8):
        flow = Flow(flagged=60)
        writer.hour(["spam"], START_US + hour * HOUR_US, Model(0.5), flow, hold_back=True)
    good = [row for row in writer.late if row["positive"]]
    bad = [row for row in writer.late if not row["positive"]]
    open_task(ledger, bad[0], START_US)
    writer.answer(good)
    early = verdict_of(watch.evaluate(made, 1, START_US + 9 * HOUR_US)).verdict
    assert early.verdict == "inconclusive", early.words
    assert early.labels < 50
    writer.answer(bad)
    close_tasks(ledger, START_US + 10 * HOUR_US)
    assert verdict_of(watch.evaluate(made, 1, START_US + 11 * HOUR_US)).verdict.verdict == "fail"


def test_a_changed_bound_begins_anew_and_a_removed_gate_is_forgotten(ledger: Ledger) -> None:
    """What speaks against .93 does not speak against .50."""
    watch = GateWatch(ledger)
    last, now_us = fallen(ledger, watch, settings(["spam"], GATE), days=6)
    assert last.verdict.verdict == "fail"
    milder = settings(["spam"], GATE.replace("0.93", "0.50"))
    assert verdict_of(watch.evaluate(milder, 4, now_us + HOUR_US)).verdict.verdict == "pass"
    other = settings(["spam"], GATE.replace("holds", "other"))
    watch.evaluate(other, 5, now_us + 2 * HOUR_US)
    assert {name for _, name in ledger.states("gate")} == {"other|"}
