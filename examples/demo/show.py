"""The tables. Every number in them was measured in this run, by the demo or by the gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from .tally import Quality, endings, lost_by_phase, quality
from .traffic import Exchange

__all__ = ["Findings", "differences", "next_steps", "numbers", "tables"]

REVIEWER_ROW = "review sample"


@dataclass(frozen=True)
class Findings:
    """What a run brought: what callers saw, what the gateway reports, what people did."""

    exchanges: Sequence[Exchange]
    report: Mapping[str, Any]
    through_s: Sequence[float]
    past_s: Sequence[float]
    reviewed: int
    feedback_kept: int
    feedback_repeated: int
    seconds: float

    @property
    def with_net(self) -> Quality:
        return quality(self.exchanges, net=True)

    @property
    def without_net(self) -> Quality:
        return quality(self.exchanges, net=False)


def differences(found: Findings) -> list[str]:
    """Where the gateway's report and the callers disagree, in words; there should be nothing."""
    calls = found.report["calls"]
    told: dict[str, int] = {}
    for (outcome, _), count in endings(found.exchanges).items():
        told[outcome] = told.get(outcome, 0) + count
    pairs = [("calls", len(found.exchanges), calls["total"])]
    pairs += [
        (outcome, told.get(outcome, 0), calls["by_outcome"].get(outcome, 0))
        for outcome in ("model", "fallback", "static", "holdout")
    ]
    pairs.append(("predictions", found.with_net.images, found.report["predictions"]["total"]))
    pairs.append(("labels by reviewers", found.reviewed, found.report["review"]["done"]))
    return [f"{what}: callers {seen:,}, report {said:,}" for what, seen, said in pairs if seen != said]


def numbers(found: Findings) -> dict[str, Any]:
    """All of it as JSON."""

    def one(side: Quality) -> dict[str, Any]:
        return {
            "images": side.images,
            "failed_calls": side.failed,
            "useless_answers": side.useless,
            "precision": side.precision,
            "recall": side.recall,
        }

    return {
        "calls": len(found.exchanges),
        "endings": [[*ending, count] for ending, count in endings(found.exchanges).most_common()],
        "phases": [list(phase) for phase in lost_by_phase(found.exchanges)],
        "with_net": one(found.with_net),
        "without_net": one(found.without_net),
        "latency_ms": {
            "through_p50": 1000 * median(found.through_s),
            "past_p50": 1000 * median(found.past_s),
            "calls": len(found.through_s),
        },
        "reviewed": found.reviewed,
        "feedback": {"kept": found.feedback_kept, "repeated": found.feedback_repeated},
        "differences": differences(found),
        "report": found.report,
        "seconds": found.seconds,
    }


def tables(console: Console, found: Findings) -> None:
    """Print what happened."""
    for table in (_endings(found), _phases(found), _net(found), _estimates(found)):
        console.print()
        console.print(table)
    console.print()
    for line in _facts(found):
        console.print(f"[dim]-[/] {line}", highlight=False)
    for difference in differences(found):
        console.print(f"[bold red]the report and the callers disagree:[/] {difference}")


def _endings(found: Findings) -> Table:
    table = Table(title="How calls ended, and why", title_justify="left")
    table.add_column("outcome")
    table.add_column("reason")
    table.add_column("calls", justify="right")
    table.add_column("share", justify="right")
    total = len(found.exchanges)
    ends = endings(found.exchanges)
    for (outcome, reason), count in sorted(ends.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(outcome, reason, f"{count:,}", f"{count / total:.1%}")
    if silent := total - ends.total():
        table.add_row(
            "", "failed, seen by a client that shows no trailers", f"{silent:,}", f"{silent / total:.1%}"
        )
    return table


def _phases(found: Findings) -> Table:
    table = Table(title="Calls left without a usable answer", title_justify="left")
    table.add_column("while")
    table.add_column("calls", justify="right")
    table.add_column("model alone", justify="right")
    table.add_column("with the gateway", justify="right")
    for phase, calls, alone, through in lost_by_phase(found.exchanges):
        table.add_row(phase, f"{calls:,}", f"{alone:,}", f"{through:,}")
    return table


def _net(found: Findings) -> Table:
    alone, net = found.without_net, found.with_net
    table = Table(title=f"The same {net.images:,} images, without and with the net", title_justify="left")
    table.add_column("")
    table.add_column("model alone", justify="right")
    table.add_column("with the gateway", justify="right")
    table.add_row("failed calls", f"{alone.failed:,}", f"{net.failed:,}")
    table.add_row("answers with NaN", f"{alone.useless:,}", f"{net.useless:,}")
    table.add_row("precision (truth)", _share(alone.precision), _share(net.precision))
    table.add_row("recall (truth; no answer is a miss)", _share(alone.recall), _share(net.recall))
    return table


def _estimates(found: Findings) -> Table:
    labels = found.report["recall"]["labels"]
    table = Table(
        title=f"What the gateway estimates from {labels:,} reviews, and the truth", title_justify="left"
    )
    table.add_column("")
    table.add_column("estimate", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("truth", justify="right")
    table.add_column("inside")
    for name, truth in (("precision", found.with_net.precision), ("recall", found.with_net.recall)):
        estimate = found.report[name]
        if estimate["value"] is None or truth is None:
            table.add_row(name, "-", estimate["reason"] or "-", _share(truth), "")
            continue
        inside = estimate["low"] <= truth <= estimate["high"]
        table.add_row(
            name,
            _share(estimate["value"]),
            f"{estimate['low']:.3f} to {estimate['high']:.3f}",
            _share(truth),
            "yes" if inside else "no: expected in 1 of 20 runs",
        )
    return table


def _facts(found: Findings) -> list[str]:
    own = found.report["overhead_us"]
    through, past = 1000 * median(found.through_s), 1000 * median(found.past_s)
    lines = [f"Latency added by the gateway itself: median {own['p50']:,.0f} us, p99 {own['p99']:,.0f} us."]
    lines.append(
        f"One caller, {len(found.through_s):,} calls in turn: median {through:.2f} ms through the gateway, "
        f"{past:.2f} ms to the model alone."
    )
    for shadow, compared in found.report["shadows"].items():
        agreement = compared["agreement"]
        if agreement["value"] is not None:
            lines.append(
                f"Shadow {shadow}: {compared['compared']:,} answers compared, same label in {agreement['value']:.1%} "
                f"({agreement['low']:.1%} to {agreement['high']:.1%}); no caller ever waited for it."
            )
    for source, feedback in found.report["feedback"].items():
        confirmed = feedback["confirmed"]
        if confirmed["value"] is not None:
            lines.append(
                f"Feedback from {source}: {feedback['labels']:,} labels through receipts "
                f"({found.feedback_repeated:,} sent twice and counted once). It confirms {confirmed['value']:.1%} of "
                "the eights it speaks of: users complain more than they praise, so it is a warning and never precision."
            )
    return lines


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def next_steps(console: Console, settings: Path, admin: str, *, running: bool) -> None:
    """Where to look, as commands that can be typed as they stand."""
    console.print()
    console.print("[bold]Where to look next[/]")
    commands = [
        f".venv/bin/gateway report {settings}",
        f".venv/bin/gateway explain {settings} --model eight --score 0.6",
        f".venv/bin/gateway explain {settings} --model eight --score 0.9 --metadata x-sender=bank@example.org",
    ]
    if running:
        commands += [f"curl http://{admin}/metrics", f"curl http://{admin}/readyz"]
    else:
        commands += [
            ".venv/bin/python -m examples.demo --stay    # leaves it all running, to call it yourself"
        ]
    for command in commands:
        console.print(f"  {command}", style="cyan", highlight=False, soft_wrap=True)
    console.print("  docs/demo.md says what was done to the model, step by step", highlight=False)
