"""What is allowed and probably not meant."""

from __future__ import annotations

from gateway.config.expressions import names_variable
from gateway.config.faults import Fault, Path
from gateway.config.gate_checks import idle_gates
from gateway.config.hedging import idle_hedges
from gateway.config.listening import is_loopback
from gateway.config.queue_checks import queue_warnings
from gateway.config.routes import Route, Then
from gateway.config.sampling import MODEL_INFER
from gateway.config.sampling_checks import takes
from gateway.config.settings import Settings
from gateway.config.source import Source
from gateway.config.tls import warnings_of_tls

__all__ = ["warnings_of"]


def warnings_of(settings: Settings, source: Source) -> list[Fault]:
    """Every warning, in the order of the file."""
    made: list[Fault] = []
    for name, route in settings.routes.items():
        made.extend(_of_route(("routes", name), route, settings, source))
    made.extend(warnings_of_tls(settings, source))
    made.extend(_of_names(settings, source))
    made.extend(queue_warnings(settings, source))
    made.extend(_of_access(settings, source))
    used = _used(settings)
    unused = [name for name in settings.backends if name not in used]
    made.extend(source.fault(("backends", name), "no route uses this backend", key=True) for name in unused)
    return sorted(made, key=lambda fault: (fault.line is None, fault.line or 0, fault.column or 0))


def _of_names(settings: Settings, source: Source) -> list[Fault]:
    endpoints = [endpoint for backend in settings.backends.values() for endpoint in backend.grpc or ()]
    if not settings.dns.servers or any(endpoint.startswith("dns:") for endpoint in endpoints):
        return []
    found = "no endpoint is a dns: name, so nobody asks these servers"
    return [source.fault(("dns", "servers"), found, mend='write "dns:HOST:PORT" where a name may change')]


def _of_access(settings: Settings, source: Source) -> list[Fault]:
    """Where other machines reach the port, review wants a role; whoever upgrades would find it out by refusals."""
    people = any(backend.people is not None for backend in settings.backends.values())
    reviewed = people or any(route.review is not None for route in settings.routes.values())
    may = any(one.role in ("reviewer", "operator") for one in settings.access.values())
    if is_loopback(settings.listen.inference) or not reviewed or may:
        return []
    found = "other machines reach this port, and nobody in `access` may review: reviewers are refused"
    return [
        source.fault(
            ("listen", "inference"),
            found,
            mend='access: {reviewers: {role: reviewer, token: "file:<path>"}}',
        )
    ]


def _used(settings: Settings) -> set[str]:
    used = {settings.default_backend or ""}
    for route in settings.routes.values():
        used.update(_asked(route), (mirror.to for mirror in route.mirror))
        used.update(mirror.noise.to for mirror in route.mirror if mirror.noise)
    return used


def _asked(route: Route) -> list[str]:
    """Every backend that may answer a call of the route, once."""
    thens = [then for rule in route.rules for then in (rule.then, rule.otherwise) if isinstance(then, Then)]
    found = [*route.chain, *(name for then in thens for name in (then.to, then.answer) if name)]
    found += route.holdout.answer if route.holdout else ()
    found += route.explore.arms if route.explore else ()
    found += [route.loop_guard.then] if route.loop_guard else []
    return list(dict.fromkeys(found))


def _of_route(path: Path, route: Route, settings: Settings, source: Source) -> list[Fault]:
    made: list[Fault] = []
    alone = len(route.chain) == 1
    static = settings.backends[route.chain[0]].static
    confidence = route.confidence
    floored = confidence is not None and bool(
        confidence.floor is not None or confidence.per_label or confidence.per_segment
    )
    if floored and alone:
        made.append(
            source.fault(
                (*path, "confidence"),
                "a floor with nothing to fall back on: what is below it ends as an error",
                mend="add a backend or a static answer to the chain",
            )
        )
    if confidence is not None and not floored:
        made.append(
            source.fault(
                (*path, "confidence"),
                "confidence without a floor rejects nothing",
                mend="for example floor: 0.8",
            )
        )
    nexts = [index for index, rule in enumerate(route.rules) if rule.then.next]
    if alone and nexts and not floored:
        made.append(
            source.fault(
                (*path, "rules", nexts[0], "then"),
                "next in a chain of one: such calls end as errors",
                mend="add a backend or a static answer to the chain",
            )
        )
    if route.kill_switch:
        answers = any(not settings.backends[name].model_server for name in route.chain)
        end = "static answers and people only" if answers else "and nothing else can answer: every call fails"
        made.append(source.fault((*path, "kill_switch"), f"the kill switch is on: {end}"))
    if static and alone and not route.mirror:
        made.append(
            source.fault((*path, "chain"), "no model in this route: every call gets the static answer")
        )
    made.extend(_of_people(path, route, settings, source))
    if route.prediction is not None and route.prediction.positive is None and route.prediction.value is None:
        made.append(
            source.fault(
                (*path, "prediction"),
                "without positive there is no precision and no recall",
                mend="name the class they are about, positive: spam",
            )
        )
    if route.review is not None and not route.review.capture:
        made.append(
            source.fault(
                (*path, "review"),
                "reviewers will see no inputs",
                mend="capture: [inputs], with redact for what they must not see",
            )
        )
    if route.holdout is not None and route.holdout.share >= 0.5:
        made.append(
            source.fault(
                (*path, "holdout", "share"), f"{route.holdout.share:.0%} of units never meet the model"
            )
        )
    models = [name for name in route.chain if not settings.backends[name].static]
    for index in nexts:
        rule = route.rules[index]
        names = any(names_variable(rule.when, name) for name in ("prediction", "backend"))
        if rule.on == "prediction" and len(models) > 1 and not names:
            made.append(
                source.fault(
                    (*path, "rules", index, "then"),
                    "this holds for whichever model answers, so every one of the chain is passed over",
                    mend=f'write && backend == "{models[0]}" to pass over the first alone',
                )
            )
    made.extend(_of_memory(path, route, settings, source))
    made.extend(_of_hedge(path, route, settings, source))
    made.extend(source.fault((*path, *at), found, mend=mend) for at, found, mend in idle_gates(route))
    if settings.identity.unit is None and route.holdout is not None and route.holdout.share > 0:
        made.append(
            source.fault(
                (*path, "holdout"),
                "without identity.unit a unit is one call, so nobody is held out for long",
                mend='for example identity: {unit: "metadata:x-user-id"}',
            )
        )
    return [*made, *_of_sampling(path, route, settings, source)]


def _of_sampling(path: Path, route: Route, settings: Settings, source: Source) -> list[Fault]:
    made: list[Fault] = []
    explore, review = route.explore, route.review
    if explore is not None and route.chain[0] not in explore.arms:
        made.append(
            source.fault(
                (*path, "explore", "arms"),
                f"{route.chain[0]} is first in the chain and no arm: it is asked only when an arm misses",
            )
        )
    if explore is not None and explore.sticky == "unit" and settings.identity.unit is None:
        made.append(
            source.fault(
                (*path, "explore"),
                "without identity.unit a unit is one call, so nobody keeps an arm",
                mend='for example identity: {unit: "metadata:x-user-id"}',
            )
        )
    method = route.match.method or MODEL_INFER
    for index, mirror in enumerate(route.mirror):
        if not takes(mirror.methods, method):
            made.append(
                source.fault(
                    (*path, "mirror", index),
                    f"no call is copied: {method} is not among the methods that may be done twice",
                    mend=f"write methods: [{method}] if they may",
                )
            )
    if review is not None and review.share is not None:
        if review.share.disagreement is not None and not route.mirror:
            made.append(
                source.fault(
                    (*path, "review", "share", "disagreement"), "nothing is mirrored, so nothing can disagree"
                )
            )
        if "near_margin" in review.model_fields_set and review.share.near is None:
            made.append(
                source.fault(
                    (*path, "review", "near_margin"),
                    "a margin without a share: what is near the threshold is reviewed like the rest",
                    mend="for example share: {flagged: 0.3, near: 0.2, low: 0.01}",
                )
            )
    return made


def _of_memory(path: Path, route: Route, settings: Settings, source: Source) -> list[Fault]:
    made: list[Fault] = []
    mend = 'for example identity: {unit: "metadata:x-user-id"}'
    guard = route.loop_guard
    asks = any(names_variable(rule.when, "session") for rule in route.rules)
    if guard is not None and settings.identity.unit is None:
        made.append(
            source.fault(
                (*path, "loop_guard"),
                "without identity.unit a unit is one call, so none is ever seen in a loop",
                mend=mend,
            )
        )
    if guard is not None and guard.then in route.chain[1:] and "fallback" in (guard.on or ("fallback",)):
        made.append(
            source.fault(
                (*path, "loop_guard", "then"),
                f"{guard.then} is what the chain falls back on: this leads back to what was met",
                mend="a backend that is not in the chain, or on: same_negative",
            )
        )
    if asks and settings.identity.unit is None:
        made.append(
            source.fault(
                (*path, "rules"),
                "without identity.unit a unit is one call, so its session is always empty",
                mend=mend,
            )
        )
    if not asks and "session" in route.model_fields_set:
        made.append(
            source.fault((*path, "session"), "no rule names session, so nothing is remembered for rules")
        )
    return made


def _of_people(path: Path, route: Route, settings: Settings, source: Source) -> list[Fault]:
    made: list[Fault] = []
    for name in _asked(route):
        people = settings.backends[name].people
        if people is None or route.deadline_ms is None or route.deadline_ms >= people.timeout_s * 1000:
            continue
        made.append(
            source.fault(
                (*path, "deadline_ms"),
                f"{route.deadline_ms} ms for the whole chain, and {name} may take {people.timeout_s:g} s: "
                "they hardly ever answer in time",
                mend=f"deadline_ms: {round(people.timeout_s * 1000) + 1000}, and callers that wait as long",
            )
        )
    return made


def _of_hedge(path: Path, route: Route, settings: Settings, source: Source) -> list[Fault]:
    if route.hedge is None:
        return []
    first = settings.backends[route.chain[0]]
    models = [settings.backends[name].grpc is not None for name in route.chain]
    idle = idle_hedges(route.hedge, models=models, deadline_ms=route.deadline_ms, timeout_ms=first.timeout_ms)
    return [source.fault((*path, "hedge", *at), found, mend=mend) for at, found, mend in idle]
