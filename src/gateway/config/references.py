"""What no block can check alone: names that refer to others, and settings that contradict each other.

Works on settings that may lack their faulty parts, so every look-up allows for what is not there; the names of backends
are those of the file, faulty ones included, so that one fault is not reported as two.
"""

from __future__ import annotations

from gateway.config.answers import check_answers, check_outputs
from gateway.config.autonomy_checks import check_autonomy
from gateway.config.circles import check_circles, check_loop_guard
from gateway.config.described import check_method
from gateway.config.faults import Fault, Path, did_you_mean, listed, quoted
from gateway.config.gate_checks import check_gates
from gateway.config.label_studio import check_label_studio
from gateway.config.names import Names, Report, check_segments
from gateway.config.queue_checks import check_queues
from gateway.config.routes import Route, Rule, Then
from gateway.config.sampling_checks import check_sampling
from gateway.config.settings import FORM, Settings
from gateway.config.source import Source
from gateway.config.tls import check_tls
from gateway.config.validate import Checked

__all__ = ["check_references"]


def check_references(source: Source, checked: Checked[Settings]) -> list[Fault]:
    """Every fault between settings."""
    settings = checked.settings
    if settings is None:
        return []
    faults: list[Fault] = []

    def report(path: Path, found: str, wanted: str = "", mend: str = "", *, key: bool = False) -> None:
        path = checked.original(path)
        at = source.existing(path)
        faults.append(source.fault(at if key else path, found, wanted, mend, key=key))

    names = Names(settings, source)
    _form(settings, report)
    _listening(settings, report)
    check_tls(settings, source, report)
    _retention(settings, report)
    check_label_studio(settings, report)
    if not settings.routes and settings.default_backend is None and "routes" not in (source.tree or {}):
        report(
            (),
            "there is neither a route nor a default_backend",
            "something that calls can go to",
            "for example routes: {spam: {chain: [spam-v3]}}",
        )
    names.check(("default_backend",), settings.default_backend, report, "model")
    check_queues(settings, report)
    _same_matches(source, settings, checked, report)
    for name, route in settings.routes.items():
        _route(("routes", name), route, settings, names, report)
        if route.prediction is not None or not names.written(("routes", name, "prediction")):
            check_answers(("routes", name), route, settings, report)
            check_outputs(("routes", name), route, report)
            _needs_prediction(("routes", name), route, report)
        check_autonomy(("routes", name), route, settings, report)
    return faults


def _retention(settings: Settings, report: Report) -> None:
    keep, oldest = settings.retention, settings.receipts.max_age_h
    if keep.labels_h is not None and keep.labels_h < oldest:
        report(
            ("retention", "labels_h"),
            f"{keep.labels_h:g}, but labels come by receipts of up to {oldest:g} h (receipts.max_age_h)",
            "what is taken to be kept",
            f"write labels_h: {oldest:g}, or let receipts expire sooner",
        )
    if keep.tallies_h is not None and (keep.labels_h is None or keep.tallies_h < keep.labels_h):
        longest = "null" if keep.labels_h is None else f"{keep.labels_h:g}"
        report(
            ("retention", "tallies_h"),
            f"{keep.tallies_h:g}, but labels are kept longer (labels_h: {longest})",
            "the tallies that labels are weighed by",
            f"write tallies_h: {longest}",
        )


def _form(settings: Settings, report: Report) -> None:
    if settings.settings > FORM:
        report(
            ("settings",),
            f"this file has form {settings.settings}",
            f"form {FORM} at most",
            "it was written for a newer version of the gateway",
        )
    elif settings.settings < 1:
        report(("settings",), f"found {settings.settings}", f"the form of the file: {FORM}")


def _listening(settings: Settings, report: Report) -> None:
    listen = settings.listen
    free = listen.inference.endswith(":0")
    if listen.admin is not None and listen.admin == listen.inference and not free:
        report(("listen", "admin"), f"inference listens on {listen.admin} too", "an address of its own")


def _same_matches(source: Source, settings: Settings, checked: Checked[Settings], report: Report) -> None:
    seen: dict[object, str] = {}
    for name, route in settings.routes.items():
        match = route.match
        model = match.model if match.model or match.method else name
        key = (model, match.method, frozenset(match.metadata.items()))
        if key in seen:
            first = source.place(("routes", seen[key]))
            line = first.key_line or first.line
            here = f"in line {line}" if line else first.place
            report(
                ("routes", name),
                f"this matches the same calls as the route {seen[key]} {here}",
                "a match of its own",
                "set match: {model: ..} or metadata that tells them apart",
                key=True,
            )
        else:
            seen[key] = name


def _route(path: Path, route: Route, settings: Settings, names: Names, report: Report) -> None:
    first_static: str | None = None
    for index, name in enumerate(route.chain):
        at = (*path, "chain", index)
        if name in route.chain[:index]:
            report(
                at,
                f"{name} stands in the chain a second time",
                "each backend once",
                "a chain that leads back never ends",
            )
            continue
        if not names.check(at, name, report):
            continue
        if first_static is not None:
            report(
                at, f"{name} is never reached: {first_static} before it always answers", "static answers last"
            )
        elif settings.backends[name].static:
            first_static = name
    check_method(path, route, settings, report)
    _rules(path, route, settings, names, report)
    check_circles(path, route, report)
    check_loop_guard(path, route, names, report)
    check_sampling(path, route, settings, names, report)
    check_gates(path, route, names, report)
    if route.confidence is not None:
        _confidence(path, route, names, report)


def _rules(path: Path, route: Route, settings: Settings, names: Names, report: Report) -> None:
    seen: dict[str, int] = {}
    for index, rule in enumerate(route.rules):
        at = (*path, "rules", index)
        name = route.rule_name(index)
        if name in seen:
            report((*at, "name"), f"a rule {name} stands here already", "a name of its own")
        seen[name] = index
        for key, then in (("then", rule.then), ("otherwise", rule.otherwise)):
            if isinstance(then, Then):
                _then((*at, key), rule, then, route, settings, names, report)


def _then(
    at: Path, rule: Rule, then: Then, route: Route, settings: Settings, names: Names, report: Report
) -> None:
    known = names.check((*at, "to"), then.to, report)
    if known and rule.on == "prediction" and then.to == route.chain[0]:
        report(
            (*at, "to"),
            f"{then.to} has just made the prediction: this leads back to it",
            "another backend than the first of the chain",
            "write then: next to go on along the chain",
        )
    if (
        names.check((*at, "answer"), then.answer, report)
        and then.answer is not None
        and settings.backends[then.answer].model_server
    ):
        report(
            (*at, "answer"),
            f"{then.answer} is a model",
            "a backend with answer",
            f"write {{to: {then.answer}}}",
        )
    if then.review and route.review is None:
        report(
            at,
            "review without a review block in the route",
            "review: beside rules:",
            "for example review: {per_hour: 60}",
        )


def _confidence(path: Path, route: Route, names: Names, report: Report) -> None:
    confidence, prediction = route.confidence, route.prediction
    if confidence is None or prediction is None:
        return
    measure = confidence.measure
    if measure.startswith("output:"):
        if prediction.confidence is not None and measure != f"output:{prediction.confidence}":
            report(
                (*path, "confidence", "measure"),
                f"{measure} is not what prediction.confidence reads",
                f"output:{prediction.confidence}",
            )
    elif prediction.scores is None and prediction.confidence is None:
        report(
            (*path, "confidence", "measure"),
            f"{measure} is worked out from scores, and the prediction reads none",
            "prediction.scores or prediction.confidence, or measure: output:<name>",
        )
    for label in confidence.per_label:
        if prediction.classes and label not in prediction.classes:
            report(
                (*path, "confidence", "per_label", label),
                f"there is no class {quoted(label)}",
                listed(prediction.classes),
                did_you_mean(label, prediction.classes),
                key=True,
            )
    check_segments((*path, "confidence", "per_segment"), confidence.per_segment, names, report)


def _needs_prediction(path: Path, route: Route, report: Report) -> None:
    if route.prediction is None:
        mend = "for example prediction: {scores: probabilities, classes: [ham, spam], positive: spam}"
        for name in ("confidence", "review", "check", "objective", "costs", "gates"):
            if name in route.model_fields_set and getattr(route, name) not in (None, ()):
                report(
                    (*path, name), f"{name} without prediction", "prediction: in the route", mend, key=True
                )
        if route.on_miss == "rows":
            report((*path, "on_miss"), "rows, and nothing is read by row", "prediction: in the route", mend)
        for index, rule in enumerate(route.rules):
            if rule.on == "prediction":
                report(
                    (*path, "rules", index, "on"),
                    "a rule on the prediction, and nothing is read",
                    "prediction: in the route",
                    mend,
                )
        return
    labels = route.check.labels or ()
    for index, label in enumerate(labels):
        if route.prediction.classes and label not in route.prediction.classes:
            report(
                (*path, "check", "labels", index),
                f"there is no class {quoted(label)}",
                listed(route.prediction.classes),
                did_you_mean(label, route.prediction.classes),
            )
