"""Records become sums: what is counted where, and that nothing is counted twice or lost."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ledger import NO_SCORE, Ledger, Limits, Window
from gateway.ledger.grid import score_bin
from gateway.ledger.schema import tally_calls, tally_scores
from gateway.ledger.segments import OTHER_SEGMENT, Segments
from gateway.ledger.tallies import Delta, reduce_batch
from gateway.types import NO_INDEX, NO_STRING, Outcome, Reason
from tests.ledger.making import HOUR_US, NOW_US, batch


def write(ledger: Ledger, *batches: object) -> None:
    for one in batches:
        ledger.write_batch(one)  # type: ignore[arg-type]
    assert ledger.flush()


def test_calls_are_counted_by_outcome_and_reason_as_callers_saw_it(ledger: Ledger) -> None:
    """The report's first table; a rule's name stands in the reason."""
    rule = {"outcome": Outcome.STATIC, "reason": Reason.RULE, "rule": 0, "backend": 2}
    write(ledger, batch([{}, {}, rule, {"route": NO_INDEX, "backend": NO_INDEX, "outcome": Outcome.ERROR}]))
    calls = ledger.reader.calls()
    found = {
        (route, backend, Outcome(outcome), reason): int(count)
        for route, backend, outcome, reason, count in zip(
            calls.route, calls.backend, calls.outcome, calls.reason, calls.calls, strict=True
        )
    }
    assert found == {
        ("", "", Outcome.ERROR, "ok"): 1,
        ("spam", "spam-v3", Outcome.MODEL, "ok"): 2,
        ("spam", "ham", Outcome.STATIC, "rule:allow-list"): 1,
    }
    assert ledger.reader.routes() == ("spam",)


def test_a_batch_of_rows_is_one_call_and_as_many_rows(ledger: Ledger) -> None:
    """Calls and predictions are different denominators."""
    write(ledger, batch([{"row": row, "rows": 3} for row in range(3)]))
    calls = ledger.reader.calls()
    assert (calls.calls.tolist(), calls.rows.tolist()) == ([1], [3])
    assert ledger.reader.overhead().total == 1


def test_tallies_of_many_batches_add_up(ledger: Ledger) -> None:
    """Sums are additive over batches, transactions and hours."""
    write(ledger, batch([{}] * 3))
    write(ledger, batch([{}] * 4), batch([{"time_us": NOW_US + HOUR_US}] * 5))
    assert ledger.reader.calls().calls.tolist() == [12]
    assert ledger.reader.calls(Window(since_us=NOW_US + HOUR_US)).calls.tolist() == [5]
    assert ledger.reader.calls(Window(until_us=NOW_US)).calls.tolist() == [7], (
        "an hour that has begun counts whole"
    )


def test_population_is_kept_by_flag_score_and_probability(ledger: Ledger) -> None:
    """These are the N_h that labels are weighted to; rows without a prediction are not among them."""
    flagged = {"score": 0.9995, "flagged": 1, "review_pi": 0.3}
    write(
        ledger,
        batch(
            [
                flagged,
                flagged,
                {"score": 0.25, "flagged": 0, "review_pi": 0.05},
                {"score": 1.0, "flagged": 1},
                {},
            ]
        ),
        batch([{"label": 0}, flagged], strings=["ham"]),
    )
    found = ledger.reader.population()
    rows = {
        (int(flag), int(at), round(float(pi), 6)): int(count)
        for flag, at, pi, count in zip(found.flagged, found.score_bin, found.pi, found.rows, strict=True)
    }
    assert rows == {(1, 999, 0.3): 3, (0, 250, 0.05): 1, (1, 999, 0.0): 1, (-1, NO_SCORE, 0.0): 1}


def test_shadow_sums_give_agreement_and_difference(ledger: Ledger) -> None:
    """Failed comparisons count as failed, and unknown ones in no rate."""
    write(
        ledger,
        batch(
            mirrors=[
                {"agree": 1, "difference": 0.1},
                {"agree": 0, "difference": -0.3},
                {"difference": 0.2},
                {"agree": 1},
                {"result": 1, "agree": 1, "difference": 9.0},
            ]
        ),
    )
    found = ledger.reader.shadows()
    assert (found.route.tolist(), found.backend.tolist(), found.shadow.tolist()) == (
        ["spam"],
        ["spam-v3"],
        ["spam-lite"],
    )
    counts = (found.compared, found.failed, found.judged, found.agreed, found.differences)
    assert [int(count[0]) for count in counts] == [4, 1, 3, 2, 3]
    assert found.sum_difference[0] == pytest.approx(0.0)
    assert found.sum_squared[0] == pytest.approx(0.14)
    assert found.sum_absolute[0] == pytest.approx(0.6)


def test_quantiles_of_overhead_are_right_to_their_bucket(ledger: Ledger) -> None:
    """p50 and p99 come from fixed buckets 4.4 % wide."""
    times = np.random.default_rng(1).lognormal(4, 1, 5000)
    write(ledger, batch([{"overhead_us": time} for time in times]))
    overhead = ledger.reader.overhead(Window(route="spam"))
    for q in (0.5, 0.99):
        assert overhead.quantile_us(q) == pytest.approx(np.quantile(times, q), rel=0.045)
    assert ledger.reader.overhead(Window(route="fraud")).quantile_us(0.5) is None


@pytest.mark.parametrize(("us", "low", "high"), [(np.nan, 0, 1), (0.0, 0, 1), (1e12, 1e8, np.inf)])
def test_overhead_out_of_range_is_counted_at_the_end(
    ledger: Ledger, us: float, low: float, high: float
) -> None:
    """A clock that jumped must not lose the call."""
    write(ledger, batch([{"overhead_us": us}]))
    quantile = ledger.reader.overhead().quantile_us(0.5)
    assert quantile is not None
    assert low <= quantile <= high


def test_segments_beyond_the_limit_are_counted_together() -> None:
    """Callers choose segments by metadata: they must not choose how much is kept."""
    strings = [f"device={n}" for n in range(50)]
    delta, segments = Delta(), Segments(10)
    reduce_batch(batch([{"segment": n} for n in range(50)], strings=strings), delta, segments, Limits())
    kept = {key[4]: sums[1] for key, sums in delta.sums[tally_calls].items()}
    assert len(kept) == 11
    assert kept[OTHER_SEGMENT] == 40
    assert segments.admit("spam", "device=1") == "device=1"


def test_a_segment_whose_text_found_no_room_is_not_taken_for_none() -> None:
    """A batch holds so many texts; the calls past them have a segment, though nobody knows which."""
    delta = Delta()
    reduce_batch(batch([{}, {"segment": NO_STRING}]), delta, Segments(10), Limits())
    assert {key[4]: sums[0] for key, sums in delta.sums[tally_calls].items()} == {"": 1, OTHER_SEGMENT: 1}


def test_records_of_a_policy_without_names_are_dropped_and_counted(ledger: Ledger) -> None:
    """An index without its table could only be counted under a wrong name."""
    write(ledger, batch([{}, {"policy": 6}, {}], mirrors=[{"policy": 6}]))
    assert ledger.reader.calls().calls.tolist() == [2]
    counters = ledger.counters()
    assert counters["stored.records"] == 2
    assert counters["dropped.records.unknown_policy"] == 1
    assert counters["dropped.comparisons.unknown_policy"] == 1


def test_a_batch_that_cannot_be_read_harms_no_other(ledger: Ledger) -> None:
    """The writer outlives a fault in what it is given."""
    broken = batch([{}, {}])
    del broken.records["overhead_us"]  # type: ignore[attr-defined]
    write(ledger, batch([{}]), broken, batch([{}]))
    assert ledger.reader.calls().calls.tolist() == [2]
    assert ledger.counters()["dropped.records.malformed"] == 2


records = st.fixed_dictionaries(
    {
        "row": st.integers(0, 2),
        "time_us": st.sampled_from([NOW_US, NOW_US + HOUR_US]),
        "route": st.sampled_from([0, 1, NO_INDEX]),
        "backend": st.sampled_from([0, 1, 2, NO_INDEX]),
        "segment": st.integers(0, 2),
        "outcome": st.integers(0, 6),
        "reason": st.integers(0, 11),
        "flagged": st.sampled_from([0, 1, 255]),
        "score": st.sampled_from([0.0, 0.2504, 0.999, 1.0, float("nan"), float("inf"), -3.0]),
        "review_pi": st.sampled_from([0.0, 0.05, 1.0]),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(records, max_size=40), st.integers(1, 5))
def test_sums_are_those_of_a_loop_over_records(rows: list[dict[str, float]], parts: int) -> None:
    """The grouping by numpy, against the obvious way; however the records are cut into batches."""
    strings = ["device=phone", "", "device=web"]
    delta, segments = Delta(), Segments(100)
    for start in range(parts):
        reduce_batch(batch(rows[start::parts], strings=strings), delta, segments, Limits())
    calls: Counter[tuple[object, ...]] = Counter()
    scored = 0
    for row in rows:
        calls[
            int(row["time_us"]) // HOUR_US,
            {0: "spam", 1: "fraud"}.get(int(row["route"]), ""),
            {0: "spam-v3", 1: "spam-lite", 2: "ham"}.get(int(row["backend"]), ""),
            strings[int(row["segment"])],
            row["outcome"],
            Reason(int(row["reason"])).text,
        ] += 1
        scored += row["route"] != NO_INDEX and (row["flagged"] != 255 or bool(np.isfinite(row["score"])))
    found = {(key[0], key[1], *key[3:]): sums[1] for key, sums in delta.sums[tally_calls].items()}
    assert found == calls
    assert sum(sums[0] for sums in delta.sums[tally_calls].values()) == sum(row["row"] == 0 for row in rows)
    assert sum(sums[0] for sums in delta.sums[tally_scores].values()) == scored


def test_scores_that_no_model_gives_go_to_the_nearest_bin() -> None:
    """Without an overflow, which is a warning and so a fault."""
    bins = score_bin(np.array([-1e306, -0.1, 0.0, 0.9995, 1.0, 1e306, np.inf, np.nan]))
    assert bins.tolist() == [0, 0, 0, 999, 999, 999, NO_SCORE, NO_SCORE]
