"""`gateway label-studio`: review tasks to Label Studio and its answers back, by hand."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.check import FileArgument, JsonOption, SetOption

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.ledger import Ledger, RouteClasses
    from gateway.services import Messages

__all__ = ["Action", "label_studio"]


class Action(StrEnum):
    """What to do."""

    CONFIG = "config"
    SYNC = "sync"
    EXPORT = "export"
    IMPORT = "import"


def label_studio(
    action: Annotated[
        Action,
        typer.Argument(
            help="config: print the labelling interface of a queue. sync: one round by the API. export: print tasks as "
            "JSON. import: take the answers of an export file."
        ),
    ],
    file: FileArgument = Path("gateway.yaml"),
    overrides: SetOption = [],  # noqa: B006  typer copies it
    queue: Annotated[
        str | None,
        typer.Option("--queue", metavar="NAME", help="The review queue; may be left out where there is one."),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option("--answers", metavar="FILE", help="Label Studio's export of type JSON; for import."),
    ] = None,
    at_most: Annotated[
        int,
        typer.Option(
            "--at-most", min=1, max=10_000, help="Tasks that lie there without an answer; for export."
        ),
    ] = 200,
    json: JsonOption = False,
) -> None:
    """Send review tasks to Label Studio and take its answers; `gateway serve` does it by itself.

    Ends with 1 where Label Studio cannot be reached, or an answer was refused.
    """
    from gateway.cli.printing import wrong_use
    from gateway.config import load

    settings = load(file, overrides)
    if action is Action.SYNC:
        _sync(settings, queue, json)
        return
    if action is Action.IMPORT:
        if answers is None:
            raise wrong_use("import: --answers is missing, wanted the file that Label Studio exported")
        _import(settings, answers, json)
        return
    name = _queue(settings, queue)
    if action is Action.CONFIG:
        _config(settings, name)
    else:
        _export(settings, name, at_most)


def _queue(settings: Settings, queue: str | None) -> str:
    from gateway.cli.printing import wrong_use

    known = sorted({route.review.queue for route in settings.routes.values() if route.review is not None})
    if queue is None and len(known) == 1:
        return known[0]
    if queue not in known:
        found = "is missing" if queue is None else f"found {queue!r}"
        raise wrong_use(
            f"--queue: {found}, wanted one of the queues that a route's review names ({', '.join(known) or 'none'})"
        )
    return queue


def _config(settings: Settings, queue: str) -> None:
    from gateway.cli.printing import wrong_use
    from gateway.config.label_studio import queue_classes
    from gateway.connectors.label_studio.payload import config_xml

    classes = queue_classes(settings, queue)
    if not classes:
        raise wrong_use(
            f"--queue: the routes of {queue!r} name no classes, so there is nothing to choose from"
        )
    print(config_xml(classes), end="")


def _sync(settings: Settings, queue: str | None, json: bool) -> None:
    import dataclasses
    import time

    from gateway.cli.printing import print_json, wrong_use
    from gateway.config.label_studio import queue_classes
    from gateway.connectors.label_studio import Api, Sync

    block = settings.label_studio
    if block is None or block.token is None:
        raise wrong_use(
            "sync: the settings have no label_studio block, wanted one with url, token and queues"
        )
    if queue is not None and queue not in block.queues:
        raise wrong_use(
            f"--queue: found {queue!r}, wanted one of label_studio.queues ({', '.join(block.queues)})"
        )
    ledger, classes, messages = _open(settings)
    api = Api(block.url, block.token.get_secret_value(), timeout_s=block.timeout_s)
    try:
        sync = Sync(
            block,
            ledger,
            api,
            classes=classes,
            queue_classes=lambda name: queue_classes(settings, name),
            messages=lambda: messages,
            clock_us=lambda: time.time_ns() // 1000,
        )
        done = {name: sync.round(name) for name in ([queue] if queue is not None else block.queues)}
    finally:
        api.close()
        ledger.close()
    refused = dict.fromkeys(done, 0)
    for (name, kind, _), count in sync.counts.items():
        refused[name] += count if kind == "dropped" else 0
    if json:
        print_json(
            {name: {**dataclasses.asdict(one), "refused": refused[name]} for name, one in done.items()}
        )
    else:
        for name, one in done.items():
            print(
                f"{name}: {one.sent} sent, {one.open} lie there unanswered, {one.answers} answers taken, "
                f"{one.given_back} given back, {one.withdrawn} withdrawn, {refused[name]} refused"
            )
    if any(refused.values()):
        raise typer.Exit(1)


def _export(settings: Settings, queue: str, at_most: int) -> None:
    import time

    from gateway.cli.ledgers import logged_in
    from gateway.cli.printing import print_json
    from gateway.connectors.label_studio import export_tasks

    block = settings.label_studio
    ledger, classes, messages = _open(settings)
    hold_h, show = (24.0, False) if block is None else (block.hold_h, block.show_prediction)
    try:
        made = export_tasks(
            ledger,
            queue,
            at_most=at_most,
            hold_us=int(hold_h * 3_600e6),
            now_us=time.time_ns() // 1000,
            classes=classes,
            messages=messages,
            show=show,
        )
        ledger.audit(logged_in(), "tool.export", f"queue {queue}", tasks=len(made)).result()
    finally:
        ledger.close()
    print_json(made)


def _import(settings: Settings, answers: Path, json: bool) -> None:
    import json as codec
    import time

    from gateway.cli.ledgers import logged_in
    from gateway.cli.printing import print_json, wrong_use
    from gateway.connectors.label_studio import import_answers

    try:
        tasks = codec.loads(answers.read_bytes())
    except OSError as error:
        raise wrong_use(f"--answers: cannot read {answers}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise wrong_use(f"--answers: {answers} is no JSON ({error}), wanted an export of type JSON") from None
    ledger, classes, _ = _open(settings)
    try:
        counts = import_answers(ledger, tasks, classes=classes, clock_us=lambda: time.time_ns() // 1000)
        ledger.audit(logged_in(), "tool.import", str(answers), **dict(counts)).result()
    finally:
        ledger.close()
    good = ("accepted", "corrected", "duplicate", "skipped")
    refused = {reason: count for reason, count in counts.items() if reason not in good}
    if json:
        print_json({**{name: counts[name] for name in good}, "refused": refused})
    else:
        print(", ".join(f"{counts[name]} {name}" for name in good))
        for reason, count in sorted(refused.items()):
            print(f"refused: {count} {reason}")
    if refused:
        raise typer.Exit(1)


def _open(settings: Settings) -> tuple[Ledger, _Classes, Messages]:
    """The ledger, and what its routes are read by."""
    from gateway.ledger import Ledger
    from gateway.runtime.document import document
    from gateway.services import Messages

    policy = document(settings, version=1, salt_hex="00" * 32, receipt_keys=[bytes(32)])
    ledger = Ledger(settings.ledger_url)
    ledger.open()
    return ledger, _Classes(settings), Messages(policy)


class _Classes:
    """A route -> its classes, None where the settings have no such route."""

    def __init__(self, settings: Settings) -> None:
        self._routes = settings.routes

    def __call__(self, route: str) -> RouteClasses | None:
        from gateway.ledger import RouteClasses

        prediction = self._routes[route].prediction if route in self._routes else None
        return None if prediction is None else RouteClasses(prediction.classes, prediction.positive)
