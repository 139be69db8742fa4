"""The serving process's background tasks go on after a fault: where one ends, nothing is ever changed again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.autopilot import ReviewBudget, Shares
from gateway.cli import process
from gateway.cli.process import Process
from gateway.cli.ruling import Ruling
from gateway.errors import LedgerUnavailable

WAIT_S = 5.0


class OneRevision(ReviewBudget):
    """Has something new to say once."""

    def __init__(self) -> None:
        super().__init__({"spam": 60.0}, {}, lambda: 0.0)
        self._told = False

    def revise(self) -> dict[str, Shares] | None:
        told, self._told = self._told, True
        return None if told else self.shares


class FailsFirst:
    """Raises once, then says that it was called again."""

    def __init__(self, fault: Exception) -> None:
        self._fault: Exception | None = fault
        self.again = asyncio.Event()

    async def __call__(self, *arguments: Any, **named: Any) -> None:
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault
        self.again.set()


async def outlives(
    task: Callable[[], Awaitable[None]], second: FailsFirst, meanwhile: Callable[[], None]
) -> None:
    running = asyncio.ensure_future(task())
    try:
        async with asyncio.timeout(WAIT_S):
            while not second.again.is_set():
                assert not running.done(), "the task has ended"
                meanwhile()
                await asyncio.sleep(0.005)
    finally:
        running.cancel()


def test_review_shares_that_the_ledger_could_not_take_are_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The budget says a change once; a full disk at that moment must not cost the budget for good."""
    monkeypatch.setattr(process, "BUDGET_PERIOD_S", 0.01)

    async def run() -> None:
        served = Process(tmp_path / "gateway.yaml", [])
        publish = FailsFirst(LedgerUnavailable("locked"))
        ruling = Ruling.__new__(Ruling)
        monkeypatch.setattr(ruling, "budget", OneRevision(), raising=False)
        monkeypatch.setattr(ruling, "in_force", SimpleNamespace(version=1), raising=False)
        monkeypatch.setattr(ruling, "change", publish)
        monkeypatch.setattr(served, "_ruling", ruling, raising=False)
        await outlives(served._revise_budget, publish, lambda: None)

    asyncio.run(run())


def test_a_reload_that_fails_in_an_unforeseen_way_leaves_the_next_one_possible(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def run() -> None:
        served = Process(tmp_path / "gateway.yaml", [])
        reload = FailsFirst(RuntimeError("nobody thought of this"))
        monkeypatch.setattr(served, "_ruling", SimpleNamespace(reload=reload), raising=False)
        await outlives(served._reload_when_wanted, reload, lambda: served._want_reload("SIGHUP"))

    asyncio.run(run())
