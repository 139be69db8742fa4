"""Series are bounded by name, sources are polled, and neither can hurt the rest."""

from __future__ import annotations

from gateway.telemetry import Point, plane_source
from gateway.telemetry.instruments import CATALOGUE, OVERFLOW
from gateway.telemetry.registry import Distribution, Registry, Series


def series(registry: Registry, name: str) -> list[Series]:
    return next(list(family.series) for family in registry.collect() if family.instrument.name == name)


def by_attributes(found: list[Series]) -> dict[tuple[object, ...], object]:
    return {tuple(one.attributes.values()): one.value for one in found}


def test_series_beyond_the_limit_go_into_one_overflow_series_and_are_counted() -> None:
    """A caller who invents names must not grow the process, and no count may be lost."""
    registry = Registry()
    limit = CATALOGUE["gateway.decisions"].series_limit
    for number in range(limit + 25):
        registry.add("gateway.decisions", {"route": f"r{number}"}, 2)
    found = series(registry, "gateway.decisions")
    assert len(found) == limit + 1
    assert [one.value for one in found if OVERFLOW in one.attributes] == [50]
    assert sum(one.value for one in found if not isinstance(one.value, Distribution)) == 2 * (limit + 25)
    assert by_attributes(series(registry, "gateway.dropped")) == {("series", "cardinality"): 50}


def test_a_series_that_was_there_before_the_limit_goes_on() -> None:
    """Overflow is for newcomers only."""
    registry = Registry()
    for number in range(CATALOGUE["gateway.decisions"].series_limit + 1):
        registry.add("gateway.decisions", {"route": f"r{number}"}, 1)
    registry.add("gateway.decisions", {"route": "r0"}, 5)
    assert by_attributes(series(registry, "gateway.decisions"))["r0",] == 6


def test_points_of_a_source_are_bounded_too() -> None:
    """Counters keep their sum in the overflow series; gauges cannot be summed and are left out, counted."""
    limit = CATALOGUE["gateway.confusion"].series_limit
    points = [Point("gateway.confusion", 1.5, {"segment": str(number)}) for number in range(limit + 3)]
    points += [Point("gateway.precision", 0.5, {"segment": str(number)}) for number in range(limit + 3)]
    registry = Registry([lambda: points])
    confusion = series(registry, "gateway.confusion")
    assert [one.value for one in confusion if OVERFLOW in one.attributes] == [4.5]
    assert len(series(registry, "gateway.precision")) == limit


def test_a_source_that_fails_costs_only_its_own_numbers() -> None:
    """A broken ledger must not make the whole scrape fail."""

    def broken() -> list[Point]:
        raise OSError("disk")

    registry = Registry([broken, lambda: [Point("gateway.policy.version", 3)]])
    assert [one.value for one in series(registry, "gateway.policy.version")] == [3]
    assert by_attributes(series(registry, "gateway.dropped"))["source", "failed"] >= 1  # type: ignore[operator]


def test_points_outside_the_catalogue_are_refused_and_counted() -> None:
    """No metric and no attribute appears by accident."""
    points = [
        Point("gateway.made_up", 1),
        Point("gateway.labels", 1, {"user": "alice"}),
        Point("gateway.overhead", 1),
    ]
    registry = Registry([lambda: points])
    found = {family.instrument.name: family.series for family in registry.collect()}
    assert by_attributes(list(found["gateway.dropped"])) == {("point", "not_in_catalogue"): 3}
    assert not found["gateway.labels"]
    assert not found["gateway.overhead"]


def test_a_counter_that_outlives_the_process_keeps_its_own_start() -> None:
    """Else every restart would look like all labels arriving again."""
    registry = Registry(
        [lambda: [Point("gateway.labels", 40, {"source": "review"}, since_ns=5)]], clock_ns=lambda: 1000
    )
    registry.add("gateway.decisions", {"route": "spam"}, 1)
    assert [one.since_ns for one in series(registry, "gateway.labels")] == [5]
    assert [one.since_ns for one in series(registry, "gateway.decisions")] == [1000]


def test_what_telemetry_dropped_and_what_others_dropped_stand_in_one_metric() -> None:
    """The same attributes from two sides add up rather than hide each other."""
    source = plane_source(
        lambda: {
            "dropped.mirror.queue_full": 4,
            "dropped.span.queue_full": 2,
            "in_flight": 3,
            "connections": 9,
        },
        lambda: 12,
    )
    registry = Registry([source])
    registry.drop("span", "queue_full", 5)
    assert by_attributes(series(registry, "gateway.dropped")) == {
        ("mirror", "queue_full"): 4,
        ("span", "queue_full"): 7,
    }
    assert [one.value for one in series(registry, "gateway.in_flight")] == [3]
    assert [one.value for one in series(registry, "gateway.policy.version")] == [12]


def test_what_was_turned_away_hedged_and_retried_is_told() -> None:
    """A limit that nobody sees being met is found out by callers."""
    counters = {
        "overload.calls": 1,
        "overload.connections": 2,
        "overload.backend": 3,
        "hedged.begun": 5,
        "hedged.first": 4,
        "retried.failed": 6,
        "retried.unprocessed": 7,
        "cancelled": 8,
    }
    registry = Registry([plane_source(lambda: counters, lambda: 1)])
    assert by_attributes(series(registry, "gateway.dropped")) == {
        ("call", "overload"): 1,
        ("connection", "overload"): 2,
        ("attempt", "overload"): 3,
    }
    assert by_attributes(series(registry, "gateway.hedges")) == {("begun",): 5, ("first",): 4}
    assert by_attributes(series(registry, "gateway.retries")) == {("failed",): 6, ("unprocessed",): 7}
    assert [one.value for one in series(registry, "gateway.cancelled")] == [8]
