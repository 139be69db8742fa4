"""Many statements at once, straight into the ledger: beside a running gateway, some hundred in each commit.

What is kept stays kept when the import is broken off; sent again it counts once. Between two commits the database is
left alone as long as the last one took, so that the gateway beside it gets its turn.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import tenacity

from gateway.errors import GatewayError, LedgerUnavailable
from gateway.ledger import Kept, LabelRow, Ledger, PendingRow
from gateway.services.errors import error_word
from gateway.services.feedback import refusal_of
from gateway.services.intake import Intake, Judged
from gateway.services.label_files import Line

__all__ = ["AT_ONCE", "EXAMPLES", "BulkReport", "take_in"]

AT_ONCE: Final = 500
"""Lines in one commit."""

EXAMPLES: Final = 100
"""Refused lines that the report names; all of them go to `refused`."""

GIVE_UP_S: Final = 60.0
"""How long a commit is tried again while the database is locked or away."""


@dataclass(slots=True)
class BulkReport:
    """What became of the lines. `refused`: by code; `examples`: the first refused ones: line, code, message."""

    lines: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[int, str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As `gateway labels import --json` prints it."""
        statuses = ("accepted", "duplicate", "corrected", "superseded", "pending")
        return {
            "lines": self.lines,
            **{status: self.kept[status] for status in statuses},
            "refused": {
                "total": self.refused.total(),
                "by_code": dict(self.refused.most_common()),
                "lines": [
                    {"line": line, "code": code, "message": message} for line, code, message in self.examples
                ],
            },
        }


def take_in(
    ledger: Ledger,
    intake: Intake,
    lines: Iterable[Line],
    *,
    author: str,
    dry_run: bool = False,
    refused: Callable[[Line, str, str], None] = lambda _line, _code, _message: None,
    sleep: Callable[[float], None] = time.sleep,
) -> BulkReport:
    """Keep what can be kept.

    Args:
        author: who imports, for the label's row. refused: told of every line that is not kept, with code and message.
        dry_run: judge all, keep nothing; a statement that the file has twice, in different commits, is new twice.
    Raises: LedgerUnavailable, when the database stays away; what was kept until then is kept.
    """
    report = BulkReport()
    following = iter(lines)
    while group := list(islice(following, AT_ONCE)):
        began = time.monotonic()
        judged = _judged(intake, group, author)
        for line, of, what in zip(group, judged, _kept(ledger, judged, dry_run, sleep), strict=True):
            error = refusal_of(what) if what is not None else of
            report.lines += 1
            if isinstance(error, GatewayError):
                code, message = error_word(error), str(error)
                report.refused[code] += 1
                if len(report.examples) < EXAMPLES:
                    report.examples.append((line.number, code, message))
                refused(line, code, message)
            elif what is not None:
                report.kept[what.value] += 1
        if len(group) == AT_ONCE:
            sleep(time.monotonic() - began)
    return report


def _judged(intake: Intake, group: Sequence[Line], author: str) -> list[Judged]:
    said = iter(intake.judge([line.said for line in group if line.said is not None], author))
    return [line.fault if line.fault is not None else next(said) for line in group]


def _kept(
    ledger: Ledger, judged: Sequence[Judged], dry_run: bool, sleep: Callable[[float], None]
) -> list[Kept | None]:
    rows = [row for row in judged if isinstance(row, LabelRow)]
    held = [row for row in judged if isinstance(row, PendingRow)]
    again = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(LedgerUnavailable),
        wait=tenacity.wait_exponential(multiplier=0.1, max=2.0) + tenacity.wait_random(0, 0.1),
        stop=tenacity.stop_after_delay(GIVE_UP_S),
        sleep=sleep,
        reraise=True,
    )
    kept, waits = again(lambda: ledger.submit_feedback(rows, held, dry_run=dry_run).result())
    of_rows, of_held = iter(kept), iter(waits)
    return [
        next(of_rows) if isinstance(row, LabelRow) else next(of_held) if isinstance(row, PendingRow) else None
        for row in judged
    ]
