"""Moves a route between levels of autonomy: down at once where a gate fails, up only on evidence.

In: what the route's gates say, and since when it is on its level. Out: the level it should be on, with why. Up is one
level at a time, after its rest, when every gate has passed, that is, each lower bound lies above what the gate asks
for, on labels of predictions that were made on this level.

On the level `shadow` the model answers nobody, so what is labelled is not its answer: leaving it is for a person.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from gateway.autopilot.acting import AUTOPILOT, Book, Standing
from gateway.config.autonomy import LEVELS
from gateway.ledger import Ledger, acts
from gateway.ledger.acts import Act
from gateway.runtime.learnt import Learnt

if TYPE_CHECKING:
    from gateway.config.autonomy import Autonomy
    from gateway.ledger.verdicts import Verdict

__all__ = ["Move", "Mover", "decide"]

HOUR_US: Final = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Move:
    """From one level to another, and why in words."""

    before: str
    after: str
    words: str


def decide(
    autonomy: Autonomy, level: str, since_us: int, verdicts: Sequence[Verdict], failing: bool, now_us: int
) -> Move | None:
    """The next move of a route; None: it stays.

    Args:
        level: it is on. since_us: when it came there. verdicts: the last ones of its gates. failing: whether one of
            them fails, as often in a row as it must.
    """
    at = LEVELS.index(level)
    if failing:
        failed = [one for one in verdicts if one.verdict == "fail"]
        if at == 0 or not failed or max(one.time_us for one in failed) <= since_us:
            return None
        return Move(level, LEVELS[at - 1], f"{failed[0].gate} fails: {failed[0].words}")
    most = LEVELS.index(autonomy.most or autonomy.level)
    if at == 0 or at >= most or not verdicts or now_us - since_us < autonomy.rest_h * HOUR_US:
        return None
    if any(one.verdict != "pass" or one.time_us <= since_us for one in verdicts):
        return None
    labels = min(one.labels for one in verdicts)
    if labels < autonomy.min_labels:
        return None
    said = "; ".join(one.words for one in verdicts)
    return Move(level, LEVELS[at + 1], f"every gate passes on {labels:,} labels or more: {said}")


class Mover:
    """Args:
    change: makes a policy by a function that blocks and returns the version, and sees to it that it is run.
    standing: what is in force now; may block.
    """

    def __init__(
        self,
        ledger: Ledger,
        book: Book,
        change: Callable[[Callable[[], int]], int],
        standing: Callable[[], Standing],
    ) -> None:
        self._ledger, self._book, self._change, self._standing = ledger, book, change, standing

    def consider(self, verdicts: Sequence[Verdict], failing: frozenset[str], now_us: int) -> list[Act]:
        """Move every route that should be. Blocks. Raises: LedgerUnavailable, GatewayError.

        Args:
            failing: routes of which a gate fails.
        """
        moved = []
        standing, kept = self._standing(), self._ledger.states("autonomy")
        for name, route in standing.settings.routes.items():
            if route.autonomy is None:
                continue
            known = standing.learnt.get(name, Learnt()).autonomy
            level = known or route.autonomy.level
            state = kept.get((name, ""))
            if state is None:  # the first look: the clock of its rest begins now
                self._ledger.put_states("autonomy", {(name, ""): {"since_us": now_us, "level": level}})
                continue
            mine = [one for one in verdicts if one.route == name]
            move = decide(route.autonomy, level, int(state["since_us"]), mine, name in failing, now_us)
            if move is not None:
                moved.append(self._move(name, move, known, standing.version, now_us))
        return moved

    def _move(self, route: str, move: Move, known: str | None, version: int, now_us: int) -> Act:
        words = f"{move.before} -> {move.after}: {move.words}"
        make = partial(
            self._book.learn,
            route,
            {"autonomy": move.after},
            author=AUTOPILOT,
            reason=f"autonomy {move.before} -> {move.after}",
        )
        after = self._change(make)
        act = Act(
            time_us=now_us,
            route=route,
            cause="autonomy",
            act="autonomy",
            state="done",
            words=words,
            actor=AUTOPILOT,
            before=version,
            after=after,
            details={"learnt": {"autonomy": known}},
        )
        self._ledger.transact(partial(acts.note, act=act)).result()
        self._ledger.put_states("autonomy", {(route, ""): {"since_us": now_us, "level": move.after}})
        return act
