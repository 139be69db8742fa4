"""`gateway explain`: what would happen to a call, step by step, by the very code that decides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.check import FileArgument, JsonOption, SetOption

__all__ = ["explain"]

KeyValue = typer.Option(metavar="KEY=VALUE")


def explain(
    file: FileArgument = Path("gateway.yaml"),
    model: Annotated[str | None, typer.Option(help="Model name of the call.")] = None,
    method: Annotated[str | None, typer.Option(help="/package.Service/Method; ModelInfer if absent.")] = None,
    metadata: Annotated[
        list[str], typer.Option(metavar="K=V", help="Metadata of the call; may be repeated.")
    ] = [],  # noqa: B006
    param: Annotated[list[str], typer.Option(metavar="K=V", help="Request parameter; may be repeated.")] = [],  # noqa: B006
    caller: Annotated[
        list[str],
        typer.Option(
            help="Name of the caller's certificate, its id first; may be repeated. Plain text if absent."
        ),
    ] = [],  # noqa: B006
    rows: Annotated[int, typer.Option(min=1, help="Rows of the batch.")] = 1,
    request_id: Annotated[str, typer.Option("--id", help="Request id.")] = "",
    score: Annotated[float | None, typer.Option(help="The models answer this score of `positive`.")] = None,
    scores: Annotated[
        str | None, typer.Option(metavar="S,S,..", help="... or these scores of all classes.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="... or this label.")] = None,
    confidence: Annotated[float | None, typer.Option(help="... with this confidence.")] = None,
    value: Annotated[float | None, typer.Option(help="... or this value.")] = None,
    error: Annotated[
        str | None, typer.Option(metavar="STATUS", help="... or fail with this gRPC status.")
    ] = None,
    timeout: Annotated[bool, typer.Option("--timeout", help="... or do not answer in time.")] = False,
    answer: Annotated[
        list[str],
        typer.Option(
            metavar="BACKEND=ANSWER",
            help="What one backend answers: 0.9, 0.1,0.9, label:spam, value:3, error:UNAVAILABLE or timeout.",
        ),
    ] = [],  # noqa: B006
    session: Annotated[
        str | None, typer.Option(metavar="JSON", help='What is remembered of the unit: {"calls": 3}.')
    ] = None,
    stats: Annotated[
        str | None, typer.Option(metavar="JSON", help='... of the route: {"flagged_share": 0.6}.')
    ] = None,
    loop_guard: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help='What the loop guard has counted: {"fallbacks": 3, "negatives": 0}.'
        ),
    ] = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Walk through the steps of a call and say what would happen and why. Nothing is sent anywhere."""
    from gateway.cli.printing import FAULTY, print_faults, print_json, wrong_use
    from gateway.runtime.check import check as check_file
    from gateway.runtime.explain import explain_call

    every = _general(score, scores, label, confidence, value, error, timeout)
    single = dict(_one_backend(text) for text in answer)
    call: dict[str, Any] = {
        "model": model,
        "method": method,
        "metadata": dict(_pair(text, "--metadata") for text in metadata),
        "params": {key: _value(text) for key, text in (_pair(text, "--param") for text in param)},
        "rows": rows,
        "id": request_id,
        "answers": single,
        "past": _past(session=session, stats=stats, loop_guard=loop_guard),
    }
    if caller:
        call["caller"] = caller
    if every is not None:
        call["answer"] = every
    loaded = check_file(file, overrides, machine=False)
    settings = loaded.settings
    if settings is None:
        print_faults(loaded.faults, to_stderr=True)
        raise typer.Exit(FAULTY)
    _known_backends(single, list(settings.backends))
    try:
        explained = explain_call(settings, call, file.absolute().parent)
    except ValueError as error:
        raise wrong_use(str(error)) from None
    if json:
        print_json(explained)
    else:
        _print(explained, list(settings.routes))


def _general(
    score: float | None,
    scores: str | None,
    label: str | None,
    confidence: float | None,
    value: float | None,
    error: str | None,
    timeout: bool,
) -> dict[str, Any] | None:
    from gateway.cli.printing import wrong_use

    given: dict[str, Any] = {}
    if score is not None:
        given["score"] = score
    if scores is not None:
        given["scores"] = _numbers(scores)
    if label is not None:
        given["label"] = label
    if value is not None:
        given["value"] = value
    if error is not None:
        given["error"] = _status(error)
    if timeout:
        given["timeout"] = True
    answers = [key for key in given if key != "label"] or list(given)
    if len(answers) > 1 or ("label" in given and {"error", "timeout", "value"} & set(given)):
        raise wrong_use("choose one of --score, --scores, --label, --value, --error and --timeout")
    if confidence is not None:
        if not given or {"error", "timeout"} & set(given):
            raise wrong_use("--confidence goes with --label, --score, --scores or --value")
        given["confidence"] = confidence
    return given or None


def _past(**given: str | None) -> dict[str, Any]:
    from json import JSONDecodeError, loads

    from gateway.cli.printing import wrong_use

    past: dict[str, Any] = {}
    for name, text in given.items():
        if text is None:
            continue
        try:
            past[name] = loads(text)
        except JSONDecodeError as error:
            raise wrong_use(f"--{name.replace('_', '-')} {text}: this is not JSON: {error}") from None
        if not isinstance(past[name], dict):
            raise wrong_use(f'--{name.replace("_", "-")} {text}: wanted an object such as {{"calls": 3}}')
    return past


def _one_backend(text: str) -> tuple[str, dict[str, Any]]:
    from gateway.cli.printing import wrong_use

    name, equals, said = text.partition("=")
    kind, colon, rest = said.partition(":")
    if not equals or not name or not said:
        raise wrong_use(
            f"--answer {text}: wanted BACKEND=ANSWER, such as spam-v3=0.9 or spam-v3=error:UNAVAILABLE"
        )
    if said == "timeout":
        return name, {"timeout": True}
    if colon and kind == "error":
        return name, {"error": _status(rest)}
    if colon and kind == "label":
        return name, {"label": rest}
    if colon and kind == "value":
        return name, {"value": _numbers(rest)[0]}
    numbers = _numbers(said)
    return name, {"score": numbers[0]} if len(numbers) == 1 else {"scores": numbers}


def _status(text: str) -> str:
    from gateway.cli.printing import wrong_use
    from gateway.config.faults import did_you_mean
    from gateway.config.routes import STATUSES

    if text.upper() not in STATUSES:
        guess = did_you_mean(text, STATUSES)
        raise wrong_use(f"{text} is no gRPC status" + (f"; {guess}" if guess else " such as UNAVAILABLE"))
    return text.upper()


def _numbers(text: str) -> list[float]:
    from gateway.cli.printing import wrong_use

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise wrong_use(f"{text} is no number, nor numbers such as 0.1,0.9") from None


def _pair(text: str, option: str) -> tuple[str, str]:
    from gateway.cli.printing import wrong_use

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise wrong_use(f"{option} {text}: wanted KEY=VALUE")
    return key, value


def _value(text: str) -> bool | int | float | str:
    from gateway.config.source import typed

    value = typed(text)
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) else text


def _known_backends(answers: dict[str, Any], backends: list[str]) -> None:
    from gateway.cli.printing import wrong_use
    from gateway.config.faults import did_you_mean, listed

    for name in answers:
        if name not in backends:
            guess = did_you_mean(name, backends)
            raise wrong_use(f"there is no backend {name}; {guess or 'there are ' + listed(backends)}")


def _print(explained: dict[str, Any], routes: list[str]) -> None:
    from rich.text import Text

    from gateway.cli.printing import console
    from gateway.config.faults import listed

    out = console()
    for number, step in enumerate(explained["steps"], 1):
        line = Text(f"{number:>2}. ")
        line.append(f"{step['step'].replace('_', ' ')}: ", "bold")
        line.append(str(step["text"]))
        out.print(line)
    decision = explained["decision"]
    colours = {"model": "green", "fallback": "yellow", "static": "yellow", "holdout": "cyan", "human": "cyan"}
    line = Text("=> ", "bold")
    line.append(str(decision["outcome"]), f"bold {colours.get(decision['outcome'], 'red')}")
    line.append(f" ({decision['reason']})")
    if decision.get("backend"):
        line.append(f", answered by {decision['backend']}")
    if decision.get("prediction"):
        line.append(f": {_prediction(decision['prediction'])}")
    if decision.get("status") not in (None, 0, "OK"):
        line.append(f", status {decision['status']}")
        line.append(f": {decision['message']}" if decision.get("message") else "")
    out.print(line)
    attempts = decision.get("attempts") or []
    if len(attempts) > 1:
        out.print("   attempts: " + ", ".join(f"{backend}:{reason}" for backend, reason in attempts))
    if decision.get("review_probability"):
        out.print(f"   put before a person with probability {decision['review_probability']:g}")
    if decision.get("route") is None and routes:
        out.print(f"   no route matches; there are {listed(routes)}")


def _prediction(prediction: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in prediction.items()
        if value is not None and not isinstance(value, (list, dict))
    )
