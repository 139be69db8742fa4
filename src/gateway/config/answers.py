"""Static answers, and people, against the predictions of the routes that use them: whether the one can take the
other's form."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gateway.config.backends import Answer
from gateway.config.faults import Path, did_you_mean, listed, quoted
from gateway.config.predictions import Prediction
from gateway.config.routes import Route, Then
from gateway.config.sampling_checks import answer_path
from gateway.config.settings import Settings

__all__ = ["check_answers", "check_outputs"]


def check_answers(path: Path, route: Route, settings: Settings, report: Callable[..., None]) -> None:
    """Report each static answer of the route, and people, whose answer the prediction's outputs cannot hold."""
    told: set[str] = set()
    for at, name in _uses(path, route):
        backend = settings.backends.get(name)
        if backend is None or backend.model_server or name in told:
            continue
        told.add(name)
        if route.prediction is None:
            report(
                at,
                f"{name} has no form to take: the route reads no prediction",
                "prediction: in the route",
                "for example prediction: {scores: probabilities, classes: [ham, spam], positive: spam}",
            )
            continue
        if backend.answer is None:
            if route.prediction.value is not None:
                report(
                    at,
                    f"{name} are people, who answer with a label, and the route reads a value",
                    "prediction.scores or prediction.label",
                )
            continue
        fault = _misfit(backend.answer, route.prediction)
        if fault is not None:
            report(at, f"{name} does not fit this route: {fault[0]}", *fault[1:])


def _uses(path: Path, route: Route) -> Iterator[tuple[Path, str]]:
    for index, name in enumerate(route.chain):
        yield (*path, "chain", index), name
    for index, rule in enumerate(route.rules):
        for what, then in (("then", rule.then), ("otherwise", rule.otherwise)):
            for key in ("answer", "to") if isinstance(then, Then) else ():
                if getattr(then, key) is not None:
                    yield (*path, "rules", index, what, key), getattr(then, key)
    if route.loop_guard is not None:
        yield (*path, "loop_guard", "then"), route.loop_guard.then
    if route.holdout is not None:
        for index, name in enumerate(route.holdout.answer):
            yield answer_path(path, route.holdout, index), name


def _misfit(answer: Answer, prediction: Prediction) -> tuple[str, str, str] | None:
    classes = prediction.classes
    if answer.label is not None and classes and answer.label not in classes:
        return (
            f"it has the label {quoted(answer.label)}",
            listed(classes),
            did_you_mean(answer.label, classes),
        )
    if prediction.value is not None and answer.value is None:
        return "the route reads a value, the answer has none", "answer: {value: ..}", ""
    if prediction.label is not None and answer.label is None and not classes:
        return "the route reads a label, the answer has none", "answer: {label: ..}", ""
    if prediction.scores is None:
        return None
    if answer.scores is not None and len(answer.scores) != len(classes):
        return f"it has {len(answer.scores)} scores", f"{len(classes)}, one per class", ""
    if answer.scores is None and answer.score is None and answer.label is None:
        return (
            "the route reads scores, the answer has none",
            "answer: {label: ..}, {score: ..} or {scores: [..]}",
            "",
        )
    if answer.scores is None and answer.label is None and answer.score is not None:
        if prediction.positive is None:
            return (
                "its score is that of `positive`, and the route has none",
                "prediction.positive, or a label or scores",
                "",
            )
        if len(classes) > 2:
            return (
                f"one score says nothing about {len(classes)} classes",
                "a label, or scores of all classes",
                "",
            )
    return None


def check_outputs(path: Path, route: Route, report: Callable[..., None]) -> None:
    """Report demands on outputs that the prediction contradicts."""
    prediction = route.prediction
    if prediction is None:
        return
    classes = len(prediction.classes)
    for name, wanted in route.check.outputs.items():
        at = (*path, "check", "outputs", name)
        numbers = name in (prediction.scores, prediction.confidence, prediction.value)
        if wanted.optional and (numbers or name == prediction.label):
            report((*at, "optional"), f"{name} is read, and may be missing", "optional: false", "take it out")
        if numbers and (wanted.datatype == "BYTES" or wanted.labels is not None):
            key = "datatype" if wanted.datatype == "BYTES" else "labels"
            report((*at, key), f"{name} is read as numbers, and wanted as texts", "a datatype of numbers")
        if name == prediction.scores and wanted.shape is not None:
            columns = wanted.shape[1] if len(wanted.shape) == 2 else None
            fits = columns in (-1, classes) or (classes == 2 and (len(wanted.shape) == 1 or columns == 1))
            if not fits:
                report(
                    (*at, "shape"),
                    f"{name} holds the scores of {classes} classes, and is wanted as {list(wanted.shape)}",
                    f"[-1, {classes}]",
                )
