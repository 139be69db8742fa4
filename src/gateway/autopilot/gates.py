"""Gates: once a cycle, every route's gates look at the labels that have come and say pass, fail or inconclusive.

In: settings, the ledger's tallies and labels. Out: verdicts, kept as a history; failures for those who act on them.
Never: acts by itself, or says anything from labels that no probability is known of.

Only routes with new labels, or whose window has moved on by an hour, are measured anew; the rest is remembered. What a
gate remembers is kept in the ledger when it changes, so that a restart, or the next leader, goes on from there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import sqlalchemy as sa

from gateway.autopilot.acting import Failure
from gateway.autopilot.judging import Memory, judge, target_of, wait_us
from gateway.autopilot.looks import Hours, Look, look_at
from gateway.autopilot.slices import ByRoute, Slices, estimates
from gateway.errors import LedgerError
from gateway.ledger import Ledger, Reader, states, verdicts
from gateway.ledger.gate_input import (
    NewLabels,
    changed_us,
    gate_cells,
    label_marks,
    new_labels,
    newest_label,
    oldest_open_us,
)
from gateway.ledger.grid import HOUR_US
from gateway.ledger.verdicts import Verdict
from gateway.quality import Estimate, Target, watch

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.config.gates import Gate

__all__ = ["GateWatch", "Judged"]

KIND: Final = "gate"
"""Of the states in the ledger."""

NOTE_EVERY_US: Final = 24 * HOUR_US
"""How often a verdict that stays is put into the history."""

KEEP_EVERY_US: Final = HOUR_US
"""How far a gate that sees nothing new may have read on without keeping it."""

READ_US: Final = 24 * HOUR_US
"""Labels of so long are read at once: a first look goes over a window of weeks, in half a kilobyte a label."""

MANY_ROUTES: Final = 8
"""From so many on, all routes of a window are read at once."""

Key = tuple[str, str, str]
"""Route, gate and segment."""

Sliced = list[tuple[str, Estimate, float]]
"""By segment the estimate, and the greatest weight of a label."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a gate says of a segment now. `failure`: where it fails as often in a row as its settings ask for."""

    verdict: Verdict
    gate: Gate
    estimate: Estimate
    failure: Failure | None

    @property
    def key(self) -> Key:
        return self.verdict.route, self.gate.name, self.verdict.segment


@dataclass(slots=True)
class _Measured:
    """What a gate's window held when it was last measured; `of` says of what."""

    of: object
    found: Sliced = field(default_factory=list)


class GateWatch:
    """Looks at one ledger's gates; not thread-safe.

    Args:
        ledger: None for who only looks: nothing is kept then, and each look goes on from what is kept.
        reader: of the same ledger; its own if absent.
    """

    def __init__(self, ledger: Ledger | None, reader: Reader | None = None) -> None:
        found = reader if ledger is None else ledger.reader
        if found is None:
            raise LedgerError("gates: found neither a ledger nor a reader")
        self._ledger, self._reader = ledger, found
        self._memory: dict[Key, Memory] | None = None
        self._kept: dict[Key, Memory] = {}
        self._measured: dict[tuple[str, str], _Measured] = {}
        self._after: dict[Key, tuple[object, Estimate]] = {}
        self._newest: int | None = None
        self._marks: dict[str, int] = {}
        self.last: tuple[Judged, ...] = ()
        """What the last look came to."""

    def forget(self) -> None:
        """Read again what is kept, at the next look: somebody else may have gone on."""
        self._memory = None
        self.last = ()

    def evaluate(self, settings: Settings, policy: int, now_us: int) -> tuple[Judged, ...]:
        """Judge every gate of every route, of each of its segments that has predictions; blocks.

        Raises: LedgerUnavailable; what was not kept then is looked at again.
        """
        gates = [(name, gate) for name, route in settings.routes.items() for gate in route.watched]
        if self._ledger is None:
            self.forget()
        memory, reader = self._remember(), self._reader
        looks: list[Look] = []
        if gates:
            if self._newest is None:
                self._newest = newest_label(reader)
            self._marks |= label_marks(reader, self._newest)
            self._newest = max((self._newest, *self._marks.values()))
            oldest = min(now_us - round(gate.window_h * HOUR_US) for _, gate in gates)
            acted = changed_us(reader, oldest)
            still_open = oldest_open_us(reader, min(now_us - wait_us(gate) for _, gate in gates), acted)
            looks = [
                look_at(name, gate, now_us, acted.get(name), still_open.get(name)) for name, gate in gates
            ]
        self._measure(looks)
        now_there = self._take_up(looks, memory)
        self._watch(looks, memory)
        judged = self._judge(looks, memory, policy, now_us)
        if self._ledger is not None:
            self._keep(self._ledger, memory, now_there, judged, now_us)
        self.last = tuple(judged)
        return self.last

    def _remember(self) -> dict[Key, Memory]:
        if self._memory is None:
            self._memory = {}
            for (route, name), kept in self._reader.snapshot(partial(states.find, kind=KIND)).items():
                gate, _, segment = name.partition("|")
                found = Memory.of(kept)
                if found is not None:
                    self._memory[route, gate, segment] = found
            self._kept = dict(self._memory)
        return self._memory

    def _measure(self, looks: Sequence[Look]) -> None:
        """Estimate what has changed since it was last estimated."""
        stale = []
        for look in looks:
            of = (look.hours, look.gate, self._marks.get(look.route, 0))
            known = self._measured.get(look.name)
            if known is None or known.of != of:
                stale.append((look, of))
        made = self._estimate([(look, look.hours) for look, _ in stale])
        for (look, of), found in zip(stale, made, strict=True):
            self._measured[look.name] = _Measured(of, found)

    def _estimate(self, wanted: Sequence[tuple[Look, Hours]]) -> list[Sliced]:
        """Each look's gate in some hours."""
        by_hours: dict[Hours, list[int]] = defaultdict(list)
        for index, (_, hours) in enumerate(wanted):
            by_hours[hours].append(index)
        found: list[Sliced] = [[] for _ in wanted]
        for hours, indexes in by_hours.items():
            routes = list(dict.fromkeys(wanted[index][0].route for index in indexes))
            several: Iterable[str | None] = [None] if len(routes) >= MANY_ROUTES else routes
            for route in several:
                mine = [index for index in indexes if route in (None, wanted[index][0].route)]
                read = gate_cells(self._reader, *hours, route)
                made = estimates([(wanted[at][0].route, wanted[at][0].gate) for at in mine], *read)
                for index, one in zip(mine, made, strict=True):
                    found[index] = one
        return found

    def _take_up(self, looks: Sequence[Look], memory: dict[Key, Memory]) -> set[Key]:
        """See to it that each segment that is there is remembered, from where it may be. Returns: those there are."""
        there = set()
        for look in looks:
            target = target_of(look.gate)
            kept = (target.metric, target.bound, target.at_least)
            for segment, _, _ in self._measured[look.name].found:
                key = (*look.name, segment)
                there.add(key)
                known = memory.get(key)
                # What was said before the route was changed, or of another bound, says nothing now.
                if known is None or known.target != kept or known.begun_us < (look.acted_us or 0):
                    memory[key] = Memory(kept, look.start_us, look.start_us)
                elif known.cursor_us < look.start_us:
                    memory[key] = replace(known, cursor_us=look.start_us)
        return there

    def _watch(self, looks: Sequence[Look], memory: dict[Key, Memory]) -> None:
        """Show the detectors what labels have come since the last look."""
        buckets: dict[int, list[tuple[Look, list[tuple[str, float]]]]] = defaultdict(list)
        for look in looks:
            # Where reviews lag behind, a route reads on from far back: it must not make the others do so.
            of: dict[int, list[tuple[str, float]]] = defaultdict(list)
            for segment, _, weight in self._measured[look.name].found:
                cursor_us = memory[*look.name, segment].cursor_us
                if cursor_us < look.until_us:
                    of[cursor_us // HOUR_US].append((segment, weight))
            for hour, some in of.items():
                buckets[hour].append((look, some))
        for several in buckets.values():
            after = min(memory[*look.name, name].cursor_us for look, some in several for name, _ in some)
            until = max(look.until_us for look, _ in several)
            while after < until - 1:
                upto = min(after + READ_US, until)
                self._show(several, new_labels(self._reader, after, upto), upto, memory)
                after = upto - 1

    def _show(
        self,
        several: Sequence[tuple[Look, list[tuple[str, float]]]],
        read: NewLabels,
        upto: int,
        memory: dict[Key, Memory],
    ) -> None:
        texts, code = np.unique(read.segment, return_inverse=True)
        slices, by_route = Slices(texts), ByRoute(read.route)
        keys: list[Key] = []
        most: list[float] = []
        untils: list[int] = []
        targets: list[Target] = []
        rows, owners = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for look, some in several:
            names, of_text = slices.of(look.gate.segment)
            place = np.full(len(names) + 1, -1, dtype=np.int64)  # the last is that of no segment
            for segment, weight in some:
                if segment in names:
                    place[names.index(segment)] = len(keys)
                keys.append((*look.name, segment))
                most.append(weight)
                untils.append(min(look.until_us, upto))
                targets.append(target_of(look.gate))
            mine = by_route.rows(look.route)
            owner = place[of_text[code[mine]]]
            known = owner >= 0
            rows.append(mine[known])
            owners.append(owner[known])
        row, owner = np.concatenate(rows), np.concatenate(owners)
        cursors = np.array([memory[key].cursor_us for key in keys], dtype=np.int64)
        when = read.time_us[row]
        fresh = (when > cursors[owner]) & (when < np.array(untils, dtype=np.int64)[owner])
        row, owner = row[fresh], owner[fresh]
        detectors, last = watch(
            [memory[key].detector for key in keys],
            targets,
            owner,
            read.flagged[row],
            read.positive[row],
            1.0 / read.pi[row],
            most,
        )
        for key, detector, alarm, until_us in zip(keys, detectors, last.tolist(), untils, strict=True):
            known_before = memory[key]
            if alarm >= 0:
                known_before = replace(known_before, alarm_us=int(read.time_us[row[alarm]]), recovered=False)
            cursor_us = max(known_before.cursor_us, until_us - 1)
            memory[key] = replace(known_before, detector=detector, cursor_us=cursor_us)

    def _judge(
        self, looks: Sequence[Look], memory: dict[Key, Memory], policy: int, now_us: int
    ) -> list[Judged]:
        after = self._since_alarms(looks, memory)
        judged = []
        for look in looks:
            for segment, estimate, _ in self._measured[look.name].found:
                key = (*look.name, segment)
                said, number, words, memory[key] = judge(
                    look.gate, memory[key], estimate, after.get(key), look.start_us, now_us
                )
                now = memory[key]
                verdict = Verdict(
                    time_us=now_us,
                    policy=policy,
                    route=look.route,
                    gate=look.gate.name,
                    segment=segment,
                    verdict=said,
                    value=number.value,
                    low=number.low,
                    high=number.high,
                    labels=number.labels,
                    words=words,
                )
                failure = None
                if now.since_us is not None and now.row >= look.gate.consecutive:
                    failure = Failure(look.route, look.gate, segment, now.since_us, words)
                judged.append(Judged(verdict, look.gate, number, failure))
        return judged

    def _since_alarms(self, looks: Sequence[Look], memory: dict[Key, Memory]) -> dict[Key, Estimate]:
        """Of the predictions since its alarm, the estimate of each gate that raised one within its window."""
        wanted: list[tuple[Key, Look, Hours]] = []
        found: dict[Key, Estimate] = {}
        for look in looks:
            for segment, _, _ in self._measured[look.name].found:
                key = (*look.name, segment)
                alarm_us = memory[key].alarm_us
                if alarm_us is None or alarm_us < look.start_us:
                    continue
                hours = (alarm_us // HOUR_US + 1, look.hours[1])
                of = (hours, look.gate, self._marks.get(look.route, 0))
                known = self._after.get(key)
                if known is not None and known[0] == of:
                    found[key] = known[1]
                elif hours[0] < hours[1]:
                    wanted.append((key, look, hours))
        made = self._estimate([(look, hours) for _, look, hours in wanted])
        for (key, look, hours), several in zip(wanted, made, strict=True):
            for segment, estimate, _ in several:
                if segment == key[2]:
                    found[key] = estimate
                    self._after[key] = ((hours, look.gate, self._marks.get(look.route, 0)), estimate)
        return found

    def _keep(
        self,
        ledger: Ledger,
        memory: dict[Key, Memory],
        there: set[Key],
        judged: Sequence[Judged],
        now_us: int,
    ) -> None:
        """Keep what has changed, and verdicts that are new or a day old; one transaction."""
        told = []
        for one in judged:
            before = memory[one.key]
            if before.verdict != one.verdict.verdict or now_us - before.noted_us >= NOTE_EVERY_US:
                told.append(one.verdict)
                memory[one.key] = replace(before, verdict=one.verdict.verdict, noted_us=now_us)
        changed: dict[Key, Memory | None] = dict.fromkeys(memory.keys() - there)
        for key in sorted(there):
            kept = self._kept.get(key)
            same = kept is not None and replace(memory[key], cursor_us=kept.cursor_us) == kept
            if not same or (kept is not None and memory[key].cursor_us - kept.cursor_us >= KEEP_EVERY_US):
                changed[key] = memory[key]
        if not (told or changed):
            return
        values = {
            (route, f"{gate}|{segment}"): None if one is None else one.as_dict()
            for (route, gate, segment), one in changed.items()
        }

        def work(connection: sa.Connection) -> None:
            states.put(connection, KIND, values, now_us)
            verdicts.note(connection, told)

        try:
            ledger.transact(work).result()
        except BaseException:
            self.forget()  # what is remembered must not run ahead of what is kept
            raise
        for key, now in changed.items():
            if now is None:
                for of in (memory, self._kept, self._after):
                    of.pop(key, None)
            else:
                self._kept[key] = now
