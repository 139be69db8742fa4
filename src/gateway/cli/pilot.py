"""The autopilot as a process holds it: its parts, in their order, and what metrics say of it.

First what is to be known, then what is done about it, then who is told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from gateway.autopilot.alerts import Alerter
from gateway.autopilot.autonomy import Mover
from gateway.autopilot.drift import DriftWatch
from gateway.autopilot.exploration import Exploration
from gateway.autopilot.flow import FlowWatch
from gateway.autopilot.gates import GateWatch
from gateway.autopilot.loop import Autopilot, Part
from gateway.telemetry import Point

if TYPE_CHECKING:
    from gateway.autopilot.acting import Acting, Book, Standing
    from gateway.config import Settings
    from gateway.ledger import Ledger, Window
    from gateway.ledger.report import Report
    from gateway.ledger.verdicts import Verdict

__all__ = ["Pilot"]

VERDICTS: Final = ("pass", "fail", "inconclusive")


class _Gating:
    """Judges gates, does what they ask for, and moves levels of autonomy."""

    name = "gates"

    def __init__(self, watch: GateWatch, acting: Acting, mover: Mover) -> None:
        self._watch, self._acting, self._mover = watch, acting, mover

    def look(self, standing: Standing, now_us: int) -> None:
        """One look; blocks."""
        judged = self._watch.evaluate(standing.settings, standing.version, now_us)
        failures = [one.failure for one in judged if one.failure is not None]
        # First down, as that is at once; what then is done about it begins from there.
        verdicts = [one.verdict for one in judged]
        self._mover.consider(verdicts, frozenset(one.route for one in failures), now_us)
        self._acting.consider(failures, now_us)

    def idle(self) -> None:
        """Another leads: what is remembered may be read anew."""
        self._watch.forget()


class _Telling:
    """Brings what was done to whoever wants to know."""

    name = "alerts"

    def __init__(self, alerter: Alerter) -> None:
        self._alerter = alerter

    def look(self, standing: Standing, now_us: int) -> None:
        """One look; blocks."""
        self._alerter.tell()

    def idle(self) -> None:
        """Nothing is remembered."""


class Pilot:
    """Args:
    change: makes a policy by a function that blocks and returns the version, and sees to it that it is run.
    standing: what is in force now; None while nothing is; may block.
    settings: as they are now. leads: whether this process acts for all.
    """

    def __init__(
        self,
        ledger: Ledger,
        book: Book,
        acting: Acting,
        change: Callable[[Callable[[], int]], int],
        standing: Callable[[], Standing | None],
        settings: Callable[[], Settings],
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._settings, self._ledger = settings, ledger
        self._alerter = Alerter(ledger, lambda: settings().alerts)
        self.gates = GateWatch(ledger)
        self._standing, self._leads = standing, leads
        self._onlooker, self._looking = GateWatch(None, ledger.reader), threading.Lock()
        mover = Mover(ledger, book, change, acting.standing)
        watches: list[Part] = [DriftWatch(ledger), FlowWatch(ledger)]
        exploring = Exploration(ledger, book, change)  # after what may freeze it
        parts: list[Part] = [
            _Gating(self.gates, acting, mover),
            *watches,
            exploring,
            _Telling(self._alerter),
        ]
        self._autopilot = Autopilot(parts, standing, leads)

    def told(self, window: Window, report: Report, now_us: int) -> dict[str, Any]:
        """A report as JSON has it, with drift, feedback and the holdout; blocks. Raises: LedgerUnavailable."""
        from gateway.autopilot.story import as_json, stories

        found = stories(self._ledger.reader, window, report, now_us, self._settings())
        return as_json(report, found)

    def verdicts(self) -> tuple[Verdict, ...]:
        """What every gate says now, at whichever process; blocks. Raises: LedgerUnavailable."""
        judged = self.gates.last
        if not (judged and self._leads()):
            standing = self._standing()
            if standing is None:
                return ()
            with self._looking:
                judged = self._onlooker.evaluate(standing.settings, standing.version, time.time_ns() // 1000)
        return tuple(one.verdict for one in judged)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        await self._autopilot.run(lambda: self._settings().autopilot.every_s)

    def end(self) -> None:
        """Begin to end: a look that is under way waits for nobody any more."""
        self._alerter.end()

    def points(self) -> Iterable[Point]:
        """How the loop does, and what has been told."""
        yield Point("gateway.autopilot.duration", self._autopilot.seconds)
        for part, count in self._autopilot.failures.items():
            yield Point("gateway.autopilot.failures", count, {"part": part})
        for one in self.gates.last:
            at = {"route": one.verdict.route, "gate": one.gate.name, "segment": one.verdict.segment}
            for verdict in VERDICTS:
                yield Point("gateway.gate", int(one.verdict.verdict == verdict), {**at, "verdict": verdict})
        for result, count in self._alerter.counts.items():
            yield Point("gateway.alerts", count, {"result": result})
