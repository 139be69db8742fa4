"""Rounds with Label Studio in a thread of their own, beside a gateway that serves; webhooks make them come sooner.

A webhook is a hint: what it says is read again by the API, so a forged or repeated one costs a request and changes
nothing. Polling finds whatever no webhook told of.
"""

from __future__ import annotations

import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from gateway.config.label_studio import LabelStudio
from gateway.connectors.label_studio.api import PAGE, Api
from gateway.connectors.label_studio.sync import Sync
from gateway.errors import LabelToolError, LedgerError
from gateway.ledger import Ledger, RouteClasses
from gateway.services.readable import Messages

__all__ = ["WEBHOOK_HEADER", "Runner"]

log = logging.getLogger(__name__)

WEBHOOK_HEADER: Final = "gateway-webhook-secret"
"""The header that a webhook carries its secret in."""

MOST_HINTS: Final = 2 * PAGE
"""Tasks and annotations that webhooks told of and nobody has looked at; beyond, all are looked at."""

GATHER_S: Final = 0.2
"""How long a hint waits for others that come with it."""


class Runner:
    """Starts, runs and stops the rounds.

    Args:
        make: a sync that uses the API it is given.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        settings: LabelStudio,
        make: Callable[[Api], Sync],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert settings.token is not None, "checked with the settings"
        self._settings, self._clock = settings, clock
        self._stop, self._wake = threading.Event(), threading.Event()
        self._api = Api(
            settings.url, settings.token.get_secret_value(), timeout_s=settings.timeout_s, stop=self._stop
        )
        self._sync = make(self._api)
        self._thread = threading.Thread(target=self._run, name="label-studio", daemon=True)
        self._lock = threading.Lock()
        self._hints: tuple[set[int], set[int]] = (set(), set())
        self._too_many = False
        self._open = dict.fromkeys(settings.queues, 0)
        self._good = dict.fromkeys(settings.queues, clock())
        self._said: dict[str, str] = {}
        self._refused = 0

    @classmethod
    def of(
        cls,
        settings: LabelStudio,
        ledger: Ledger,
        *,
        classes: Callable[[str], RouteClasses | None],
        queue_classes: Callable[[str], Sequence[str]],
        messages: Callable[[], Messages | None],
    ) -> Runner:
        """A runner of a gateway that serves."""

        def make(api: Api) -> Sync:
            return Sync(
                settings,
                ledger,
                api,
                classes=classes,
                queue_classes=queue_classes,
                messages=messages,
                clock_us=lambda: time.time_ns() // 1000,
            )

        return cls(settings, make)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End after the request under way; whatever it was is settled by the next process."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def refusal(self, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """HTTP status and a word for whoever does not send the secret of webhooks."""
        secret = self._settings.webhook_secret
        given = headers.get(WEBHOOK_HEADER, "").encode()
        if secret is None or not hmac.compare_digest(given, secret.get_secret_value().encode()):
            self._refused += 1
            return 403, f"wanted the secret in {WEBHOOK_HEADER}"
        return None

    def webhook(self, body: bytes) -> tuple[int, str]:
        """Take a hint of one who has the secret. Returns: HTTP status and a word."""
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            return 400, "this is no JSON"
        if not isinstance(told, dict):
            return 400, "this is no webhook of Label Studio"
        annotations = [told.get("annotation"), *_listed(told.get("annotations"))]
        tasks = [told.get("task"), *_listed(told.get("tasks"))]
        with self._lock:
            self._hints[0].update(_ids(tasks))
            self._hints[1].update(_ids(annotations))
            self._too_many |= max(map(len, self._hints)) > MOST_HINTS or not any(self._hints)
            if self._too_many:
                for held in self._hints:
                    held.clear()
        self._wake.set()
        return 202, "taken"

    def points(self) -> Iterable[tuple[str, float, dict[str, str]]]:
        """Metrics: name, value, attributes."""
        for queue, count in self._open.items():
            yield "gateway.label_tool.open", count, {"tool": "label-studio", "queue": queue}
            age_s = self._clock() - self._good[queue]
            yield "gateway.label_tool.age", age_s, {"tool": "label-studio", "queue": queue}
        for result, count in dict(self._api.requests).items():
            yield "gateway.label_tool.requests", count, {"tool": "label-studio", "result": result}
        for (queue, kind, what), count in dict(self._sync.counts).items():
            if kind == "dropped":
                yield "gateway.dropped", count, {"what": "label_studio_answer", "reason": what}
            else:
                at = {"tool": "label-studio", "queue": queue, "result": what}
                yield "gateway.label_tool.answers", count, at
        yield "gateway.dropped", self._refused, {"what": "label_studio_webhook", "reason": "secret"}

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                for queue in self._settings.queues:
                    self._whole(queue)
                self._wait()
        finally:
            self._api.close()

    def _wait(self) -> None:
        """Until the next round is due, looking at what webhooks tell of meanwhile."""
        due = self._clock() + self._settings.every_s
        while not self._stop.is_set() and (left := due - self._clock()) > 0:
            if not self._wake.wait(left) or self._stop.wait(GATHER_S):
                return
            self._wake.clear()
            with self._lock:
                tasks, answers = (sorted(held) for held in self._hints)
                everything, self._too_many = self._too_many, False
                for held in self._hints:
                    held.clear()
            if everything:
                return
            for queue in self._settings.queues:
                self._told(queue, partial(self._sync.look_at, queue, tasks, answers))

    def _whole(self, queue: str) -> None:
        done = self._told(queue, partial(self._sync.round, queue))
        if done is None:
            return
        self._open[queue] = done.open
        self._good[queue] = self._clock()
        if done.sent or done.answers or done.given_back or done.withdrawn:
            log.info(
                "label studio",
                extra={
                    "queue": queue,
                    "sent": done.sent,
                    "answers": done.answers,
                    "given_back": done.given_back,
                    "withdrawn": done.withdrawn,
                },
            )

    def _told(self, queue: str, work: Callable[[], Any]) -> Any:
        """Do it; a fault is logged when it is a new one, so that an outage is one line and not one a round."""
        try:
            done = work()
        except (LabelToolError, LedgerError) as error:
            words = str(error)
            if self._stop.is_set() or self._said.get(queue) == words:
                return None
            log.error(
                "label studio: %s; tried again in %g s", words, self._settings.every_s, extra={"queue": queue}
            )
            self._said[queue] = words
        except Exception:
            # One queue's surprise must not end the others' rounds.
            log.exception("label studio: a fault of the gateway's own", extra={"queue": queue})
        else:
            if self._said.pop(queue, None) is not None:
                log.info("label studio is back", extra={"queue": queue})
            return done
        return None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _ids(found: Iterable[Any]) -> Iterable[int]:
    for one in found:
        number = one.get("id") if isinstance(one, dict) else one
        if type(number) is int and 0 < number < 2**63:
            yield number
