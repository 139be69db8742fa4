"""`gateway audit`: who did what to what, and when; reads beside a running gateway."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.check import JsonOption, SetOption
from gateway.cli.ledgers import WhereArgument

__all__ = ["audit"]


def audit(
    where: WhereArgument = Path("gateway.yaml"),
    overrides: SetOption = [],  # noqa: B006  typer copies it
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="24h, 7d, or 2026-11-29T12:00 (UTC); all if absent."),
    ] = None,
    action: Annotated[
        str | None,
        typer.Option("--action", metavar="ACTION", help="Such as policy.keep, or policy for all of them."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=1_000_000, help="The newest so many are shown.")
    ] = 1_000,
    json: JsonOption = False,
) -> None:
    """Show the audit trail: policies, reviews, imports, exports, deletions and retention, oldest first."""
    import time
    from functools import partial

    from gateway.cli.ledgers import find_ledger, moment
    from gateway.cli.printing import console, plain_text, print_json
    from gateway.ledger import Reader
    from gateway.ledger.audit import entries

    since_us = None if since is None else moment("--since", since, time.time_ns() // 1000)
    url, _ = find_ledger(where, overrides)
    reader = Reader.open(url)
    try:
        found = reader.snapshot(partial(entries, since_us=since_us, action=action, limit=limit + 1))
    finally:
        reader.close()
    more, found = len(found) > limit, found[-limit:]
    if json:
        print_json(
            {
                "entries": [
                    {
                        "time": _time(one.time_us),
                        "actor": one.actor,
                        "action": one.action,
                        "subject": one.subject,
                        "details": one.details,
                    }
                    for one in found
                ],
                "older_left_out": more,
            }
        )
        return
    out = console()
    if more:
        out.print(f"(older entries are left out; the newest {limit:,} follow, --limit shows more)")
    for one in found:
        details = "".join(f" {name}={value}" for name, value in one.details.items())
        out.print(
            f"{_time(one.time_us)}  {plain_text(one.actor)}  {one.action}  {plain_text(one.subject + details)}"
        )
    if not found:
        out.print("No entry.")


def _time(time_us: int) -> str:
    """UTC, to the millisecond."""
    when = datetime.fromtimestamp(time_us / 1e6, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
