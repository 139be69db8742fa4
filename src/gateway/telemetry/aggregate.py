"""A batch's columns become additions to the registry, without a Python step per row.

Rows are grouped by the few columns that name a series; counts and buckets of all groups come from one
`bincount` each. Python then runs once per group, to turn indexes into names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gateway.telemetry.instruments import (
    CATALOGUE,
    ERROR_TYPE,
    RPC_METHOD,
    RPC_STATUS_CODE,
    RPC_SYSTEM_NAME,
    UNRECOGNISED_METHOD,
    status_name,
)
from gateway.telemetry.registry import Distribution, Registry
from gateway.types import NO_INDEX, NO_STRING, Outcome, Reason, reason_text

if TYPE_CHECKING:
    from gateway.runtime.batch import Batch, PolicyNames

__all__ = ["SERVER_FAULTS", "add_batch", "distributions", "group", "method_name"]

Column = NDArray[Any]

SERVER_FAULTS = frozenset({2, 4, 12, 13, 14, 15})
"""Statuses that the conventions count as a server's own error; the others are the caller's."""

_UNIMPLEMENTED = 12


def add_batch(batch: Batch, registry: Registry) -> None:
    """Add all of a batch to the registry. Cost: a few sorts of its columns."""
    if len(batch):
        _decisions(batch, registry)
        _calls(batch, registry)
    if len(batch.attempts["record"]):
        _attempts(batch, registry)
    if len(batch.mirrors["route"]):
        _mirrors(batch, registry)


def group(columns: Sequence[Column]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Group rows by equal values of integer columns, in time linear in the rows where values lie close
    together.

    Returns: (first, member): for each group the index of one of its rows, shape (groups,); and for each row
    its group, shape (rows,).
    """
    rows = len(columns[0])
    key, groups = np.zeros(rows, dtype=np.intp), 1
    for column in columns:
        codes, distinct = _dense(column)
        if distinct > 1:
            # Both numbers are at most `rows`, so that the mixed radix cannot overflow before it is made dense
            # again.
            key, groups = _dense(key * distinct + codes)
    example = np.zeros(groups, dtype=np.intp)
    example[key] = np.arange(rows)
    return example, key


def _dense(column: Column) -> tuple[NDArray[np.intp], int]:
    """Number the distinct values of a column from 0; a table where they lie close together, else a sort (4x
    the time).
    """
    low = int(column.min())
    reach = int(column.max()) - low + 1
    if reach == 1:
        return np.zeros(len(column), dtype=np.intp), 1
    if reach > 4 * len(column) + 1024:
        distinct, codes = np.unique(column, return_inverse=True)
        return codes, len(distinct)
    shifted = column.astype(np.intp) - low
    numbers = np.cumsum(np.bincount(shifted, minlength=reach) > 0) - 1
    return numbers[shifted], int(numbers[-1]) + 1


def distributions(
    values: NDArray[np.float64], member: NDArray[np.intp], groups: int, bounds: Sequence[float]
) -> Iterator[Distribution]:
    """Sort values into buckets `(lower, upper]`, one distribution per group, in order."""
    width = len(bounds) + 1
    bucket = np.searchsorted(np.asarray(bounds), values, side="left")
    counts = np.bincount(member * width + bucket, minlength=groups * width).reshape(groups, width)
    totals = np.bincount(member, weights=values, minlength=groups)
    low = np.full(groups, np.inf)
    high = np.full(groups, -np.inf)
    np.minimum.at(low, member, values)
    np.maximum.at(high, member, values)
    for index in range(groups):
        yield Distribution(
            counts[index].astype(np.int64), float(totals[index]), float(low[index]), float(high[index])
        )


def method_name(method: str | None, *, unrecognised: bool) -> str:
    """`package.Service/Method`, or the conventions' word for a method that nobody serves or whose text was not
    kept: callers choose it, and may make it longer than any real one.
    """
    return UNRECOGNISED_METHOD if unrecognised or method is None else method.removeprefix("/")


def _method(batch: Batch, index: int) -> str | None:
    return None if index == NO_STRING else batch.strings[index]


def _names(batch: Batch, policy: int) -> PolicyNames | None:
    return batch.names.get(policy)


def _route(names: PolicyNames | None, route: int) -> str:
    return "" if names is None else names.route(route)


def _backend(names: PolicyNames | None, backend: int) -> str:
    return "" if names is None else names.backend(backend)


def _rpc(method: str, status: int, *, failed: bool) -> dict[str, str]:
    attributes = {RPC_SYSTEM_NAME: "grpc", RPC_METHOD: method, RPC_STATUS_CODE: status_name(status)}
    if failed:
        attributes[ERROR_TYPE] = status_name(status)
    return attributes


def _decisions(batch: Batch, registry: Registry) -> None:
    records = batch.records
    policy, route, rule = records["policy"], records["route"], records["rule"]
    outcome, reason = records["outcome"], records["reason"]
    # A rule's index names a series only where a rule was the reason.
    named = np.where(reason == Reason.RULE, rule, NO_INDEX)
    first, member = group((policy, route, outcome, reason, named))
    for at, count in zip(first.tolist(), np.bincount(member).tolist(), strict=True):
        names = _names(batch, int(policy[at]))
        rule_name = None if names is None else names.rule(int(route[at]), int(named[at]))
        registry.add(
            "gateway.decisions",
            {
                "route": _route(names, int(route[at])),
                "outcome": Outcome(int(outcome[at])).text,
                "reason": reason_text(int(reason[at]), rule_name),
            },
            count,
        )


def _calls(batch: Batch, registry: Registry) -> None:
    calls = np.flatnonzero(batch.calls)
    if not len(calls):
        return
    records = {
        name: batch.records[name][calls]
        for name in ("policy", "route", "method", "status", "duration_us", "overhead_us")
    }
    routed = records["route"] != NO_INDEX
    first, member = group((routed, records["method"], records["status"]))
    seconds = records["duration_us"].astype(np.float64) / 1e6
    name = "rpc.server.call.duration"
    found = distributions(seconds, member, len(first), CATALOGUE[name].bounds)
    for at, values in zip(first.tolist(), found, strict=True):
        status = int(records["status"][at])
        method = method_name(
            _method(batch, int(records["method"][at])),
            unrecognised=not routed[at] and status == _UNIMPLEMENTED,
        )
        registry.observe(name, _rpc(method, status, failed=status in SERVER_FAULTS), values)

    first, member = group((records["policy"], records["route"]))
    seconds = records["overhead_us"].astype(np.float64) / 1e6
    name = "gateway.overhead"
    found = distributions(seconds, member, len(first), CATALOGUE[name].bounds)
    for at, values in zip(first.tolist(), found, strict=True):
        names = _names(batch, int(records["policy"][at]))
        registry.observe(name, {"route": _route(names, int(records["route"][at]))}, values)


def _attempts(batch: Batch, registry: Registry) -> None:
    attempts = batch.attempts
    call = attempts["record"]
    policy, route = batch.records["policy"][call], batch.records["route"][call]
    method = batch.records["method"][call]
    backend, reason, status = attempts["backend"], attempts["reason"], attempts["status"]

    first, member = group((policy, route, backend, reason))
    for at, count in zip(first.tolist(), np.bincount(member).tolist(), strict=True):
        names = _names(batch, int(policy[at]))
        registry.add(
            "gateway.attempts",
            {
                "route": _route(names, int(route[at])),
                "backend": _backend(names, int(backend[at])),
                "reason": reason_text(int(reason[at])),
            },
            count,
        )

    unrecognised = (route == NO_INDEX) & (status == _UNIMPLEMENTED)
    first, member = group((policy, backend, method, status, unrecognised))
    seconds = attempts["duration_us"].astype(np.float64) / 1e6
    name = "rpc.client.call.duration"
    found = distributions(seconds, member, len(first), CATALOGUE[name].bounds)
    for at, values in zip(first.tolist(), found, strict=True):
        code = int(status[at])
        names = _names(batch, int(policy[at]))
        spoken = method_name(_method(batch, int(method[at])), unrecognised=bool(unrecognised[at]))
        attributes = _rpc(spoken, code, failed=code != 0)
        registry.observe(name, {**attributes, "backend": _backend(names, int(backend[at]))}, values)


_RESULTS: Mapping[tuple[int, int], str] = {(0, 0): "disagreed", (0, 1): "agreed"}


def _mirrors(batch: Batch, registry: Registry) -> None:
    mirrors = batch.mirrors
    keyed = [mirrors[name] for name in ("policy", "route", "to", "noise", "segment")]
    result, agree, scored = mirrors["result"], mirrors["agree"], np.isfinite(mirrors["difference"])

    def where(at: int) -> dict[str, str]:
        policy, route, to, noise, segment = (int(column[at]) for column in keyed)
        names = _names(batch, policy)
        return {
            "route": _route(names, route),
            "to": _backend(names, to),
            "noise": "true" if noise else "false",
            "segment": "" if segment == NO_STRING else batch.strings[segment],
        }

    first, member = group((*keyed, result, agree, scored))
    for at, count in zip(first.tolist(), np.bincount(member).tolist(), strict=True):
        compared = "failed" if result[at] else "scored" if scored[at] else "answered"
        found = _RESULTS.get((int(result[at]), int(agree[at])), compared)
        registry.add("gateway.mirror", {**where(at), "result": found}, count)

    rows = np.flatnonzero(scored)
    if not len(rows):
        return
    first, member = group([column[rows] for column in keyed])
    name = "gateway.mirror.difference"
    found_values = distributions(mirrors["difference"][rows], member, len(first), CATALOGUE[name].bounds)
    for at, values in zip(rows[first].tolist(), found_values, strict=True):
        registry.observe(name, where(at), values)
