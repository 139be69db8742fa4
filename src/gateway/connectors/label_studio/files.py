"""Label Studio's JSON as files, for teams that copy them and open no API."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from gateway.connectors.label_studio.answers import HOLDER, Taker
from gateway.connectors.label_studio.api import task_of
from gateway.connectors.label_studio.payload import parse_key, task_json
from gateway.errors import LabelToolError
from gateway.ledger import Ledger, RouteClasses, label_tools
from gateway.services.readable import Messages

__all__ = ["PLACE", "export_tasks", "import_answers"]

PLACE: Final = "files"
"""Where tasks lie that went out in a file."""


def export_tasks(
    ledger: Ledger,
    queue: str,
    *,
    at_most: int,
    hold_us: int,
    now_us: int,
    classes: Callable[[str], RouteClasses | None],
    messages: Messages | None,
    show: bool,
) -> list[dict[str, Any]]:
    """Lease tasks and give them as Label Studio imports them; with those of earlier files at most `at_most`.

    Raises: LedgerUnavailable.
    """
    made: list[dict[str, Any]] = []
    while True:
        take = partial(
            label_tools.take,
            queue=queue,
            holder=HOLDER,
            place=PLACE,
            at_most=at_most,
            hold_us=hold_us,
            now_us=now_us,
            again=True,
        )
        taken, new = ledger.transact(take).result()
        if not taken:
            return made
        made += [task_json(lease, messages, classes(lease.facts.route), show=show) for lease, _ in new]


def import_answers(
    ledger: Ledger,
    tasks: Any,
    *,
    classes: Callable[[str], RouteClasses | None],
    clock_us: Callable[[], int],
) -> Counter[str]:
    """Take the annotations of Label Studio's JSON export; the same file again changes nothing.

    Returns: `accepted`, `corrected`, `duplicate`, `skipped`, and what was refused by its reason: `not_ours` for tasks
    that were not sent from here.
    Raises: LabelToolError, this is no such export; LedgerUnavailable.
    """
    if not isinstance(tasks, list):
        found = type(tasks).__name__
        raise LabelToolError(
            "garbage", f"found JSON of type {found}, wanted the list of Label Studio's export type JSON"
        )
    taker = Taker(
        ledger,
        classes,
        lambda user: "label-studio" if user is None else f"label-studio user {user}",
        clock_us,
    )
    counts: Counter[str] = Counter()
    for one in map(task_of, tasks):
        key = None if one is None else parse_key(one.key)
        if one is None or key is None:
            counts["not_ours"] += 1
            continue
        sent = ledger.reader.snapshot(partial(label_tools.look_up, keys=[key]))
        if not sent:
            counts["not_ours"] += 1
            continue
        taker.take(sent[0].queue, sent[0], one, whole=False)
    for (_, _, what), count in taker.counts.items():
        counts[what] += count
    return counts
