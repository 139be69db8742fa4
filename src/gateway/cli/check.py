"""`gateway check`: every fault of a settings file at once, or in a few lines what it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gateway.config import Loaded, Route, Settings
    from gateway.config.sampling import Shares

__all__ = ["FileArgument", "JsonOption", "SetOption", "check"]

FileArgument = Annotated[Path, typer.Argument(help="The settings file.", show_default=True)]
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="PATH=VALUE", help="A setting that goes before the file's; may be repeated."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def check(
    file: FileArgument = Path("gateway.yaml"),
    overrides: SetOption = [],  # noqa: B006  typer copies it
    json: JsonOption = False,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline", help="Look at the file alone: not whether ports are free and folders can be written."
        ),
    ] = False,
) -> None:
    """Check a settings file: every fault at once, with line and mend; else say what the file does.

    Ends with 0 if a gateway could start with it here and now, with 78 if not.
    """
    from gateway.cli.printing import FAULTY, console, count, print_faults, print_json
    from gateway.runtime.check import check as check_file

    loaded = check_file(file, overrides, machine=not offline, code=not offline)
    if loaded.settings is not None and not offline:
        _try_ledger(loaded)
    settings = loaded.settings
    if json:
        print_json(
            {
                "file": str(file),
                "good": settings is not None,
                "faults": [fault.as_dict() for fault in loaded.faults],
                "warnings": [warning.as_dict() for warning in loaded.warnings],
            }
        )
    elif settings is None:
        print_faults(loaded.faults)
        console(to_stderr=True).print(f"{count(len(loaded.faults), 'fault')} in {file}")
    else:
        out = console()
        out.print(
            f"{file} is good: {count(len(settings.routes), 'route')}, {count(len(settings.backends), 'backend')}"
        )
        for line in describe(settings):
            out.print(line)
        print_faults(loaded.warnings, word="warning: ")
    if settings is None:
        raise typer.Exit(FAULTY)


def _try_ledger(loaded: Loaded) -> None:
    """A database that cannot be used is a fault of the setting that names it."""
    assert loaded.settings is not None
    if loaded.settings.ledger_url.startswith("sqlite:"):
        return
    from gateway.ledger.reach import unusable

    if why := unusable(loaded.settings.ledger_url):
        loaded.faults.append(loaded.fault(("ledger",), why[0], mend=why[1]))
        loaded.settings = None


def describe(settings: Settings) -> Iterator[str]:
    """What the settings do, in lines."""
    from gateway.config.ledger_url import without_password

    for name, route in settings.routes.items():
        yield from (f"  {line}" for line in _route(name, route, settings))
    rest = f"goes to {settings.default_backend}, untouched" if settings.default_backend else "is refused"
    yield f"  What matches no route {rest}."
    admin = f", admin on {settings.listen.admin}" if settings.listen.admin else ""
    ledger = "" if settings.ledger == "sqlite" else f", its ledger in {without_password(settings.ledger)}"
    yield f"  Listens on {settings.listen.inference}{admin}; keeps its state in {settings.state_dir}{ledger}"


def _route(name: str, route: Route, settings: Settings) -> Iterator[str]:
    from gateway.cli.printing import percent

    match = route.match
    what = [f"model {match.model or name}"] if match.model or not match.method else []
    what += [match.method] if match.method else []
    what += [f"{key}: {value}" for key, value in match.metadata.items()]
    deadline = f" within {route.deadline_ms} ms" if route.deadline_ms else ""
    yield f"{name}: {', '.join(what)} -> {' -> '.join(_backend(one, settings) for one in route.chain)}{deadline}"
    if route.kill_switch:
        yield "  KILL SWITCH ON: no model is asked"
    prediction, confidence = route.prediction, route.confidence
    if prediction is not None:
        read = " and ".join(filter(None, [prediction.scores, prediction.label, prediction.value]))
        flagged = (
            f", flagged when score({prediction.positive}) >= {prediction.threshold:g}"
            if prediction.positive
            else ""
        )
        yield f"  reads {read}{flagged}"
    if confidence is not None:
        floors = [] if confidence.floor is None else [f"{confidence.floor:g}"]
        floors += [
            f"{floor:g} for {key}"
            for key, floor in (*confidence.per_label.items(), *confidence.per_segment.items())
        ]
        yield f"  goes on along the chain where {confidence.measure} is below {', '.join(floors) or 'nothing'}"
    if route.rules:
        words = [f"{route.rule_name(index)} (on the {rule.on})" for index, rule in enumerate(route.rules)]
        yield f"  rules: {', '.join(words)}"
    shares = []
    if route.holdout is not None:
        answer = ", then ".join(route.holdout.answer)
        shares.append(f"{percent(route.holdout.share)} of units are held out and get {answer}")
    if route.explore is not None:
        arms = ", ".join(
            f"{name} {percent(share)}" for name, share in route.explore.start(route.chain[0]).items()
        )
        shares.append(f"each {route.explore.sticky} draws who is asked first ({arms})")
    for mirror in route.mirror:
        copies = f"{percent(mirror.share)} are copied to {mirror.to}"
        noise = mirror.noise
        shares.append(
            copies if noise is None else f"{copies}, {percent(noise.share)} of these to {noise.to} too"
        )
    if route.review is not None:
        share = route.review.share
        amount = _amount(share) if share else f"about {route.review.wanted_per_hour:g} an hour"
        shares.append(f"{amount} go to review ({route.review.queue})")
    if shares:
        yield f"  {'; '.join(shares)}"


def _amount(share: Shares) -> str:
    """`30% of flagged, 20% of near and 1% of other predictions`."""
    from gateway.cli.printing import percent

    parts = [(share.flagged, "flagged"), (share.near, "near"), (share.fallback, "fallback")]
    parts += [(share.disagreement, "contradicted"), (share.rest, "other")]
    given = [(part, name) for part, name in parts if part is not None]
    if len({part for part, _ in given}) == 1:
        return percent(share.flagged)
    words = [f"{percent(part)} of {name}" for part, name in given]
    return f"{', '.join(words[:-1])} and {words[-1]} predictions"


def _backend(name: str, settings: Settings) -> str:
    backend = settings.backends[name]
    if backend.people is not None:
        return f"{name} (people, {backend.people.timeout_s:g} s)"
    return f"{name} (static)" if backend.static else name
