"""Review queues against the routes, people and other queues that there are."""

from __future__ import annotations

from gateway.config.faults import Fault, Path, did_you_mean
from gateway.config.names import Report
from gateway.config.settings import Settings
from gateway.config.source import Source

__all__ = ["check_queues", "queue_warnings"]


def check_queues(settings: Settings, report: Report) -> None:
    """Report what queues refer to wrongly."""
    for name, queue in settings.queues.items():
        if queue.adjudicate_in == name:
            report(
                ("queues", name, "adjudicate_in"),
                f"{name} itself",
                "another queue",
                "leave it out, and one more reviewer of this queue settles it",
            )


def queue_warnings(settings: Settings, source: Source) -> list[Fault]:
    """What is probably not meant."""
    made: list[Fault] = []
    fed = {route.review.queue for route in settings.routes.values() if route.review is not None}
    fed |= {backend.people.queue for backend in settings.backends.values() if backend.people is not None}
    settling = {queue.adjudicate_in for queue in settings.queues.values() if queue.adjudicate_in is not None}
    for name, queue in settings.queues.items():
        path: Path = ("queues", name)
        if name not in fed | settling:
            made.append(
                source.fault(
                    path,
                    f"no task ever comes to {name}",
                    mend=did_you_mean(name, sorted(fed)) or f"write review: {{queue: {name}}} in a route",
                    key=True,
                )
            )
        to = queue.adjudicate_in
        if to is not None and not (to in settings.queues and settings.queues[to].reviewers):
            made.append(
                source.fault(
                    (*path, "adjudicate_in"),
                    f"anybody may settle what comes to {to}",
                    mend=f"name them: queues: {{{to}: {{reviewers: [..]}}}}",
                )
            )
        if to is None and 1 < queue.reviews_required == len(queue.reviewers):
            made.append(
                source.fault(
                    (*path, "reviewers"),
                    "where they disagree, nobody is left who could settle it",
                    mend="name one more, or adjudicate_in",
                )
            )
    return made
