"""What `gateway threshold --publish` and `--recalibrate` would change, and doing it through the running gateway."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gateway.autopilot.thresholds import Advice, InForce, Point, Seen, point
from gateway.ledger.grid import SCORE_BINS
from gateway.quality import Recalibration

__all__ = ["Change", "carry_out", "change_of"]

Steering = tuple[str, Path | None, Path | None]
"""Address, token file, and who signed the certificate."""


@dataclass(frozen=True, slots=True)
class Change:
    """What would be published, on the window's own predictions.

    `changes`: parts of what is learnt about the route; empty with a `reason`. `onto`: the version it is made for, 0 for
    any. `before`, `after`: the threshold on the scores that are recorded now. `flips`: the share of predictions that
    would be flagged and are not, or the other way. `unsure`: the shares below the floor before and after; None where no
    floor is set, or the confidence is not made of the score.
    """

    route: str
    changes: dict[str, Any]
    onto: int
    before: Point
    after: Point | None
    flips: float | None
    unsure: tuple[float, float] | None
    reason: str | None = None

    def as_dict(self) -> dict[str, object]:
        """As `gateway threshold --json` prints it."""
        return {
            "changes": self.changes,
            "onto": self.onto,
            "before": self.before.as_dict(),
            "after": None if self.after is None else self.after.as_dict(),
            "flipped_share": self.flips,
            "below_floor_share": None if self.unsure is None else list(self.unsure),
            "reason": self.reason,
        }


def change_of(
    advice: Advice, known: Seen, now: InForce, publish: str | None, *, recalibrate: bool
) -> Change | None:
    """What is asked for; None for nothing.

    Raises: wrong use, for a rule that does not exist or was not asked about.
    """
    if publish is None and not recalibrate:
        return None
    wanted, reason = now.threshold, None
    if publish is not None:
        wanted, reason = _threshold(advice, publish)
    table = advice.table if recalibrate else None
    if table is not None and reason is None:
        reason = table.reason
        if now.mapped:
            reason = "scores go through a table already, so that those in the ledger are not the model's own"
        elif reason is None and not table.better:
            reason = "the table does not bring scores nearer to the truth on labels that it was not fitted on"
    if reason is not None:
        return Change(advice.route, {}, now.version, advice.today, None, None, None, reason)
    changes: dict[str, Any] = {"threshold": wanted}
    if table is not None:
        changes = {
            "threshold": round(float(table.map([wanted])[0]), 6),
            "recalibration": {"x": list(table.x), "y": list(table.y)},
        }
    return Change(
        advice.route,
        changes,
        now.version,
        advice.today,
        point(known, wanted),
        _flips(known, now.threshold, changes["threshold"], table),
        _unsure(known, now.floor, table),
    )


def _threshold(advice: Advice, publish: str) -> tuple[float, str | None]:
    from gateway.cli.printing import wrong_use
    from gateway.cli.threshold import RULES

    if publish in RULES:
        choice = advice.choice(publish)
        if choice is None:
            raise wrong_use(f"--publish: {publish} needs costs: in the route")
        if choice.threshold is None or (publish == "cost_optimal" and choice.reason):
            return 0.0, choice.reason
        return choice.threshold, None
    try:
        wanted = float(publish)
    except ValueError:
        wanted = -1.0
    if not 0.0 <= wanted <= 1.0:
        raise wrong_use(f"--publish: found {publish!r}, wanted {', '.join(RULES)} or a number from 0 to 1")
    return wanted, None


def _flips(known: Seen, before: float, after: float, table: Recalibration | None) -> float | None:
    came = known.predictions
    total = int(came.count.sum())
    if not total:
        return None
    scored = np.isfinite(came.score)
    score = np.where(scored, came.score, 0.0)
    mapped = score if table is None else table.map(score)
    # A table's value and its threshold are rounded alike.
    flips = scored & ((score >= before) != (mapped >= after - 1e-6 * (table is not None)))
    return float(came.count[flips].sum()) / total


def _unsure(known: Seen, floor: float | None, table: Recalibration | None) -> tuple[float, float] | None:
    came = known.predictions
    scored = np.isfinite(came.score)
    if floor is None or not bool(scored.any()):
        return None
    middle, count = came.score[scored] + 0.5 / SCORE_BINS, came.count[scored]
    mapped = middle if table is None else table.map(middle)
    shares = [
        float(count[np.maximum(one, 1.0 - one) < floor].sum() / count.sum()) for one in (middle, mapped)
    ]
    return shares[0], shares[1]


def carry_out(change: Change, reason: str, steering: Steering, *, yes: bool, json: bool) -> None:
    """Publish it through the gateway or control at the address, after asking."""
    from json import dumps

    import typer

    from gateway.cli.printing import print_json
    from gateway.cli.steering import steered
    from gateway.v1.policy_pb2 import LearnRequest

    if not yes:
        typer.confirm("Publish it?", abort=True)
    asked = LearnRequest(route=change.route, changes=dumps(change.changes), reason=reason, onto=change.onto)
    version = steered(*steering, lambda stub, how: stub.Learn(asked, **how)).version
    if json:
        print_json({"version": version})
    else:
        print(f"policy {version} is in force")
