"""The label tool of a fleet: at work at the control that leads, and at no other.

Two that look at one project do no harm (a task is leased before it is sent, an answer counts once), but ask for
everything twice; so it stops when the lead is lost, and begins anew at the next leader, who goes on by the ledger. A
webhook reaches any control: where it is not the leader, it changes nothing, as the leader looks by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from gateway.telemetry import Point

if TYPE_CHECKING:
    from gateway.config.label_studio import LabelStudio
    from gateway.connectors.label_studio import Runner

__all__ = ["LedLabelTool"]

STOP_S: Final = 2.0
"""How long a request under way may take when the lead is lost."""


class LedLabelTool:
    """Thread-safe.

    Args: make: a runner by the settings in force, not started; None where they name no tool.
    """

    def __init__(self, make: Callable[[], Runner | None]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._runner: Runner | None = None
        self._made_by: LabelStudio | None = None

    def follow(self, block: LabelStudio | None) -> None:
        """Be at work by this block of settings; None: where this control does not lead, or they name no tool.

        May wait for a request under way; not for the thread of an event loop.
        """
        with self._lock:
            if block == self._made_by:
                return
            if self._runner is not None:
                self._runner.stop(STOP_S)
            self._runner, self._made_by = (
                None,
                block,
            )  # what cannot be made is tried again with other settings
            self._runner = None if block is None else self._make()
            if self._runner is not None:
                self._runner.start()

    @property
    def works(self) -> bool:
        """Whether it is at work here."""
        return self._runner is not None

    def refusal(self, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """HTTP status and a word for whoever does not send the secret of webhooks."""
        runner = self._runner
        return None if runner is None else runner.refusal(headers)

    def webhook(self, body: bytes) -> tuple[int, str]:
        """Take a hint of one who has the secret. Returns: HTTP status and a word."""
        runner = self._runner
        if runner is None:
            return 202, "left to the control that leads, which looks by itself"
        return runner.webhook(body)

    def points(self) -> Iterable[Point]:
        """Tasks that lie in the tool, and what became of its answers; nothing where it is not at work."""
        runner = self._runner
        for name, value, at in () if runner is None else runner.points():
            yield Point(name, value, at)
