"""`gateway reviews`: how queues stand, how far reviewers agree, and how often each is right; for who leads them.

What reviewers are measured by is told here and not by the services: a reviewer who could see the count of gold answered
go up would know which task was gold.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.check import JsonOption, SetOption
from gateway.cli.ledgers import WhereArgument

__all__ = ["reviews"]


def reviews(
    where: WhereArgument = Path("gateway.yaml"),
    overrides: SetOption = [],  # noqa: B006  typer copies it
    queue: Annotated[str | None, typer.Option("--queue", metavar="NAME", help="One queue only.")] = None,
    json: JsonOption = False,
) -> None:
    """Show review queues: open tasks, agreement (kappa), and each reviewer's accuracy on gold, with 95 % intervals."""
    import time
    from functools import partial

    from gateway.cli.ledgers import find_ledger
    from gateway.cli.printing import console, plain_text, print_json
    from gateway.ledger import Reader, review

    url, _ = find_ledger(where, overrides)
    now_us = time.time_ns() // 1000
    reader = Reader.open(url)
    try:
        queues = reader.snapshot(partial(review.stats, queue=queue, now_us=now_us))
        agreements = {
            one.queue: reader.snapshot(partial(review.agreement, queue=one.queue)) for one in queues
        }
        accuracies = reader.snapshot(partial(review.accuracy, queue=queue))
    finally:
        reader.close()
    if json:
        found = {}
        for one in queues:
            agreement = agreements[one.queue]
            values = dataclasses.asdict(one)
            del values["queue"], values["oldest_us"]
            found[one.queue] = {
                **values,
                "oldest_s": None if one.oldest_us is None else max(0.0, (now_us - one.oldest_us) / 1e6),
                "agreement": None if agreement is None else dataclasses.asdict(agreement),
                "reviewers": [dataclasses.asdict(each) for each in accuracies if each.queue == one.queue],
            }
        print_json({"queues": found})
        return
    out = console()
    for one in queues:
        parts = [f"{one.open_tasks:,} open", f"{one.leased:,} leased", f"{one.done:,} done"]
        parts += [
            f"{count:,} {what}"
            for what, count in (
                ("disputed", one.disputed),
                ("skipped by somebody", one.skipped),
                ("set aside", one.aside),
                ("overdue", one.overdue),
            )
            if count
        ]
        if one.oldest_us is not None:
            parts.append(f"oldest {max(0, now_us - one.oldest_us) / 3.6e9:.1f} h")
        out.print(f"{one.queue}: {', '.join(parts)}")
        agreement = agreements[one.queue]
        if agreement is not None:
            kappa = "no kappa, as all answers are the same"
            if agreement.kappa is not None:
                kappa = f"{agreement.kind.capitalize()}'s kappa {agreement.kappa:.2f}"
            if agreement.low is not None and agreement.high is not None:
                kappa += f" ({agreement.low:.2f} to {agreement.high:.2f})"
            out.print(f"  agreement: {agreement.agree:.0%} over {agreement.tasks:,} tasks; {kappa}")
        for each in accuracies:
            if each.queue != one.queue:
                continue
            if each.value is None or each.low is None or each.high is None:
                out.print(f"  {plain_text(each.reviewer)}: no gold answered, {each.skips} skipped")
                continue
            out.print(
                f"  {plain_text(each.reviewer)}: {each.right} of {each.answers} gold right, {each.value:.0%} "
                f"({each.low:.0%} to {each.high:.0%}), {each.skips} skipped"
            )
    if not queues:
        out.print("No queue has or had a task.")
