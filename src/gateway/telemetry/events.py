"""The way out for captured payloads: CloudEvents over HTTP in binary mode, as KServe's logger sends them.

In: captures, which are redacted and are of routes that say `capture`. Out: one POST each for a request and its
response, `ce-type` org.kubeflow.serving.inference.request or .response, the message's protobuf as the body. At least
once: a receiver knows one it has by `ce-source`, `ce-id` and `ce-type`.
Never: makes the thread that drains the data plane wait, or keeps the process from ending. What could not be sent is
counted by reason. Imports httpx and cloudevents, so it is imported only when there is a receiver.

One thread with a loop of its own, as only a loop can bound a try in all: a receiver that sends a byte a second keeps
every timeout of a blocking client from coming.

Attributes: https://github.com/kserve/kserve/blob/master/pkg/logger/worker.go; binding: CloudEvents HTTP 1.0.2, 3.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import logging
import ssl
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import httpx
import tenacity
from cloudevents.core.bindings.http import to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from gateway.runtime.seldom import Seldom

if TYPE_CHECKING:
    from gateway.runtime.batch import Batch
    from gateway.telemetry.telemetry import EventOptions

__all__ = ["CONTENT_TYPE", "TYPES", "EventSink", "message_of"]

logger = logging.getLogger(__name__)

TYPES: Final = {
    "request": "org.kubeflow.serving.inference.request",
    "response": "org.kubeflow.serving.inference.response",
}

CONTENT_TYPE: Final = "application/x-protobuf"

AGAIN: Final = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Statuses that may be others the next time; any other but 2xx is a refusal."""

MOST_WAIT_S: Final = 30.0
"""Between two tries, whatever `Retry-After` says."""

ANSWER_BYTES: Final = 65_536
"""Of an answer that are read so that its connection can be used again; a longer one costs the connection."""

JOIN_S: Final = 1.0
"""After the tries were cut off, the thread has so long to count what it held."""


@dataclass(frozen=True, slots=True)
class Event:
    """One that waits. `payload` is the capture's own bytes."""

    kind: str
    capture: Mapping[str, Any]
    payload: bytes


class _TryAgainError(Exception):
    """This try failed, the next may not. `after_s`: what the receiver asked for."""

    def __init__(self, reason: str, words: str, after_s: float | None = None) -> None:
        super().__init__(words)
        self.reason = reason
        self.after_s = after_s


class _RefusedError(Exception):
    """The receiver does not want it, now or later."""


class EventSink:
    """Takes captures from `start` to `stop`.

    Args:
        options: where to, and every bound.
        dropped: is told the reason and how many. sent: is told the kind of each that a receiver took.
    """

    def __init__(
        self, options: EventOptions, dropped: Callable[[str, int], None], sent: Callable[[str], None]
    ) -> None:
        self._options = options
        self._dropped, self._sent = dropped, sent
        self._lock = threading.Lock()
        self._waiting: deque[Event] = deque()
        self._held = self._held_bytes = 0
        self._closing = False
        self._seldom = Seldom()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def put(self, batch: Batch) -> None:
        """Queue a batch's captures; what finds no room is dropped and counted. Neither waits nor raises."""
        full = closed = 0
        for capture in batch.captures:
            if not capture["request"]:
                continue  # sampled, but its route captures nothing
            for kind in self._options.send:
                payload = capture["request" if kind == "request" else "answer"]
                with self._lock:
                    room = (
                        self._held < self._options.queue_events
                        and self._held_bytes + len(payload) <= self._options.queue_bytes
                    )
                    if room and not self._closing:
                        self._waiting.append(Event(kind, capture, payload))
                        self._held += 1
                        self._held_bytes += len(payload)
                        continue
                    full, closed = full + (not self._closing), closed + self._closing
        self._dropped("queue_full", full)
        self._dropped("shutdown", closed)
        if batch.captures:
            self._signal(self._wake.set)

    def finish(self) -> None:
        """Take no more; what waits is still sent."""
        with self._lock:
            self._closing = True
        self._signal(self._wake.set)

    def stop(self, timeout_s: float) -> None:
        """Send what waits for at most `timeout_s`, then give up; at most `JOIN_S` longer in all."""
        self.finish()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            self._signal(self._cut_off)
            self._thread.join(JOIN_S)
        with self._lock:
            left, self._held = self._held, 0
        self._dropped("shutdown", left)

    def _signal(self, what: Callable[[], object]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(what)

    def _cut_off(self) -> None:
        for worker in self._workers:
            worker.cancel()

    def _run(self) -> None:
        loop = self._loop
        if loop is None:
            return  # `start` has made it
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(self._main())
        except Exception:
            logger.exception("events are no longer sent")

    async def _main(self) -> None:
        options = self._options
        # The machine's certificates, or SSL_CERT_FILE; neither its proxies nor its .netrc: events go to the url.
        verify = ssl.create_default_context() if options.url.startswith("https:") else False
        limits = httpx.Limits(max_connections=options.connections, keepalive_expiry=60.0)
        headers = {"user-agent": "model-gateway"}
        if options.token is not None:
            headers["authorization"] = f"Bearer {options.token}"
        async with httpx.AsyncClient(
            headers=headers, limits=limits, verify=verify, trust_env=False, timeout=options.timeout_s
        ) as client:
            self._workers = [asyncio.create_task(self._work(client)) for _ in range(options.connections)]
            await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self, client: httpx.AsyncClient) -> None:
        while True:
            with self._lock:
                event = self._waiting.popleft() if self._waiting else None
                over = self._closing and event is None
            if over:
                return
            if event is None:
                self._wake.clear()  # whoever brings one sets it in a later step of this loop
                await self._wake.wait()
                continue
            reason: str | None = "failed"
            try:
                reason = await self._deliver(client, event)
            except asyncio.CancelledError:
                reason = "shutdown"
                raise
            except Exception:
                logger.exception("an event could not be made or sent")
            finally:
                self._settle(event, reason)

    def _settle(self, event: Event, reason: str | None) -> None:
        with self._lock:
            if self._held == 0:
                return  # given up and counted by `stop`
            self._held -= 1
            self._held_bytes -= len(event.payload)
        if reason is None:
            self._sent(event.kind)
        else:
            self._dropped(reason, 1)

    async def _deliver(self, client: httpx.AsyncClient, event: Event) -> str | None:
        """None when it was taken, else the reason that it was dropped."""
        headers, body = message_of(event.kind, event.capture, self._options)
        try:
            async for attempt in tenacity.AsyncRetrying(
                retry=tenacity.retry_if_exception_type(_TryAgainError),
                stop=tenacity.stop_before_delay(self._options.retry_s),
                wait=_wait,
                reraise=True,
            ):
                with attempt:
                    await self._send(client, headers, body)
        except _TryAgainError as error:
            self._tell(error.reason, str(error))
            return error.reason
        except _RefusedError as error:
            self._tell("refused", str(error))
            return "refused"
        return None

    async def _send(self, client: httpx.AsyncClient, headers: Mapping[str, str], body: bytes) -> None:
        options = self._options
        try:
            async with (
                asyncio.timeout(options.timeout_s),
                client.stream("POST", options.url, headers=dict(headers), content=body) as answer,
            ):
                read = 0
                async for piece in answer.aiter_raw():
                    read += len(piece)
                    if read > ANSWER_BYTES:
                        break
        except TimeoutError as error:
            raise _TryAgainError("timeout", f"no answer in {options.timeout_s:g} s") from error
        except httpx.TimeoutException as error:
            raise _TryAgainError("timeout", f"no answer in {options.timeout_s:g} s") from error
        except httpx.RemoteProtocolError as error:
            raise _TryAgainError("bad_answer", f"the answer is not HTTP: {error}") from error
        except httpx.TransportError as error:
            raise _TryAgainError("unreachable", f"{type(error).__name__} {error}") from error
        status = answer.status_code
        if status in AGAIN:
            after_s = retry_after_s(answer.headers.get("retry-after"), time.time())
            raise _TryAgainError("busy" if status in (429, 503) else "failed", f"status {status}", after_s)
        if not 200 <= status < 300:
            raise _RefusedError(f"status {status}")

    def _tell(self, reason: str, words: str) -> None:
        times = self._seldom.due("events", reason)
        if times is not None:
            logger.warning("events dropped: %s: %s", self._options.url, words, extra={"times": times})


def message_of(kind: str, capture: Mapping[str, Any], options: EventOptions) -> tuple[dict[str, str], bytes]:
    """Headers and body of one event.

    `ce-id` is the decision's id, of the request and its response alike, as with KServe; `ce-endpoint` is "default", as
    a capture does not say who answered.
    """
    attributes: dict[str, Any] = {
        "id": str(uuid.UUID(bytes=bytes(capture["id"]))),
        "source": options.source,
        "type": TYPES[kind],
        "time": datetime.fromtimestamp(int(capture["time_us"]) / 1e6, UTC),
        "datacontenttype": CONTENT_TYPE,
        "inferenceservicename": capture["route"],
        "component": "predictor",
        "endpoint": "default",
        "gatewaypolicy": str(capture["policy"]),
        "gatewayrows": ",".join(str(row) for row in capture["rows"]),
    }
    if options.namespace is not None:
        attributes["namespace"] = options.namespace
    payload = bytes(capture["request" if kind == "request" else "answer"])
    message = to_binary(CloudEvent(attributes=attributes, data=payload), JSONFormat())
    return dict(message.headers), message.body


def retry_after_s(value: str | None, now_s: float) -> float | None:
    """Seconds or a date (RFC 9110, 10.2.3), 0 to `MOST_WAIT_S`; None for anything else."""
    if not value:
        return None
    if value.strip().isdecimal():
        return min(float(value.strip()[:9]), MOST_WAIT_S)
    try:
        until_s = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
    return min(max(until_s - now_s, 0.0), MOST_WAIT_S)


_jitter = tenacity.wait_random_exponential(multiplier=0.25, max=MOST_WAIT_S / 2)


def _wait(state: tenacity.RetryCallState) -> float:
    """Grows by chance, and never less than the receiver asked for."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked_s = getattr(error, "after_s", None) or 0.0
    return max(asked_s, _jitter(state))
