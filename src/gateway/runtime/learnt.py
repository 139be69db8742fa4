"""What was learnt about a route besides its settings, and what it changes of the route's document.

Settings are what an operator wrote; this is what the gateway found out since, or was told to do by a gate: another
threshold, a higher floor, a model that is passed over, other shares of arms. It is kept with the policy version that it
made, and each part of it holds only as long as the setting that it stands in for: who writes another threshold into the
settings wants that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Self

from gateway.config.autonomy import LEVELS
from gateway.errors import QualityError

if TYPE_CHECKING:
    from gateway.config import Route

__all__ = ["Learnt", "apply"]

MOST_KNOTS: Final = 1_000
"""Of a table of recalibrated scores: the grid that scores are counted on is no finer."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """Of one route; None (and no name in `skip`): as the settings say.

    `threshold`: flagged from this score on. `floor`: the least confidence, where the settings' own is lower. `skip`:
    backends that are passed over. `arms`: shares by name, which add up to 1; empty: nothing is explored.
    `recalibration`: `{"x": [...], "y": [...]}`, knots of a monotone table that scores go through first, of the model
    `backend` if that is named; then `threshold` and `floor` are of the scores that come out. `autonomy`: one of
    `LEVELS`.
    """

    threshold: float | None = None
    floor: float | None = None
    skip: tuple[str, ...] = ()
    arms: Mapping[str, float] | None = None
    recalibration: Mapping[str, Any] | None = None
    autonomy: str | None = None

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        """As it was kept; names that this version does not know are passed over."""
        known = {one.name for one in fields(cls)}
        values = {name: value for name, value in kept.items() if name in known}
        return cls(**(values | {"skip": tuple(values.get("skip", ()))}))

    def kept(self) -> dict[str, Any]:
        """As it is kept: only what was learnt."""
        return {name: value for name, value in asdict(self).items() if value is not None and value != ()}

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """With some parts replaced; None takes a part back.

        Raises: QualityError for a part that does not exist.
        """
        known = {one.name for one in fields(self)}
        unknown = set(changes) - known
        if unknown:
            raise QualityError(
                f"learnt: found {', '.join(sorted(unknown))}, wanted some of {', '.join(known)}"
            )
        values: dict[str, Any] = {
            name: () if name == "skip" and value is None else value for name, value in changes.items()
        }
        if "skip" in values:
            values["skip"] = tuple(values["skip"])
        return replace(self, **values)

    def check(self, route: Route) -> None:
        """Raises: QualityError, when the route's settings cannot hold it, with what was found and wanted."""
        for name, share in (("threshold", self.threshold), ("floor", self.floor)):
            if share is not None and not 0.0 <= share <= 1.0:
                raise QualityError(f"learnt {name}: found {share}, wanted a number from 0 to 1")
        if self.threshold is not None and (route.prediction is None or route.prediction.positive is None):
            raise QualityError("learnt threshold: the route has no prediction.positive that it could flag")
        if self.floor is not None and (route.prediction is None or route.prediction.value is not None):
            raise QualityError("learnt floor: the route's prediction has no confidence")
        if self.skip and not set(route.chain) - set(self.skip):
            raise QualityError(f"skip {', '.join(self.skip)}: nothing would be left of the route's chain")
        if self.autonomy is not None and self.autonomy not in LEVELS:
            raise QualityError(f"autonomy: found {self.autonomy!r}, wanted one of {', '.join(LEVELS)}")
        self._check_arms(route)
        if self.recalibration is not None:
            self._check_table(route, self.recalibration)

    @staticmethod
    def _check_table(route: Route, table: Mapping[str, Any]) -> None:
        _check_knots(table)
        if route.prediction is None or not route.prediction.scores or route.prediction.positive is None:
            raise QualityError("recalibration: the route reads no score of prediction.positive")
        arms = () if route.explore is None else tuple(route.explore.arms)
        if table.get("backend") not in (None, *route.chain, *arms):
            raise QualityError(
                f"recalibration: found the backend {table['backend']!r}, wanted one of {', '.join(route.chain)}"
            )

    def _check_arms(self, route: Route) -> None:
        if not self.arms:
            return
        if route.explore is None or set(self.arms) != set(route.explore.arms):
            wanted = "none" if route.explore is None else ", ".join(route.explore.arms)
            raise QualityError(f"learnt arms: found {', '.join(self.arms)}, wanted {wanted}")
        total = sum(self.arms.values())
        if not all(0.0 <= share <= 1.0 for share in self.arms.values()) or abs(total - 1.0) > 1e-6:
            raise QualityError(f"learnt arms: the shares add up to {total:g}, wanted 1, each from 0 to 1")

    def kept_over(self, before: Route, after: Route) -> Self:
        """What still holds when the route's settings have changed: parts whose setting stayed as it was."""
        gone: dict[str, Any] = {}
        thresholds = [None if one.prediction is None else one.prediction.threshold for one in (before, after)]
        if self.threshold is not None and thresholds[0] != thresholds[1]:
            gone["threshold"] = None
        if self.floor is not None and before.confidence != after.confidence:
            gone["floor"] = None
        if self.skip and before.chain != after.chain:
            gone["skip"] = None
        if self.arms is not None and before.explore != after.explore:
            gone["arms"] = None
        if self.recalibration is not None and (
            before.prediction != after.prediction or before.chain != after.chain
        ):
            gone["recalibration"] = None
        if self.autonomy is not None and before.autonomy != after.autonomy:
            gone["autonomy"] = None
        return self.changed(gone)


def apply(made: dict[str, Any], learnt: Learnt, mirror: Mapping[str, Any], level: str | None = None) -> None:
    """Change a route's document by what was learnt.

    Args:
        made: the document of the route's settings. mirror: what a copy is made with where the settings have none.
        level: of autonomy, by the settings; `learnt.autonomy` goes before it.
    """
    models = [made["chain"][0], *(one["backend"] for one in (made["explore"] or {"arms": ()})["arms"])]
    if learnt.threshold is not None and made["prediction"] is not None:
        made["prediction"]["threshold"] = learnt.threshold
    if learnt.floor is not None and made["prediction"] is not None:
        _raise_floor(made, learnt.floor)
    if learnt.recalibration is not None and made["prediction"] is not None:
        table = learnt.recalibration
        made["recalibration"] = {"x": table["x"], "y": table["y"], "backend": table.get("backend")}
    if learnt.arms is not None:
        _share(made, learnt.arms)
    if learnt.skip:
        _pass_over(made, learnt.skip)
    level = learnt.autonomy or level
    if level == "shadow":
        _only_watch(made, list(dict.fromkeys(models)), mirror)
    elif level in ("suggest", "assisted") and made["review"] is not None:
        strata = ("flagged", "unflagged", "near", "fallback", "disagreement")
        made["review"] |= dict.fromkeys(strata if level == "suggest" else ("fallback",), 1.0)


def _raise_floor(made: dict[str, Any], floor: float) -> None:
    usual: dict[str, Any] = {"measure": "max_probability", "floor": None, "per_label": {}, "per_segment": {}}
    confidence = made["confidence"] or usual
    raised = {"floor": max(floor, confidence["floor"] or 0.0)}
    for by in ("per_label", "per_segment"):
        raised[by] = {name: max(floor, of) for name, of in confidence[by].items()}
    made["confidence"] = confidence | raised


def _share(made: dict[str, Any], arms: Mapping[str, float]) -> None:
    explore = made["explore"]
    if explore is None or not arms:
        made["explore"] = None
        return
    explore["arms"] = [
        {"backend": one["backend"], "share": arms.get(one["backend"], 0.0)} for one in explore["arms"]
    ]


def _pass_over(made: dict[str, Any], skip: Sequence[str]) -> None:
    first = made["chain"][0]
    made["chain"] = [name for name in made["chain"] if name not in skip] or made["chain"]
    if made["explore"] is not None:
        left = [one for one in made["explore"]["arms"] if one["backend"] not in skip]
        total = sum(one["share"] for one in left)
        if len(left) < 2 or total <= 0:
            made["explore"] = None
        else:
            made["explore"]["arms"] = [one | {"share": one["share"] / total} for one in left]
    if first in skip:
        # The twin was one of the model that answers no more: its noise is not that of the one that does.
        made["mirror"] = [one | {"noise": None} for one in made["mirror"]]


def _only_watch(made: dict[str, Any], models: Sequence[str], mirror: Mapping[str, Any]) -> None:
    """The models get copies, and what is behind them answers."""
    made["explore"] = None
    made["chain"] = [name for name in made["chain"] if name not in models] or made["chain"]
    copies = [one | {"noise": None} for one in made["mirror"] if one["to"] not in models]
    made["mirror"] = [*({**mirror, "to": name, "share": 1.0} for name in models), *copies]


def _check_knots(table: Mapping[str, Any]) -> None:
    x, y = list(table.get("x", ())), list(table.get("y", ()))
    if not 2 <= len(x) <= MOST_KNOTS or len(x) != len(y):
        raise QualityError(
            f"recalibration: found {len(x)} and {len(y)} knots, wanted 2 to {MOST_KNOTS}, x and y alike"
        )
    rising = all(a < b for a, b in pairwise(x)) and all(a <= b for a, b in pairwise(y))
    if not rising or not all(0.0 <= value <= 1.0 for value in (*x, *y)):
        raise QualityError("recalibration: wanted knots from 0 to 1, x rising, y never falling")
