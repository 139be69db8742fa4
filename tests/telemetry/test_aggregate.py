"""Numbers added up by columns are the numbers a loop over the rows would give."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.runtime.batch import Batch
from gateway.telemetry.aggregate import SERVER_FAULTS, add_batch, group
from gateway.telemetry.instruments import CATALOGUE, status_name
from gateway.telemetry.registry import Attributes, Distribution, Registry
from gateway.types import NO_INDEX, NO_STRING, Outcome, Reason, reason_text
from tests.telemetry.records import NAMES, STRINGS, batch

ROUTED = st.fixed_dictionaries(
    {
        "policy": st.sampled_from([7, 8]),
        "route": st.sampled_from([0, 1, NO_INDEX]),
        "outcome": st.sampled_from([int(outcome) for outcome in Outcome]),
        "reason": st.sampled_from([int(reason) for reason in Reason]),
        "rule": st.sampled_from([0, NO_INDEX]),
        "row": st.sampled_from([0, 0, 0, 1, 2]),
        "status": st.integers(0, 16),
        "method": st.sampled_from([1, 4]),
        "duration_us": st.integers(0, 2**32 - 1),
        "overhead_us": st.floats(0, 2e6, width=32),
    }
)
ATTEMPT = st.fixed_dictionaries(
    {
        "backend": st.sampled_from([0, 1, 2, NO_INDEX]),
        "reason": st.sampled_from([0, 1, 3, 4, 5, 6]),
        "duration_us": st.integers(0, 20_000_000),
        "status": st.integers(0, 16),
    }
)
MIRROR = st.fixed_dictionaries(
    {
        "policy": st.sampled_from([7, 8]),
        "route": st.sampled_from([0, 1]),
        "to": st.sampled_from([1, 2]),
        "result": st.sampled_from([0, 1]),
        "agree": st.sampled_from([0, 1, 255]),
        "difference": st.one_of(st.just(math.nan), st.floats(-1, 1)),
    }
)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    records = draw(st.lists(ROUTED, max_size=40))
    attempts = draw(st.lists(ATTEMPT, max_size=40)) if records else []
    attempts = [{**a, "record": draw(st.integers(0, len(records) - 1))} for a in attempts]
    return batch(records, attempts, draw(st.lists(MIRROR, max_size=20)))


class Naive:
    """The same sums, one row at a time."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, frozenset[Any]]] = Counter()
        self.values: defaultdict[tuple[str, frozenset[Any]], list[float]] = defaultdict(list)

    def count(self, metric: str, **attributes: str) -> None:
        self.counts[metric, frozenset(attributes.items())] += 1

    def value(self, metric: str, value: float, attributes: dict[str, str]) -> None:
        self.values[metric, frozenset(attributes.items())].append(value)

    def rpc(self, record: dict[str, Any], status: int, failed: bool) -> dict[str, str]:
        strange = record["route"] == NO_INDEX and status == 12
        method = "_OTHER" if strange else STRINGS[record["method"]].lstrip("/")
        code = status_name(status)
        found = {"rpc.system.name": "grpc", "rpc.method": method, "rpc.response.status_code": code}
        return {**found, "error.type": code} if failed else found

    def add(self, taken: Batch) -> None:
        records = _rows(taken.records)
        for record in records:
            names = NAMES[record["policy"]]
            route = names.route(record["route"])
            rule = names.rule(record["route"], record["rule"])
            self.count(
                "gateway.decisions",
                route=route,
                outcome=Outcome(record["outcome"]).text,
                reason=reason_text(record["reason"], rule),
            )
            if record["row"] == 0:
                rpc = self.rpc(record, record["status"], record["status"] in SERVER_FAULTS)
                self.value("rpc.server.call.duration", record["duration_us"] / 1e6, rpc)
                self.value("gateway.overhead", float(record["overhead_us"]) / 1e6, {"route": route})
        for attempt in _rows(taken.attempts):
            record = records[attempt["record"]]
            names = NAMES[record["policy"]]
            backend = names.backend(attempt["backend"])
            reason = reason_text(attempt["reason"])
            self.count("gateway.attempts", route=names.route(record["route"]), backend=backend, reason=reason)
            rpc = self.rpc(record, attempt["status"], attempt["status"] != 0)
            self.value("rpc.client.call.duration", attempt["duration_us"] / 1e6, {**rpc, "backend": backend})
        for mirror in _rows(taken.mirrors):
            names = NAMES[mirror["policy"]]
            where = {
                "route": names.route(mirror["route"]),
                "to": names.backend(mirror["to"]),
                "noise": "true" if mirror["noise"] else "false",
                "segment": taken.strings[mirror["segment"]],
            }
            unlabelled = "answered" if math.isnan(mirror["difference"]) else "scored"
            words = {0: "disagreed", 1: "agreed", 255: unlabelled}
            self.count(
                "gateway.mirror", **where, result="failed" if mirror["result"] else words[mirror["agree"]]
            )
            if not math.isnan(mirror["difference"]):
                self.value("gateway.mirror.difference", mirror["difference"], where)


def _rows(columns: Any) -> list[dict[str, Any]]:
    names = list(columns)
    return [
        dict(zip(names, row, strict=True))
        for row in zip(*(columns[name].tolist() for name in names), strict=True)
    ]


@settings(deadline=None, max_examples=60)
@given(st.lists(batches(), min_size=1, max_size=3))
def test_columns_add_up_to_what_a_loop_over_rows_gives(taken: list[Batch]) -> None:
    """Vectorised aggregation may be faster than a loop, never different from it."""
    registry, naive = Registry(), Naive()
    for one in taken:
        add_batch(one, registry)
        naive.add(one)
    numbers, spreads = {}, {}
    for family in registry.collect():
        for series in family.series:
            key = (family.instrument.name, frozenset(series.attributes.items()))
            (spreads if isinstance(series.value, Distribution) else numbers)[key] = series.value
    assert numbers == dict(naive.counts)
    assert spreads.keys() == naive.values.keys()
    for (metric, attributes), found in spreads.items():
        values = naive.values[metric, attributes]
        bounds = CATALOGUE[metric].bounds
        buckets = [0] * (len(bounds) + 1)
        for value in values:
            buckets[next((at for at, bound in enumerate(bounds) if value <= bound), len(bounds))] += 1
        assert found.counts.tolist() == buckets
        assert math.isclose(found.total, math.fsum(values), rel_tol=1e-12, abs_tol=1e-12)
        assert (found.low, found.high) == (min(values), max(values))


@given(
    st.lists(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1)), min_size=1
    )
)
def test_rows_are_grouped_by_value_even_when_the_columns_span_more_than_64_bits(
    rows: list[tuple[int, int, int]],
) -> None:
    """Packing columns into one key must not let two different series fall together."""
    wide = [np.array(column, dtype=np.uint32) for column in zip(*rows, strict=True)]
    first, member = group(wide)
    assert [rows[first[number]] for number in member] == rows
    assert len(first) == len(set(rows))


def test_an_unknown_policy_version_still_counts_its_rows() -> None:
    """Names can be missing (a policy came and went); the totals must not be."""
    registry = Registry()
    add_batch(batch([{"policy": 99}], [{}]), registry)
    found = {family.instrument.name: family.series for family in registry.collect()}
    assert found["gateway.decisions"][0].attributes == {"route": "", "outcome": "model", "reason": "ok"}
    assert found["gateway.decisions"][0].value == 1


def test_a_method_too_long_to_keep_costs_no_other_call_its_numbers() -> None:
    """Callers choose the method's name: 300 bytes of it must not blind the metrics of the whole batch."""
    registry = Registry()
    long = {
        "method": NO_STRING,
        "route": NO_INDEX,
        "backend": NO_INDEX,
        "outcome": Outcome.ERROR,
        "status": 14,
    }
    add_batch(batch([{}, long], [{}, {"record": 1, "status": 14}]), registry)
    found = {family.instrument.name: family.series for family in registry.collect()}
    for name in ("rpc.server.call.duration", "rpc.client.call.duration"):
        methods = {str(series.attributes["rpc.method"]) for series in found[name]}
        assert methods == {"inference.GRPCInferenceService/ModelInfer", "_OTHER"}


class CountingRegistry(Registry):
    """Counts how often Python is entered."""

    additions = 0

    def add(self, name: str, attributes: Attributes, amount: float) -> None:
        self.additions += 1
        super().add(name, attributes, amount)

    def observe(self, name: str, attributes: Attributes, values: Distribution) -> None:
        self.additions += 1
        super().observe(name, attributes, values)


def test_python_runs_once_per_series_however_many_rows_there_are() -> None:
    """A full batch of 65,536 rows must not cost a Python step per row."""
    generator = np.random.default_rng(3)
    rows = 65_536
    small = batch([{}])
    records = {name: np.repeat(column, rows) for name, column in small.records.items()}
    records["outcome"] = generator.integers(0, 7, rows).astype(np.uint8)
    records["duration_us"] = generator.integers(0, 100_000, rows).astype(np.uint32)
    registry = CountingRegistry()
    add_batch(Batch(records, small.attempts, small.mirrors, small.strings, [], NAMES), registry)
    assert registry.additions == 7 + 1 + 1  # seven outcomes, one method and status, one route's overhead
    overhead = next(f for f in registry.collect() if f.instrument.name == "gateway.overhead").series[0].value
    assert isinstance(overhead, Distribution)
    assert overhead.count == rows
