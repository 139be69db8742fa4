"""`gateway replay ROUTE`: what recorded calls would have come to under another threshold, floor or policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.check import JsonOption, SetOption
from gateway.cli.ledgers import WhereArgument

if TYPE_CHECKING:
    from gateway.autopilot.replay import Decided, Replay
    from gateway.config import Backend, Route, Settings

__all__ = ["replay"]

DAY_H = 24.0


def replay(
    route: Annotated[str, typer.Argument(metavar="ROUTE", help="The route whose calls are decided again.")],
    where: WhereArgument = Path("gateway.yaml"),
    threshold: Annotated[
        float | None, typer.Option("--threshold", metavar="T", help="Flagged from this score on.")
    ] = None,
    floor: Annotated[
        float | None, typer.Option("--floor", metavar="C", help="Sure enough from this confidence on.")
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", metavar="FILE", help="Threshold and floor as this settings file has them."),
    ] = None,
    hours: Annotated[
        float, typer.Option("--hours", metavar="H", help="How far to look back; 0 looks at everything.")
    ] = DAY_H,
    overrides: SetOption = [],  # noqa: B006  typer copies it
    json: JsonOption = False,
) -> None:
    """Decide the calls of the ledger once more, and say which would be flagged, and how right that would be.

    Nothing is sent anywhere. What nobody asked a model is not known: it is counted, and left out of the numbers.
    """
    import time

    from gateway.autopilot.replay import What
    from gateway.autopilot.replay import replay as again
    from gateway.autopilot.thresholds import in_force
    from gateway.cli.ledgers import find_ledger
    from gateway.cli.printing import print_json, wrong_use
    from gateway.ledger import Reader, Window

    for name, value in (("--threshold", threshold), ("--floor", floor)):
        if value is not None and not 0 <= value <= 1:
            raise wrong_use(f"{name}: found {value:g}, wanted a number from 0 to 1")
    if not 0 <= hours < 1e6:
        raise wrong_use(f"--hours: found {hours:g}, wanted a number of hours, such as 24")
    if threshold is None and floor is None and policy is None:
        raise wrong_use("nothing to replay: give --threshold, --floor or --policy")
    url, settings = find_ledger(where, overrides)
    if settings is None:
        raise wrong_use(
            f"{where}: wanted the settings file: it says what is positive, and what stands in the chain"
        )
    of_route = _route(settings, route, str(where))
    wanted = settings if policy is None else _read(policy)
    then = _route(wanted, route, str(policy))
    reader = Reader.open(url)
    try:
        now = in_force(reader, route)
        before = What(_threshold(of_route), _floor(of_route))
        if now is not None:
            before = What(now.threshold, now.floor)
        basis = What(before.threshold) if policy is None else What(_threshold(then), _floor(then) or 0.0)
        what = What(
            basis.threshold if threshold is None else threshold,
            basis.floor if floor is None else floor,
            _instead(wanted, then, basis.threshold if threshold is None else threshold),
        )
        since_us = time.time_ns() // 1000 - round(hours * 3.6e9) if hours else None
        prediction = of_route.prediction
        binary = prediction is not None and len(prediction.classes) == 2 and _by_probability(then)
        found = again(reader, route, Window(since_us, None, route), what, before, binary=binary)
    finally:
        reader.close()
    if json:
        print_json(found.as_dict() | {"not_replayed": _others(of_route, then)})
    else:
        _print(found, _others(of_route, then))


def _read(file: Path) -> Settings:
    from gateway.config import load

    return load(file, [])


def _route(settings: Settings, name: str, where: str) -> Route:
    from gateway.cli.printing import wrong_use

    if name not in settings.routes:
        raise wrong_use(f"ROUTE: {where} has no {name!r}, wanted one of {', '.join(settings.routes)}")
    route = settings.routes[name]
    if route.prediction is None or route.prediction.positive is None:
        raise wrong_use(f"ROUTE: {name} has no prediction.positive, so there is nothing to flag")
    return route


def _threshold(route: Route) -> float:
    return 0.5 if route.prediction is None else route.prediction.threshold


def _floor(route: Route) -> float | None:
    return None if route.confidence is None else route.confidence.floor


def _by_probability(route: Route) -> bool:
    return route.confidence is None or route.confidence.measure == "max_probability"


def _instead(settings: Settings, route: Route, threshold: float) -> bool | None:
    """What the answer behind the first model flags, where it is static."""
    if len(route.chain) < 2 or route.prediction is None:
        return None
    behind: Backend = settings.backends[route.chain[1]]
    if behind.answer is None:
        return None
    if behind.answer.score is not None:
        return bool(behind.answer.score >= threshold)
    return behind.answer.label == route.prediction.positive


def _others(one: Route, other: Route) -> list[str]:
    """Settings that differ and are not replayed."""
    passed = {"prediction", "confidence", "objective", "gates", "costs", "review"}
    names = [name for name in type(one).model_fields if getattr(one, name) != getattr(other, name)]
    found: list[str] = [name for name in names if name not in passed]
    for name, replayed in (("prediction", {"threshold"}), ("confidence", {"floor"})):
        parts: list[Any] = [getattr(route, name) for route in (one, other)]
        rest = [None if part is None else part.model_dump(exclude=replayed) for part in parts]
        if None not in rest and rest[0] != rest[1]:
            found.append(name)
    return found


def _print(found: Replay, others: list[str]) -> None:
    from gateway.cli.printing import console

    out = console()
    out.print(f"route {found.route}: {found.predictions:,} predictions decided once more")
    out.print(f"  as decided  {_words(found.before)}")
    out.print(f"  then        {_words(found.after)}")
    out.print(
        f"  {found.newly_flagged:,} would be flagged that were not, {found.no_longer_flagged:,} the other way"
    )
    if found.would_miss:
        out.print(f"  {found.would_miss:,} would not be sure enough, and go on along the chain")
    for name, one in found.arms.items():
        out.print(f"  arm {name}, had it had all the explored traffic: precision {_number(one)}")
    for note in found.notes:
        out.print(f"  note: {note}")
    if others:
        out.print(f"  not replayed, though it differs: {', '.join(others)}")


def _words(one: Decided) -> str:
    floor = "no floor" if one.floor is None else f"floor {one.floor:g}"
    flagged = "" if one.flagged is None else f": {100 * one.flagged:.3g} % flagged"
    return (
        f"threshold {one.threshold:g}, {floor}{flagged}; precision {_number(one.precision)}; "
        f"recall {_number(one.recall)}"
    )


def _number(estimate: Any) -> str:
    if estimate.value is None:
        return f"unknown: {estimate.reason}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
