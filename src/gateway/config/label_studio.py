"""Label Studio as a place where review tasks are answered: the block, and what cannot be checked in it alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from gateway.config.faults import Path, did_you_mean, listed, quoted
from gateway.config.fields import Block, Count, Name, Number, Text, wrong

if TYPE_CHECKING:
    from gateway.config.names import Report
    from gateway.config.settings import Settings

__all__ = ["LabelStudio", "LabelStudioQueue", "check_label_studio", "queue_classes"]

_URL = re.compile(r"https?://[^/\s?#@]+(/[^\s?#]*)?\Z")


def _url(value: str) -> str:
    if not _URL.match(value):
        mend = f"write https://{value}" if "://" not in value and value else ""
        raise wrong(
            f"{quoted(value)} is no address of a Label Studio", '"https://HOST" or "http://HOST:PORT"', mend
        )
    return value.rstrip("/")


def _secret(value: Any) -> Any:
    value = getattr(value, "text", value)
    if isinstance(value, str) and 0 < len(value) < 16:
        raise wrong(f"a secret of {len(value)} characters", "at least 16 characters, or file:<path>")
    return value or None


def _token(value: Any) -> Any:
    value = _secret(value)
    if isinstance(value, str) and value.count(".") != 2:
        raise wrong(
            "this is no personal access token of Label Studio",
            "three parts joined by points",
            "Account & Settings > Personal Access Token makes one; legacy tokens do not do",
        )
    return value


class LabelStudioQueue(Block):
    """Where the tasks of a queue go."""

    usual: ClassVar[str] = "{project: 3}"

    project: Count = Field(description="number of the project, as in the address of its page")
    at_most: Annotated[Count, Field(le=10_000)] = Field(
        200, description="tasks that lie there unanswered; the rest of the queue stays here for others"
    )


class LabelStudio(Block):
    """A Label Studio that answers review tasks; docs/label-studio.md tells how it is set up."""

    usual: ClassVar[str] = (
        '{url: "https://label-studio.example.org", token: "file:token", queues: {default: {project: 3}}}'
    )

    url: Annotated[Text, AfterValidator(_url)] = Field(
        description="https://HOST, with its path if it has one"
    )
    token: Annotated[SecretStr | None, BeforeValidator(_token)] = Field(
        None, description="personal access token, or file:<path>; that user must see the projects"
    )
    queues: Mapping[Name, LabelStudioQueue] = Field(
        min_length=1, max_length=64, description="queue: {project: number}; other queues stay here"
    )
    every_s: Annotated[Number, Field(ge=1, le=86_400)] = Field(
        30.0, description="how often tasks go out and answers are looked for"
    )
    hold_h: Annotated[Number, Field(gt=0, le=720)] = Field(
        24.0, description="how long tasks stay there while it cannot be reached; then others may answer them"
    )
    corrections_h: Annotated[Number, Field(ge=0, le=8760)] = Field(
        168.0, description="how long an answer is looked at again, for what is changed or deleted there"
    )
    timeout_s: Annotated[Number, Field(gt=0, le=60)] = Field(
        20.0, description="how long one request to it may take"
    )
    show_prediction: bool = Field(
        False, description="send the model's label too; people then tend to agree with it"
    )
    webhook_secret: Annotated[SecretStr | None, BeforeValidator(_secret)] = Field(
        None, description="16 characters or more, or file:<path>; without it the admin port takes no webhooks"
    )


def check_label_studio(settings: Settings, report: Report) -> None:
    """Report queues that nothing goes into, that cannot wait, or whose routes have no labels to choose from."""
    block = settings.label_studio
    if block is None:
        return
    if block.token is None:
        report(
            ("label_studio", "token"),
            "token is missing",
            "a personal access token",
            'write token: "file:<path>"',
        )
    reviews = {name: route.review for name, route in settings.routes.items() if route.review is not None}
    known = sorted({review.queue for review in reviews.values()})
    people = {
        backend.people.queue: name
        for name, backend in settings.backends.items()
        if backend.people is not None
    }
    projects: dict[int, str] = {}
    for queue, told in block.queues.items():
        path: Path = ("label_studio", "queues", queue)
        if told.project in projects:
            report(
                (*path, "project"),
                f"project {told.project} is that of the queue {projects[told.project]} too",
                "a project of its own, as its labels are those of its queue",
            )
        projects.setdefault(told.project, queue)
        if queue in people:
            report(
                path,
                f"calls of {people[queue]} wait for this queue",
                "a queue whose tasks can wait",
                "Label Studio is looked at every few seconds at best; give people a queue of their own",
                key=True,
            )
        elif queue not in known:
            report(
                path,
                f"no route's review goes into the queue {quoted(queue)}",
                listed(known) or "a queue that stands under a route's review",
                did_you_mean(queue, known),
                key=True,
            )
        for name, review in reviews.items():
            if review.queue != queue:
                continue
            prediction = settings.routes[name].prediction
            if prediction is None or not prediction.classes:
                report(
                    path,
                    f"the route {name} names no classes, so there is nothing to choose from",
                    f"classes under routes.{name}.prediction",
                    key=True,
                )
            if not review.capture:
                report(
                    path,
                    f"the route {name} captures nothing, so nobody there would see what to judge",
                    f"capture: [inputs] under routes.{name}.review",
                    key=True,
                )


def queue_classes(settings: Settings, queue: str) -> tuple[str, ...]:
    """All classes of the routes whose review goes into a queue, in the order of the file."""
    return tuple(
        dict.fromkeys(
            name
            for route in settings.routes.values()
            if route.review is not None and route.review.queue == queue and route.prediction is not None
            for name in route.prediction.classes
        )
    )
