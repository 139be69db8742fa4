"""What leaves the data plane: one batch of records, as columns.

The columns are numpy arrays that were moved out of the data plane without a copy; `PolicyNames` turns their indexes
into names, by the policy version that each record carries, because a route's index may change when the settings do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.types import NO_INDEX

__all__ = ["Batch", "Columns", "PolicyNames", "names"]

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class PolicyNames:
    """The names behind the indexes of one policy version."""

    routes: tuple[str, ...]
    backends: tuple[str, ...]
    rules: tuple[tuple[str, ...], ...]
    """Per route, its rules' names in order."""

    def route(self, index: int) -> str:
        """The route's name; empty for a call that matched none."""
        return "" if index == NO_INDEX else self.routes[index]

    def backend(self, index: int) -> str:
        """The backend's name; empty when nothing answered."""
        return "" if index == NO_INDEX else self.backends[index]

    def rule(self, route: int, index: int) -> str | None:
        """The rule's name, or None where no rule decided."""
        return None if index == NO_INDEX or route == NO_INDEX else self.rules[route][index]


@dataclass(frozen=True, slots=True)
class Batch:
    """Records with what belongs to them.

    `records`, `attempts`, `mirrors`: columns of equal length each. `strings`: the table that `label`, `segment` and
    `method` point into. `captures`: payloads of the calls sampled for review. `names`: by policy version. `raises`:
    rows whose probability of review was raised after their record had left, because a shadow contradicted them.
    """

    records: Columns
    attempts: Columns
    mirrors: Columns
    strings: Sequence[str]
    captures: Sequence[Mapping[str, Any]]
    names: Mapping[int, PolicyNames]
    raises: Columns = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records["row"])

    @property
    def calls(self) -> NDArray[np.bool_]:
        """Marks the first row of each call, shape (rows,)."""
        return np.asarray(self.records["row"] == 0)


def names(policy: Mapping[str, Any]) -> PolicyNames:
    """The names behind the indexes of a document's routes, backends and rules."""
    return PolicyNames(
        routes=tuple(route["name"] for route in policy["routes"]),
        backends=tuple(backend["name"] for backend in policy["backends"]),
        rules=tuple(tuple(rule["name"] for rule in route["rules"]) for route in policy["routes"]),
    )
