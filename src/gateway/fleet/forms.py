"""What the columns of a batch must be: their kinds, and what their numbers may say.

A batch from a sidecar ends up in keys and sums of the ledger. One index out of range would stop the thread that adds
up, one NUL in a text the whole transaction in PostgreSQL, so each value is looked at before any is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gateway.runtime.batch import PolicyNames
from gateway.types import NO_INDEX, NO_STRING, UNKNOWN, Outcome, Reason, Stratum

__all__ = ["KINDS", "LEAST", "UNSENT", "Malformed", "check_columns"]

Array = NDArray[Any]

KINDS: Final = frozenset(("|u1", "<u2", "<u4", "<u8", "<i8", "<f4", "<f8"))
"""What a column may be made of."""

UNSENT: Final = frozenset(("trace_hi", "trace_lo", "span", "parent", "traced"))
"""Columns that only the sidecar's own spans need."""

_DECISION: Final[Mapping[str, str]] = {
    "id_hi": "<u8",
    "id_lo": "<u8",
    "row": "<u4",
    "time_us": "<i8",
    "policy": "<u4",
    "route": "<u2",
    "backend": "<u2",
    "outcome": "|u1",
    "reason": "|u1",
    "rule": "<u2",
    "label": "<u4",
    "flagged": "|u1",
    "score": "<f8",
    "confidence": "<f8",
    "segment": "<u4",
    "unit": "<u8",
    "stratum": "|u1",
    "review_pi": "<f4",
    "sampled": "|u1",
    "arm": "<u2",
    "propensity": "<f4",
}

LEAST: Final[Mapping[str, Mapping[str, str]]] = {
    "records": {**_DECISION, "rows": "<u4", "overhead_us": "<f4"},
    "mirrors": {
        "time_us": "<i8",
        "policy": "<u4",
        "route": "<u2",
        "backend": "<u2",
        "to": "<u2",
        "noise": "|u1",
        "segment": "<u4",
        "result": "|u1",
        "agree": "|u1",
        "difference": "<f8",
    },
    "raises": {**_DECISION, "review_pi_before": "<f4", "sampled_before": "|u1"},
}
"""The columns that each table must have; a newer sidecar may send more."""

LATEST_US: Final = 2**53
"""The year 2255: a time beyond it is no time, and its hour would not fit the ledger."""

MOST_NUMBER: Final = 2**31 - 1
"""The ledger's integers."""

_FLAG = (0, 1, UNKNOWN)


class Malformed(ValueError):
    """A batch that cannot be counted; the text says which part, what was found and what was wanted."""


def check_columns(
    table: str, columns: Mapping[str, Array], names: Mapping[int, PolicyNames], strings: int
) -> None:
    """Look at every number that will be an index, a key or a weight.

    Args: columns of equal length, of the kinds that `LEAST` wants; strings: how many texts there are.
    Raises: Malformed.
    """

    def each(name: str, good: Array, wanted: str) -> None:
        if not good.all():
            at = int(np.argmin(good))
            raise Malformed(f"{table}.{name}[{at}] is {columns[name][at]}, wanted {wanted}")

    for name, good, wanted in _simple():
        if name in columns:
            each(name, good(columns[name]), wanted)
    for name in ("label", "segment", "method"):
        if name in columns:
            column = columns[name]
            each(name, (column < strings) | (column == NO_STRING), f"an index below {strings}")
    if "rows" in columns:
        each("row", columns["row"] < columns["rows"], "a row of its call")
    _check_indexes(each, columns, names)


def _simple() -> Sequence[tuple[str, Callable[[Array], Array], str]]:
    return (
        ("time_us", lambda c: (c >= 0) & (c < LATEST_US), "microseconds since 1970"),
        ("policy", lambda c: c <= MOST_NUMBER, "a version"),
        ("row", lambda c: c <= MOST_NUMBER, "a row"),
        ("outcome", lambda c: c <= max(Outcome), "an outcome"),
        ("reason", lambda c: c <= max(Reason), "a reason"),
        ("flagged", lambda c: np.isin(c, _FLAG), "0, 1 or 255"),
        ("agree", lambda c: np.isin(c, _FLAG), "0, 1 or 255"),
        ("noise", lambda c: c <= 1, "0 or 1"),
        ("sampled", lambda c: c <= 1, "0 or 1"),
        ("sampled_before", lambda c: c <= 1, "0 or 1"),
        ("stratum", lambda c: (c <= max(Stratum)) | (c == UNKNOWN), "a stratum or 255"),
        # comparisons with NaN are false, so that it is no probability either
        ("review_pi", lambda c: (c >= 0) & (c <= 1), "a probability"),
        ("review_pi_before", lambda c: (c >= 0) & (c <= 1), "a probability"),
        ("propensity", lambda c: (c >= 0) & (c <= 1), "a probability"),
        ("overhead_us", lambda c: (c >= 0) & np.isfinite(c), "microseconds"),
    )


def _check_indexes(
    each: Callable[[str, Array, str], None], columns: Mapping[str, Array], names: Mapping[int, PolicyNames]
) -> None:
    """Indexes of routes, backends and rules, each by its policy; rows of a policy without names are not looked at."""
    policies = columns["policy"]
    for version in np.unique(policies).tolist():
        known = names.get(version)
        if known is None:
            continue  # they are dropped and counted where they would be added up
        others = policies != version
        for name, count in (
            ("route", len(known.routes)),
            ("backend", len(known.backends)),
            ("to", len(known.backends)),
            ("arm", len(known.backends)),
        ):
            if name in columns:
                column = columns[name]
                each(name, others | (column < count) | (column == NO_INDEX), f"an index below {count}")
        if "rule" in columns:
            rules = np.array([*(len(of) for of in known.rules), 0])
            route = np.where(others | (columns["route"] == NO_INDEX), len(rules) - 1, columns["route"])
            rule = columns["rule"]
            good = others | (rule < rules[route]) | (rule == NO_INDEX) | (columns["route"] == NO_INDEX)
            each("rule", good, "a rule of the route")
