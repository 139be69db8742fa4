"""What a watch remembers and what it has to tell, kept at once: nothing is told twice, or forgotten untold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from gateway.autopilot.acting import AUTOPILOT
from gateway.ledger import Ledger, acts, states
from gateway.ledger.acts import Act

__all__ = ["keep", "notice"]

Key = tuple[str, str]


def notice(route: str, cause: str, words: str, version: int, now_us: int) -> Act:
    """An act that only tells: it stands in the report and the audit trail, and goes to whoever takes alerts."""
    return Act(now_us, route, cause, "notify", "done", words, AUTOPILOT, before=version)


def keep(
    ledger: Ledger,
    remembered: Mapping[str, Mapping[Key, Mapping[str, Any]]],
    news: Sequence[Act],
    now_us: int,
) -> None:
    """In one transaction; waits for its commit. `remembered`: by kind. Raises: LedgerUnavailable."""

    def write(connection: sa.Connection) -> None:
        for kind, values in remembered.items():
            states.put(connection, kind, values, now_us)
        for act in news:
            acts.note(connection, act)

    ledger.transact(write).result()
