"""Holdout, exploration, mirrors and review against the backends, segments and chain that there are."""

from __future__ import annotations

from gateway.config.exploring import Explore
from gateway.config.faults import Path
from gateway.config.names import Names, Report, check_segments
from gateway.config.routes import Route
from gateway.config.sampling import Holdout
from gateway.config.settings import Settings

__all__ = ["answer_path", "check_sampling", "models_of", "takes"]


def check_sampling(path: Path, route: Route, settings: Settings, names: Names, report: Report) -> None:
    """Report what the route's choices by chance refer to wrongly."""
    _mirrors(path, route, names, report)
    _explore(path, route, names, report)
    _holdout(path, route, settings, names, report)
    if route.review is not None:
        check_segments((*path, "review", "segments"), route.review.segments, names, report)


def models_of(route: Route) -> tuple[str, ...]:
    """Who may be the first choice: the first of the chain, and the arms."""
    arms = route.explore.arms if route.explore else ()
    return tuple(dict.fromkeys((route.chain[0], *arms)))


def answer_path(path: Path, holdout: Holdout, index: int) -> Path:
    """Where the holdout's answer stands; one that stands alone is seldom written as a list."""
    return (*path, "holdout", "answer", *((index,) if len(holdout.answer) > 1 else ()))


def takes(patterns: tuple[str, ...], method: str) -> bool:
    """Whether calls of a method, or some of those of `/package.Service/*`, are among the patterns."""
    for pattern in patterns:
        service = pattern.rpartition("/")[0]
        same_service = service == method.rpartition("/")[0]
        if pattern == method or (same_service and (pattern.endswith("/*") or method.endswith("/*"))):
            return True
    return False


def _mirrors(path: Path, route: Route, names: Names, report: Report) -> None:
    seen: set[str] = set()
    for index, mirror in enumerate(route.mirror):
        block = (*path, "mirror", index)
        if mirror.noise is not None and names.check((*block, "noise"), mirror.noise.to, report, "model"):
            _noise((*block, "noise"), mirror.noise.to, mirror.to, route, report)
        at = (*block, "to")
        if not names.check(at, mirror.to, report, "model"):
            continue
        if mirror.to == route.chain[0]:
            report(at, f"{mirror.to} answers the call itself", "another backend than the first of the chain")
        if mirror.to in seen:
            report(at, f"{mirror.to} gets a copy already", "each backend once")
        seen.add(mirror.to)


def _noise(at: Path, noise: str, to: str, route: Route, report: Report) -> None:
    if noise == route.chain[0]:
        report(
            at,
            f"{noise} answers the call itself",
            "a second backend that serves the same model",
            "what one backend says twice is no measure of how two alike differ",
        )
    elif noise == to:
        report(at, f"{noise} is what is compared", f"a twin of {route.chain[0]}")


def _explore(path: Path, route: Route, names: Names, report: Report) -> None:
    explore, block = route.explore, (*path, "explore")
    if explore is None:
        return
    good = [names.check((*block, "arms"), name, report, "model") for name in explore.arms]
    if explore.learns and all(good):
        _learnt_shares(block, explore, route.chain[0], report)
    rewarded = route.prediction is not None and route.prediction.positive is not None
    if explore.reward == "label" and not rewarded:
        mend = "for example positive: spam; or reward: outcome"
        report((*block, "reward"), "label without prediction.positive", "a class that labels are about", mend)
    elif explore.reward is None and explore.learns and not rewarded:
        found = f"{explore.algorithm} without a reward"
        report(
            (*block, "algorithm"),
            found,
            "reward: outcome or signal:<name>",
            "or prediction.positive for labels",
        )


def _learnt_shares(block: Path, explore: Explore, first: str, report: Report) -> None:
    at = (*block, "arms")
    if first not in explore.arms:
        report(
            at,
            f"{first}, the first of the chain, is no arm",
            f"{first} among them",
            "the cap is on all but it",
        )
        return
    start = explore.start(first)
    low = next((name for name, share in start.items() if share < explore.floor - 1e-9), None)
    others = sum(share for name, share in start.items() if name != first)
    if low is not None:
        found = f"{low} starts at {start[low]:g}"
        report(at, found, f"the floor of {explore.floor:g} at least")
    elif others > explore.cap + 1e-9:
        found = f"all arms but {first} start at {others:g} together"
        report(at, found, f"the cap of {explore.cap:g} at most", "names alone start within it")


def _holdout(path: Path, route: Route, settings: Settings, names: Names, report: Report) -> None:
    if route.holdout is None:
        return
    always: str | None = None
    for index, name in enumerate(route.holdout.answer):
        at = answer_path(path, route.holdout, index)
        if not names.check(at, name, report):
            continue
        if name in route.holdout.answer[:index]:
            report(at, f"{name} stands there a second time", "each backend once")
        elif always is not None:
            report(at, f"{name} is never reached: {always} before it always answers", "static answers last")
        elif name in models_of(route) and settings.backends[name].model_server:
            others = [other for other in names.every if other not in models_of(route)]
            report(
                at,
                f"{name} is the model of this route"
                if name == route.chain[0]
                else f"{name} is an arm of this route",
                " or ".join(others) or "a backend with answer",
                "a held-out unit must never meet the model: that is what it is compared with",
            )
        if settings.backends[name].static:
            always = name
