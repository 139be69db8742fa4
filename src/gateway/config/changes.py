"""What changes between two settings, in words.

The files themselves can be compared by any tool; what matters is what a change does: defaults count as if they stood
there, lists of backends are chains with an order, and a larger share keeps the units that a smaller one has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, SecretStr

from gateway.config.faults import Path, show_path
from gateway.config.gates import Gate
from gateway.config.ledger_url import without_password
from gateway.config.routes import Rule
from gateway.config.settings import Settings

__all__ = ["Change", "changes"]

RESTART: Final = (
    ("listen",),
    ("workers",),
    ("secrets",),
    ("ledger",),
    ("state_dir",),
    ("telemetry", "otlp"),
    ("telemetry", "events"),
    ("label_studio",),
)
"""What a running gateway does not take by a reload."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs: where, the values (None where it is absent), and what follows from it."""

    path: Path
    before: Any
    after: Any
    effect: str = ""

    @property
    def kind(self) -> str:
        """`added`, `removed` or `changed`."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"

    @property
    def restart(self) -> bool:
        """Whether a running gateway takes it only by a restart."""
        if self.path == ("listen", "tls", "allow"):
            return False
        return any(self.path[: len(path)] == path for path in RESTART)

    def __str__(self) -> str:
        what = show_path(self.path)
        words = {
            "added": f"{what}: {_shown(self.after)} is new",
            "removed": f"{what}: {_shown(self.before)} is gone",
            "changed": f"{what}: {_shown(self.before)} -> {_shown(self.after)}",
        }[self.kind]
        return f"{words}: {self.effect}" if self.effect else words

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "path": show_path(self.path),
            "kind": self.kind,
            "before": _plain(self.before),
            "after": _plain(self.after),
            "effect": self.effect,
        }


def changes(before: Settings, after: Settings) -> list[Change]:
    """Every difference, in the order of the settings; defaults count as if they were written."""
    found = list(_between((), before, after))
    return [Change(one.path, one.before, one.after, _effect(one)) for one in found]


def _between(path: Path, before: Any, after: Any) -> Iterator[Change]:
    if before == after:
        return
    if isinstance(before, BaseModel) and type(before) is type(after):
        for name in type(before).model_fields:
            yield from _between((*path, name), getattr(before, name), getattr(after, name))
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in [*before, *(name for name in after if name not in before)]:
            yield from _between((*path, name), before.get(name), after.get(name))
    elif path[-1:] in (("rules",), ("gates",)) and isinstance(before, tuple) and isinstance(after, tuple):
        yield from _named(path, before, after)
    else:
        yield Change(path, _some(before), _some(after))


def _named(path: Path, before: tuple[Rule | Gate, ...], after: tuple[Rule | Gate, ...]) -> Iterator[Change]:
    """Rules and gates go by their names; rules without one by their place. The order of gates means nothing."""
    old = {rule.name or f"rule-{index + 1}": rule for index, rule in enumerate(before)}
    new = {rule.name or f"rule-{index + 1}": rule for index, rule in enumerate(after)}
    for name in [*old, *(name for name in new if name not in old)]:
        yield from _between((*path, name), old.get(name), new.get(name))
    kept = [name for name in old if name in new]
    moved = [name for name in new if name in old]
    if kept != moved and path[-1] == "rules":
        yield Change((*path,), tuple(kept), tuple(moved))


def _some(value: Any) -> Any:
    """None for what is as good as absent."""
    return None if value is None or value == () or value == {} else value


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, SecretStr):
        return "a secret"
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return without_password(value)
    return value if isinstance(value, (bool, int, float, type(None))) else str(value)


def _shown(value: Any) -> str:
    value = _plain(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if value == {}:
        return "as by default"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return "nothing" if value is None else str(value)


def _effect(change: Change) -> str:
    path, last = change.path, change.path[-1]
    if change.restart:
        secret = {
            "salt": "every sticky choice is drawn anew: held-out units meet the model",
            "receipt_keys": "receipts of a key that is gone are refused",
        }.get(str(last), "")
        return "; ".join(filter(None, [secret, "takes a restart"]))
    if path[:2] == ("identity", "unit"):
        return (
            "units are others than before: every sticky choice is drawn anew, held-out units meet the model"
        )
    if path[:2] == ("identity", "segments"):
        return "quality is reported by other segments from now on, and floors and rules go by them"
    if path[:1] == ("routes",) and path[2:3] == ("gates",) and last in ("metric", "at_least", "at_most"):
        return "labels seen so far count no more: the gate begins anew"
    if path[0] == "routes" and len(path) == 2:
        return {
            "added": "calls that match it are decided by it from now on",
            "removed": "its calls go where calls without a route go",
        }.get(change.kind, "")
    if path[0] == "routes":
        return _of_route(change)
    if path[0] == "default_backend":
        return (
            "calls without a route are refused" if change.after is None else "calls without a route go there"
        )
    if path[0] == "backends":
        return _of_backend(change)
    return ""


def _of_route(change: Change) -> str:
    path, last, up = change.path, change.path[-1], _rises(change)
    block = path[2] if len(path) > 2 else ""
    if block == "chain":
        return _of_chain(change)
    if block == "match":
        return "other calls are the route's than before"
    if block == "kill_switch":
        return "no model is asked any more" if change.after else "models are asked again"
    if block == "confidence":
        if up is None:
            return "what counts as sure changes" if change.kind == "changed" else ""
        return "more calls go on along the chain" if up else "fewer calls go on along the chain"
    if block == "loop_guard":
        return _of_loop_guard(change)
    if block == "hedge":
        return _of_hedge(change)
    if block == "check":
        return _of_check(change)
    if block == "on_miss":
        rows = "only the rows of a batch that missed go on along the chain"
        return rows if change.after == "rows" else "a batch falls back whole where one of its rows misses"
    if block == "prediction" and last == "threshold" and up is not None:
        return "fewer predictions are flagged" if up else "more predictions are flagged"
    if block == "rules" and len(path) == 3:
        return "the rules are tried in another order"
    if block == "rules" and len(path) == 4 and isinstance(change.after or change.before, Rule):
        return ""
    if last == "share" and block in ("holdout", "mirror") and up is not None:
        return (
            "those chosen before stay, others join" if up else "some of those chosen before leave, none joins"
        )
    if block == "holdout" and last == "answer":
        return "held-out units are answered by others than before"
    if block == "explore":
        return _of_exploration(change, path, up)
    if block == "review" and "segments" not in path and "share" in path and up is not None:
        return "more of them are reviewed" if up else "fewer of them are reviewed"
    if last == "deadline_ms" and up is not None:
        return "backends have more time" if up else "backends have less time"
    return ""


def _of_loop_guard(change: Change) -> str:
    last, up = change.path[-1], _rises(change)
    if last == "loop_guard":
        return {
            "added": "units that keep meeting fallbacks are led out of the loop",
            "removed": "no unit is led out of a loop any more",
        }.get(change.kind, "")
    if last in ("limit", "within_s") and up is not None:
        return "units are led out earlier" if up == (last == "within_s") else "units are led out later"
    return ""


def _of_hedge(change: Change) -> str:
    last, up = change.path[-1], _rises(change)
    if last == "hedge":
        return {
            "added": "the next model is asked as well when the first is late",
            "removed": "a late model is waited for",
        }.get(change.kind, "")
    if up is None:
        return "what counts as late changes"
    if last == "share":
        return "more calls may be asked twice" if up else "fewer calls may be asked twice"
    return "the next model is asked later" if up else "the next model is asked earlier"


def _of_check(change: Change) -> str:
    if change.path[-1] == "unknown_outputs":
        return (
            "answers with other outputs are misses" if change.after == "miss" else "other outputs are allowed"
        )
    words = {"added": "more answers may be invalid", "removed": "fewer answers may be invalid"}
    if change.path[-1] == "sum_tolerance" and (up := _rises(change)) is not None:
        return words["removed" if up else "added"]
    return words.get(change.kind, "other answers are invalid than before")


def _of_exploration(change: Change, path: Path, up: bool | None) -> str:
    if path[-1] == "explore":
        return (
            "units draw an arm from now on"
            if change.kind == "added"
            else "the first of the chain is asked first"
        )
    if path[-1] == "algorithm":
        return "shares stay as they are" if change.after == "fixed" else "shares follow what is learnt"
    if path[-1] == "cap" and up is not None:
        return "more may be explored" if up else "less may be explored"
    if path[-1] == "until":
        return "shares stay once the best is known" if change.after == "winner" else "shares go on following"
    if path[-1] == "sticky":
        return "each call draws anew" if change.after == "call" else "a unit keeps its arm"
    if path[-2:-1] == ("arms",) and up is not None:
        return "units join this arm" if up else "units leave this arm"
    return ""


def _of_chain(change: Change) -> str:
    before, after = list(change.before or ()), list(change.after or ())
    words = []
    if before[:1] != after[:1] and before and after:
        words.append(f"{after[0]} is asked first instead of {before[0]}")
    gone = [name for name in before if name not in after]
    new = [name for name in after[1:] if name not in before]
    if gone:
        words.append(f"{' and '.join(gone)} {'is' if len(gone) == 1 else 'are'} not asked any more")
    if new:
        words.append(f"{' and '.join(new)} {'is' if len(new) == 1 else 'are'} asked when those before fail")
    return ", ".join(words) or "the order changes"


def _of_backend(change: Change) -> str:
    path, last, up = change.path, change.path[-1], _rises(change)
    if last == "grpc":
        return "connections are opened anew"
    if last == "model" or last == "version":
        return "another model answers under the same name: what was learnt about it may not hold"
    if last == "timeout_ms" and up is not None:
        return "fewer attempts run out of time" if up else "more attempts run out of time"
    if last == "max_in_flight" and up is not None:
        return (
            "more calls at once before the rest is a miss"
            if up
            else "fewer calls at once before the rest is a miss"
        )
    if last == "circuit":
        failing = {
            "added": "it is left alone while it fails",
            "removed": "it is asked however often it fails",
        }
        return failing.get(change.kind, "")
    if "circuit" in path:
        return "it is left alone under other conditions; what was counted begins anew"
    if last == "retry":
        failed = {"added": "calls that failed are made again", "removed": "no call that failed is made again"}
        return failed.get(change.kind, "")
    if "retry" in path:
        return "other failed calls are made again than before; the budget begins anew"
    if last == "warm" and up is not None:
        return "more connections are kept open" if up else "fewer connections are kept open"
    return ""


def _rises(change: Change) -> bool | None:
    """Whether a number rises; None where it is none."""
    numbers = [
        value
        for value in (change.before, change.after)
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    return None if len(numbers) < 2 else numbers[1] > numbers[0]
