"""Routes of services beyond the Open Inference Protocol: what a request holds, and whether anything describes it.

Which message has which field is the data plane's compiler to say: it reads the descriptors. Here stands what can be
said without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator, Field

from gateway.config.faults import Path, quoted
from gateway.config.fields import Block, Name, Text, wrong

if TYPE_CHECKING:
    from gateway.config.routes import Route
    from gateway.config.settings import Settings

__all__ = ["OIP", "Request", "check_method", "is_described"]

OIP = "/inference.GRPCInferenceService/"
"""What the Open Inference Protocol's methods begin with."""


def _param(name: str) -> str:
    if not name.isidentifier():
        raise wrong(f"{quoted(name)} cannot be written as request.params.{name}", "letters, digits and _")
    return name


class Request(Block):
    """Where in a request of a described service everything stands: paths such as `items[].id`."""

    usual: ClassVar[str] = "{rows: items, id: request_id, params: {country: customer.country}}"

    rows: Text | None = Field(
        None,
        min_length=1,
        description="what has a row each: a list, a number of rows, or a tensor; else one row",
    )
    id: Text | None = Field(None, min_length=1, description="the request's own id, a string or an integer")
    model: Text | None = Field(
        None, min_length=1, description="the model's name, to match routes by and to address backends"
    )
    params: Mapping[Annotated[Name, AfterValidator(_param)], Text] = Field(
        default_factory=dict,
        max_length=64,
        description="fields that rules see as request.params.<name>, and identity as param:<name>",
    )


def is_described(route: Route) -> bool:
    """Whether the route reads messages by a descriptor."""
    method = route.match.method
    read = route.prediction is not None or route.request is not None
    return read and method is not None and method not in (f"{OIP}ModelInfer", f"{OIP}*")


def check_method(path: Path, route: Route, settings: Settings, report: Callable[..., None]) -> None:
    """Report what contradicts the route's method."""
    method = route.match.method
    if route.hedge is not None and route.on_miss == "rows":
        found = "rows that go different ways follow one answer after the other"
        report((*path, "hedge"), found, "on_miss: call beside it", "take one of them out", key=True)
    if route.on_miss == "rows" and is_described(route):
        found = "rows are put together in answers of the Open Inference Protocol alone"
        report((*path, "on_miss"), found, "call", f"{method} falls back as a whole")
    if is_described(route) and (route.check.outputs or route.check.unknown_outputs == "miss"):
        found = "outputs are what answers of the Open Inference Protocol have"
        report(
            (*path, "check"), found, "range, sum and labels", "take outputs and unknown_outputs out", key=True
        )
    _copies(path, route, report)
    if route.review is not None:
        whole = "request" if is_described(route) else "inputs"
        for index, kept in enumerate(route.review.capture):
            if kept != whole:
                report(
                    (*path, "review", "capture", index),
                    f"{kept} is not what this route could keep",
                    whole,
                    f"capture: [{whole}], and redact: [{whole}.<name>]",
                )
        for index, redacted in enumerate(route.review.redact):
            if not redacted.startswith(f"{whole}."):
                report((*path, "review", "redact", index), quoted(redacted), f"{whole}.<name>")
    if method is None or method in (f"{OIP}ModelInfer", f"{OIP}*"):
        if route.request is not None:
            report(
                (*path, "request"),
                "the Open Inference Protocol says where everything stands",
                "no request, or match.method with a method that descriptors describe",
                key=True,
            )
        return
    if route.match.model is not None and (route.request is None or route.request.model is None):
        report(
            (*path, "match", "model"),
            f"nothing says where a request of {method} names its model",
            f"request: {{model: <path>}} in the route, method: {OIP}ModelInfer, or no model",
        )
    if is_described(route):
        _people(path, route, settings, report)
        _hedge(path, route, settings, report)
        at = (*path, "prediction" if route.prediction is not None else "request")
        if method.endswith("/*"):
            report(
                (*path, "match", "method"),
                "many methods, and each has messages of its own",
                "one method, whose messages the route reads",
            )
        elif not settings.descriptors:
            report(
                at,
                f"messages of {method} are read by a descriptor, and there is none",
                "descriptors: [<file>] at the top of the file",
                "gateway descriptors HOST:PORT -o FILE asks a server for it; protoc --include_imports "
                "--descriptor_set_out=FILE makes it",
                key=True,
            )
    for index, mirror in enumerate(route.mirror):
        if not _lists(mirror.methods, method):
            report(
                (*path, "mirror", index),
                f"{method} is none of the methods that are copied",
                f"methods: [{method}], if it may be done twice",
            )
    if route.hedge is not None and not is_described(route):
        report(
            (*path, "hedge"),
            f"{method} may be a stream, and streams are asked of one backend at a time",
            f"{OIP}ModelInfer",
            "take it out",
            key=True,
        )
    if route.prediction is None:
        for index, name in enumerate(route.chain):
            backend = settings.backends.get(name)
            if backend is not None and not backend.model_server:
                report(
                    (*path, "chain", index),
                    f"{name} cannot answer {method}",
                    "models only: other answers take the form of the route's prediction",
                )


def _lists(methods: tuple[str, ...], method: str) -> bool:
    """Whether a method is among those that are listed, each by its name or as `/package.Service/*`."""
    return any(one == method or (one.endswith("*") and method.startswith(one[:-1])) for one in methods)


def _copies(path: Path, route: Route, report: Callable[..., None]) -> None:
    """What copies go without must be something that the route's requests have."""
    method, described = route.match.method, is_described(route)
    readable = described or method in (None, f"{OIP}ModelInfer", f"{OIP}*")
    for index, mirror in enumerate(route.mirror):
        at = (*path, "mirror", index, "redact")
        if mirror.redact and not readable:
            found = f"nothing can be taken out of calls of {method}, which the route does not read"
            report(at, found, "request: {} in the route, and descriptors", "or take redact out")
            continue
        for number, redacted in enumerate(mirror.redact):
            if redacted.startswith("request.") != described:
                wanted = "request.<path>" if described else "inputs.<name> or params.<name>"
                report(
                    (*at, number), f"{quoted(redacted)} is nothing that requests of this route have", wanted
                )


def _hedge(path: Path, route: Route, settings: Settings, report: Callable[..., None]) -> None:
    """Whether somebody else's method may be asked twice, its operator must have said."""
    method, first = route.match.method or "", settings.backends.get(route.chain[0])
    if route.hedge is None or first is None or first.grpc is None:
        return
    if first.retry is None or not _lists(first.retry.methods, method):
        report(
            (*path, "hedge"),
            f"nothing says that {method} may be asked twice",
            f"retry: {{methods: [{method}]}} at backend {route.chain[0]}",
            "say so there if it may, or take hedge out",
            key=True,
        )


def _people(path: Path, route: Route, settings: Settings, report: Callable[..., None]) -> None:
    """People's own redaction names inputs; here it would take nothing out."""
    for index, name in enumerate(route.chain):
        backend = settings.backends.get(name)
        if backend is not None and backend.people is not None and backend.people.redact:
            report(
                (*path, "chain", index),
                f"{name} redact inputs of the Open Inference Protocol, which {route.match.method} does not have",
                "people without redact",
                "name what they must not see in the route's review: redact: [request.<name>]",
            )
