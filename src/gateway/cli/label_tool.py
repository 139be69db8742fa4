"""The label tool of a gateway that serves; nothing of it is loaded where the settings name none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from gateway.telemetry import Point

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.connectors.label_studio import Runner
    from gateway.ledger import Ledger, RouteClasses
    from gateway.services import Messages
    from gateway.telemetry.registry import Source

__all__ = ["label_tool_of", "label_tool_source"]


def label_tool_of(
    settings: Callable[[], Settings],
    ledger: Ledger,
    classes: Callable[[str], RouteClasses | None],
    messages: Callable[[], Messages | None],
) -> Runner | None:
    """What goes back and forth between the ledger and the tool that the settings name now."""
    block = settings().label_studio
    if block is None:
        return None
    from gateway.config.label_studio import queue_classes
    from gateway.connectors.label_studio import Runner

    return Runner.of(
        block,
        ledger,
        classes=classes,
        queue_classes=lambda queue: queue_classes(settings(), queue),
        messages=messages,
    )


def label_tool_source(tool: Runner) -> Source:
    """Tasks that lie in the tool, and what became of its answers."""

    def points() -> Iterable[Point]:
        for name, value, at in tool.points():
            yield Point(name, value, at)

    return points
