"""One part that fails keeps no other from its work, and only the leader acts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.autopilot.loop import Autopilot
from gateway.errors import LedgerUnavailable


class Noted:
    """A part that notes when it was asked, and fails when it is told to."""

    def __init__(self, name: str, *faults: Exception | None) -> None:
        self.name, self.faults, self.looks, self.idled = name, list(faults), 0, 0

    def idle(self) -> None:
        self.idled += 1

    def look(self, standing: Any, now_us: int) -> None:
        self.looks += 1
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault


def test_a_part_that_fails_is_counted_and_looks_again() -> None:
    first = Noted("gates", LedgerUnavailable("away"), RuntimeError("nobody thought of this"))
    second = Noted("alerts")
    pilot = Autopilot([first, second], standing=lambda: object())  # type: ignore[arg-type, return-value]
    for _ in range(3):
        pilot.cycle()
    assert (first.looks, second.looks, pilot.failures) == (3, 3, {"gates": 2})
    assert pilot.seconds > 0


@pytest.mark.parametrize(("leads", "standing"), [(False, object()), (True, None)])
def test_who_does_not_lead_or_has_no_policy_does_nothing(leads: bool, standing: Any) -> None:
    part = Noted("gates")
    Autopilot([part], standing=lambda: standing, leads=lambda: leads).cycle()
    assert (part.looks, part.idled) == (0, int(not leads))


def test_it_goes_on_until_it_is_told_to_stop() -> None:
    part = Noted("gates", RuntimeError("once"))
    pilot = Autopilot([part], standing=lambda: object())  # type: ignore[arg-type, return-value]

    async def run() -> None:
        running = asyncio.ensure_future(pilot.run(lambda: 0.0))
        async with asyncio.timeout(10):
            while part.looks < 3:
                await asyncio.sleep(0.01)
        running.cancel()

    asyncio.run(run())
