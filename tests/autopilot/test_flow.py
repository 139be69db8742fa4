"""The watch for feedback: which source stopped, in which segment, since when."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from gateway.autopilot.drift_words import date
from gateway.autopilot.flow import FLOW, FlowWatch, flow_report
from gateway.autopilot.flow_words import SourceFlow
from gateway.ledger import Facts, LabelRow, Ledger, Truth, acts
from gateway.ledger.daily import DAY_US
from tests.autopilot import days
from tests.autopilot.days import DAY, Days

CALLS = {"device=phone": 700, "device=desk": 300}
Rates = Mapping[str, float]


def traffic(to: Days, rng: np.random.Generator, day: int, rates: Mapping[str, Rates]) -> None:
    """A day's calls, and labels of each source by segment and rate."""
    half = 0.6 if day % 7 >= 5 else 1.0
    calls = {segment: int(rng.poisson(count * half)) for segment, count in CALLS.items()}
    to.calls(day, {(segment, 0): count for segment, count in calls.items()})
    for source, by in rates.items():
        came = {segment: int(rng.poisson(calls[segment] * rate)) for segment, rate in by.items()}
        to.labels(day, source, came)


BOTH = {"device=phone": 0.05, "device=desk": 0.05}
PHONES_OUT = {"device=phone": 0.0, "device=desk": 0.05}
NONE = {"device=phone": 0.0, "device=desk": 0.0}


def watched(
    folder: Path, rates: Callable[[int], Mapping[str, Rates]], end: int, *, told: bool = False
) -> dict[str, SourceFlow]:
    """What is said on the morning of the last day, after a look on each of the last five."""
    ledger, to = days.made(folder)
    rng, watch = np.random.default_rng(11), FlowWatch(ledger)
    for day in range(DAY, DAY + end):
        traffic(to, rng, day, rates(day - DAY))
        if day >= DAY + end - 5:
            to.write()
            look(ledger, day + 1, watch)
    found = said(ledger)
    news = ledger.reader.snapshot(acts.history)
    ledger.close()
    # What is told is told once, and is what is found.
    words = [(one.route, one.cause, one.act, one.state) for one in news]
    assert words == [("spam", "feedback", "notify", "done")] * len(words)
    assert len(news) <= 2
    assert bool(news) == told
    return found


def look(ledger: Ledger, today: int, watch: FlowWatch) -> None:
    watch.look(SimpleNamespace(settings=days.settings(), version=7), today * DAY_US + DAY_US // 4)


def said(ledger: Ledger) -> dict[str, SourceFlow]:
    return {one.source: one for one in flow_report(ledger.states(FLOW), "spam", 3650.0)}


def test_a_source_that_stops_in_one_segment_is_named_with_it(tmp_path: Path) -> None:
    """Somebody removed the button from the phones' app; the other source and the desks go on."""
    stop = 30
    found = watched(
        tmp_path,
        lambda day: {"thumbs": BOTH if day < stop else PHONES_OUT, "chargebacks": BOTH},
        stop + 3,
        told=True,
    )
    thumbs = found["thumbs"]
    assert thumbs.verdict == "starved"
    assert thumbs.starved == ("device=phone",)
    assert thumbs.words.startswith(
        f"The source thumbs stopped in segment device=phone since {date(DAY + stop)}: 0 came where about "
    )
    assert found["chargebacks"].verdict == "flowing"


def test_a_source_that_stops_everywhere_is_named_alone(tmp_path: Path) -> None:
    """Not as a list of its segments."""
    stop = 25
    found = watched(tmp_path, lambda day: {"thumbs": BOTH if day < stop else NONE}, stop + 3, told=True)
    thumbs = found["thumbs"]
    assert thumbs.starved == ("",)
    assert thumbs.words.startswith(f"The source thumbs stopped since {date(DAY + stop)}: 0 came where about ")
    assert thumbs.words.endswith("What rests on it is unknown until it comes back.")


def test_a_living_source_is_left_alone_and_a_young_one_is_learnt(tmp_path: Path) -> None:
    """Weekends bring less, and that is no end."""
    found = watched(tmp_path, lambda day: {"thumbs": BOTH, **({"app": BOTH} if day > 24 else {})}, 32)
    assert found["thumbs"].verdict == "flowing"
    assert "comes as it did" in found["thumbs"].words
    assert found["app"].verdict == "learning"
    whole = found["thumbs"].whole
    assert whole is not None
    assert whole.rate is not None
    assert 0.045 < whole.rate < 0.055


def test_a_source_that_comes_back_is_no_longer_starved(tmp_path: Path) -> None:
    """A good day speaks loudly for it."""
    found = watched(tmp_path, lambda day: {"thumbs": NONE if 25 <= day < 29 else BOTH}, 33, told=True)
    assert found["thumbs"].verdict == "flowing"


def test_a_source_that_seldom_speaks_is_said_to_be_unwatched(tmp_path: Path) -> None:
    """Nobody would notice its end, and the reader is told."""
    few = {"device=phone": 0.0005, "device=desk": 0.0}
    found = watched(tmp_path, lambda day: {"letters": few}, 30)
    assert found["letters"].verdict == "unknown"
    assert "would not be noticed" in found["letters"].words


def test_one_look_after_weeks_says_what_daily_looks_say(tmp_path: Path) -> None:
    """A loop that was away catches up."""
    rates = {"thumbs": BOTH}
    daily = watched(tmp_path / "daily", lambda day: rates, 20)
    ledger, to = days.made(tmp_path / "once")
    rng = np.random.default_rng(11)
    for day in range(DAY, DAY + 20):
        traffic(to, rng, day, rates)
    to.write()
    look(ledger, DAY + 20, FlowWatch(ledger))
    once = said(ledger)
    ledger.close()
    assert once == daily


def test_signals_and_outcomes_are_sources_too_and_late_labels_are_waited_for(tmp_path: Path) -> None:
    """Of labels that take days only the share that can have come is expected."""
    ledger, to = days.made(tmp_path)
    rng = np.random.default_rng(12)
    rows = []
    now = (DAY + 40) * DAY_US + DAY_US // 4
    for day in range(DAY, DAY + 40):
        to.calls(day, {("device=phone", 0): 400})
        for at in range(20):
            made = days.noon_us(day) + at * 1_000_000
            facts = Facts(made, 7, "spam", "spam-v3", "device=phone", 0, 0.9, True, 0.1, False)
            late = made + int(rng.exponential(4.0) * DAY_US)
            identity = (day * 100 + at).to_bytes(16, "big")
            if late < now:
                rows.append(LabelRow(identity, 0, "chargebacks", Truth(positive=True), facts, late))
            rows.append(
                LabelRow(identity, 0, "app", Truth(value=1.0, signal="click"), facts, made + 5_000_000)
            )
    to.write()
    ledger.submit_labels(rows).result(30.0)
    look(ledger, DAY + 40, FlowWatch(ledger))
    found = said(ledger)
    ledger.close()
    assert {name: one.verdict for name, one in found.items()} == {
        "chargebacks": "flowing",
        "app (click)": "flowing",
    }
    whole = found["chargebacks"].whole
    assert whole is not None
    last = whole.days[-1]
    assert last[0] < DAY + 39
    assert last[2] < 0.6 * 20
