"""Checked settings and what was learnt, as the document that the data plane compiles.

The data plane knows no defaults: every field is always there, null where nothing is set. Settings are in a user's
words, the document in the machine's: names of routes become matches, `then` becomes one kind with its values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from gateway.config import Backend, Route, Settings
from gateway.config.exploring import Explore
from gateway.config.fields import Block
from gateway.config.hedging import Hedge
from gateway.config.memory import LoopGuard
from gateway.config.routes import Rule, Then
from gateway.config.sampling import Mirror, Review
from gateway.config.settings import From
from gateway.runtime.batch import names
from gateway.runtime.learnt import Learnt, apply

__all__ = ["FIRST_SHARES", "ReviewShares", "document", "names", "settings_path"]


class ReviewShares(NamedTuple):
    """Probabilities of review by stratum, of one route whose settings say how many tasks an hour it may make."""

    flagged: float = 0.05
    low: float = 0.01
    near: float = 0.02
    fallback: float = 0.02
    disagreement: float = 0.1


FIRST_SHARES: Final = ReviewShares()
"""Until the route's traffic is known."""

NOTHING: Final = Learnt()

COPY: Final = Mirror(to="model").model_dump(mode="json")
"""How a model is copied to that only watches, where the settings do not say."""

Path = tuple[str | int, ...]


def document(
    settings: Settings,
    *,
    version: int,
    salt_hex: str,
    receipt_keys: Sequence[bytes],
    review_shares: Mapping[str, ReviewShares] | None = None,
    learnt: Mapping[str, Learnt] | None = None,
) -> dict[str, Any]:
    """The policy document.

    Args:
        version: of the policy, at least 1. salt_hex: 64 hex digits. receipt_keys: the first signs, all verify.
        review_shares: by route, probabilities that were worked out from its traffic; a route whose settings give
            `share` keeps that.
        learnt: by route, what goes before its settings.
    """
    shares, known = review_shares or {}, learnt or {}
    tls = settings.listen.tls
    return {
        "version": version,
        "salt": salt_hex,
        "receipt_keys": [key.hex() for key in receipt_keys],
        "default_backend": settings.default_backend,
        "identity": {
            "unit": _source(settings.identity.unit),
            "segments": [
                {"name": name, "from": _source(source)} for name, source in settings.identity.segments.items()
            ],
        },
        "allow": list(tls.allow) if tls is not None and tls.allow else None,
        "lists": {name: list(entries) for name, entries in settings.lists.items()},
        "limits": settings.limits.model_dump(mode="json", exclude={"python_workers"}),
        "trace_share": settings.telemetry.trace_share,
        "descriptors": list(settings.descriptors),
        "dns": _plain(settings.dns),
        "backends": [_backend(name, backend) for name, backend in settings.backends.items()],
        "routes": [
            _learnt(_route(name, route, shares.get(name)), route, known.get(name, NOTHING))
            for name, route in settings.routes.items()
        ],
    }


def settings_path(policy: Mapping[str, Any], path: Sequence[str | int]) -> Path:
    """Where in the settings a path of the document comes from."""
    parts = list(path)
    if len(parts) >= 2 and parts[0] in ("routes", "backends") and isinstance(parts[1], int):
        entries = policy[str(parts[0])]
        if parts[1] < len(entries):
            parts[1] = entries[parts[1]]["name"]
    if parts[:2] == ["identity", "segments"] and len(parts) > 2 and isinstance(parts[2], int):
        parts[2] = policy["identity"]["segments"][parts[2]]["name"]
        del parts[3:]
    if parts[:1] == ["allow"]:
        parts = ["listen", "tls", *parts]
    elif parts[:1] == ["trace_share"]:
        parts = ["telemetry", *parts]
    elif parts[:1] == ["salt"] or parts[:1] == ["receipt_keys"]:
        parts = ["secrets", *parts]
    if parts[2:4] == ["check", "outputs"] and len(parts) > 4 and isinstance(parts[4], int):
        index = parts[4]
        parts[4] = policy["routes"][path[1]]["check"]["outputs"][index]["name"]
    if parts[:1] == ["backends"] and "endpoints" in parts:
        parts[parts.index("endpoints")] = "grpc"
    return tuple(parts)


def _plain(block: Block) -> dict[str, Any]:
    return block.model_dump(mode="json")


def _source(source: From | None) -> dict[str, str] | None:
    return None if source is None else {source.kind: source.name}


def _backend(name: str, backend: Backend) -> dict[str, Any]:
    if backend.answer is not None:
        return {"name": name, "kind": "static", **_plain(backend.answer)}
    if backend.people is not None:
        return {"name": name, "kind": "people", **_plain(backend.people)}
    return {
        "name": name,
        "kind": "grpc",
        "endpoints": list(backend.grpc or ()),
        "model": backend.model,
        "version": backend.version,
        "timeout_ms": backend.timeout_ms,
        "max_in_flight": backend.max_in_flight,
        "connect_timeout_ms": backend.connect_timeout_ms,
        "tls": None if backend.tls is None else _plain(backend.tls),
        "retry": None if backend.retry is None else _plain(backend.retry),
        "circuit": None if backend.circuit is None else _plain(backend.circuit),
        "warm": backend.warm,
    }


def _route(name: str, route: Route, learnt: ReviewShares | None) -> dict[str, Any]:
    prediction, match = route.prediction, route.match
    check = _plain(route.check)
    if prediction is not None and prediction.label and prediction.classes and check["labels"] is None:
        check["labels"] = list(prediction.classes)
    check["outputs"] = [{"name": output, **wanted} for output, wanted in check["outputs"].items()]
    return {
        "name": name,
        "match": {
            "model": match.model if match.model or match.method else name,
            "method": match.method,
            "metadata": dict(match.metadata),
        },
        "chain": list(route.chain),
        "deadline_ms": route.deadline_ms,
        "request": None if route.request is None else _plain(route.request),
        "on_miss": route.on_miss,
        "prediction": None if prediction is None else _plain(prediction),
        "check": check,
        "confidence": None if route.confidence is None else _plain(route.confidence),
        "rules": [_rule(rule, route.rule_name(index)) for index, rule in enumerate(route.rules)],
        "holdout": None if route.holdout is None else _plain(route.holdout),
        "explore": None if route.explore is None else _explore(route.explore, route.chain[0]),
        "mirror": [_plain(mirror) for mirror in route.mirror],
        "review": None if route.review is None else _review(route.review, learnt),
        "kill_switch": route.kill_switch,
        "hedge": None if route.hedge is None else _hedge(route.hedge),
        "loop_guard": None if route.loop_guard is None else _loop_guard(route.loop_guard, route),
        "session": {
            "idle_s": route.session.idle_s,
            "remember": [
                {"name": name, "from": _source(source)} for name, source in route.session.remember.items()
            ],
        },
        "stats": _plain(route.stats),
    }


def _learnt(made: dict[str, Any], route: Route, learnt: Learnt) -> dict[str, Any]:
    level = None if route.autonomy is None else route.autonomy.level
    if level is not None or learnt != NOTHING:
        apply(made, learnt, COPY, level)
    return made


def _hedge(hedge: Hedge) -> dict[str, Any]:
    quantile = None if hedge.after is None else int(hedge.after[1:]) / 100
    return {"after_ms": hedge.after_ms, "quantile": quantile, "share": hedge.share}


def _loop_guard(guard: LoopGuard, route: Route) -> dict[str, Any]:
    prediction = route.prediction
    known = bool(guard.negative) or (prediction is not None and prediction.positive is not None)
    usual = ["fallback", "same_negative"] if known else ["fallback"]
    return {**_plain(guard), "on": usual if guard.on is None else list(guard.on)}


def _rule(rule: Rule, name: str) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "on": rule.on, "when": rule.when, "then": _then(rule.then, name)}
    if rule.python is None:
        return made
    otherwise = rule.otherwise if isinstance(rule.otherwise, Then) else None
    return made | {
        "python": rule.python,
        "timeout_ms": rule.timeout_ms,
        "otherwise": bool(rule.otherwise) if otherwise is None else _then(otherwise, name),
    }


def _then(then: Then, rule: str) -> dict[str, str]:
    if then.to is not None:
        return {"kind": "to", "backend": then.to}
    if then.answer is not None:
        return {"kind": "answer", "backend": then.answer}
    if then.reject is not None:
        return {
            "kind": "reject",
            "status": then.reject,
            "message": then.message or f"refused by the rule {rule}",
        }
    return {"kind": "review" if then.review else "next"}


def _explore(explore: Explore, first: str) -> dict[str, Any]:
    arms = [{"backend": name, "share": share} for name, share in explore.start(first).items()]
    return {"arms": arms, "sticky": explore.sticky}


def _review(review: Review, learnt: ReviewShares | None) -> dict[str, Any]:
    given = review.share
    if given is None:
        shares = dict((learnt or FIRST_SHARES)._asdict())
    else:
        shares = {
            "flagged": given.flagged,
            "low": given.rest,
            "near": given.near,
            "fallback": given.fallback,
            "disagreement": given.disagreement,
        }
    return {
        "queue": review.queue,
        "flagged": shares["flagged"],
        "unflagged": shares["low"],
        "near": shares["near"],
        "near_margin": review.near_margin,
        "fallback": shares["fallback"],
        "disagreement": shares["disagreement"],
        "segments": dict(review.segments),
        "capture": list(review.capture),
        "redact": list(review.redact),
    }
