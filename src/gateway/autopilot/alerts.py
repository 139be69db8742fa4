"""Brings what was done to whoever wants to know: one signed webhook an act, at least once, in order.

In: entries of `gateway.ledger.acts`. Out: CloudEvents in structured mode, signed as Standard Webhooks asks. How far it
has come is kept in the ledger: what happened while the receiver, or this gateway, was away is told afterwards. Never
without bound: one request at a time, and what waits is rows in the ledger.

Sources: CloudEvents 1.0.2 HTTP binding 3.2; Standard Webhooks 1.0.0 (HMAC-SHA256 of id.timestamp.body).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gateway.config.alerts import Alerts, signing_key
from gateway.ledger import Ledger, acts

if TYPE_CHECKING:
    from gateway.ledger.acts import Act

__all__ = ["Alerter", "event", "headers", "verify"]

log = logging.getLogger(__name__)

KIND: Final = "alert"
AT_ONCE: Final = 100
"""Acts that are told in one cycle; the others wait for the next."""

TELL: Final = ("done", "proposed", "dry_run", "failed", "undone", "refused")
"""`begun` is told when it has ended."""

AGAIN: Final = frozenset((408, 425, 429, 500, 502, 503, 504))


class _TryAgainError(Exception):
    """This try failed, the next may not."""


class Alerter:
    """Args:
    alerts: as the settings have it now; None: nobody is told.
    clock_s: the time, seconds since 1970, that signatures carry.
    """

    def __init__(
        self, ledger: Ledger, alerts: Callable[[], Alerts | None], clock_s: Callable[[], float] = time.time
    ) -> None:
        self._ledger, self._alerts, self._clock_s = ledger, alerts, clock_s
        self._ending = threading.Event()
        self.counts: dict[str, int] = {"sent": 0, "refused": 0, "failed": 0}
        """Since the start: taken by the receiver; refused by it, and not told again; tries in a row that failed."""

    def tell(self) -> int:
        """Bring what has not been brought yet. Returns: how many were. Blocks. Raises: LedgerUnavailable."""
        wanted = self._alerts()
        state = self._ledger.states(KIND).get(("", "acts"))
        if state is None or wanted is None:
            # A receiver that is new, or there again, wants to hear of what comes, not of last year.
            newest = self._ledger.reader.snapshot(partial(acts.history, limit=1))
            reached = newest[-1].id if newest else 0
            if state is None or state["id"] != reached:
                self._reach(reached)
            return 0
        waiting = self._ledger.reader.snapshot(partial(acts.after, entry=int(state["id"]), limit=AT_ONCE))
        sent = 0
        for act in waiting:
            if self._ending.is_set():
                break
            if act.state in TELL:
                if not self._deliver(wanted, act):
                    break
                sent += 1
            self._reach(act.id)
        return sent

    def end(self) -> None:
        """Try no more; what waits is told after the next start."""
        self._ending.set()

    def _reach(self, entry: int) -> None:
        self._ledger.put_states(KIND, {("", "acts"): {"id": entry}})

    def _deliver(self, alerts: Alerts, act: Act) -> bool:
        """Whether the receiver has settled it; False: it must be told again."""
        import httpx
        import tenacity

        body = json.dumps(event(act, alerts.source), sort_keys=True, ensure_ascii=False).encode()
        verify_by = ssl.create_default_context() if alerts.url.startswith("https:") else False
        key = signing_key(alerts.secret.get_secret_value())

        def post() -> int:
            try:
                with httpx.Client(verify=verify_by, trust_env=False, timeout=alerts.timeout_s) as client:
                    answer = client.post(
                        alerts.url, content=body, headers=headers(key, f"act-{act.id}", self._clock_s(), body)
                    )
            except httpx.TransportError as error:
                raise _TryAgainError(f"{type(error).__name__} {error}") from error
            if answer.status_code in AGAIN:
                raise _TryAgainError(f"status {answer.status_code}")
            return answer.status_code

        try:
            status = tenacity.Retrying(
                retry=tenacity.retry_if_exception_type(_TryAgainError),
                stop=tenacity.stop_any(
                    tenacity.stop_before_delay(alerts.retry_s), tenacity.stop_when_event_set(self._ending)
                ),
                sleep=tenacity.sleep_using_event(self._ending),
                wait=tenacity.wait_random_exponential(multiplier=0.25, max=10.0),
                reraise=True,
            )(post)
        except _TryAgainError as error:
            self.counts["failed"] += 1
            log.warning("alerts wait: %s: %s", alerts.url, error)
            return False
        if 200 <= status < 300:
            self.counts["sent"] += 1
        else:
            self.counts["refused"] += 1
            log.error("alert %d was refused: %s: status %d", act.id, alerts.url, status)
        return True


def event(act: Act, source: str) -> dict[str, Any]:
    """The CloudEvent of an act."""
    return {
        "specversion": "1.0",
        "id": f"act-{act.id}",
        "source": source,
        "type": f"io.model-gateway.act.{act.state}",
        "subject": f"routes/{act.route}",
        "time": datetime.fromtimestamp(act.time_us / 1e6, UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": {
            "route": act.route,
            "cause": act.cause,
            "act": act.act,
            "state": act.state,
            "words": act.words,
            "actor": act.actor,
            "policy_before": act.before,
            "policy_after": act.after,
            "entry": act.id,
        },
    }


def headers(key: bytes, message: str, at_s: float, body: bytes) -> dict[str, str]:
    """What a signed webhook carries besides its body."""
    stamp = str(int(at_s))
    return {
        "content-type": "application/cloudevents+json; charset=utf-8",
        "user-agent": "model-gateway",
        "webhook-id": message,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{_signature(key, message, stamp, body)}",
    }


def verify(
    key: bytes, given: Mapping[str, str], body: bytes, now_s: float, tolerance_s: float = 300.0
) -> bool:
    """Whether a webhook was signed with the key, not long ago; for receivers in Python, and for the tests."""
    try:
        message, stamp = given["webhook-id"], given["webhook-timestamp"]
        if abs(now_s - int(stamp)) > tolerance_s:
            return False
    except (KeyError, ValueError):
        return False
    expected = _signature(key, message, stamp, body)
    signatures = (one.partition(",") for one in given.get("webhook-signature", "").split(" "))
    return any(version == "v1" and hmac.compare_digest(made, expected) for version, _, made in signatures)


def _signature(key: bytes, message: str, stamp: str, body: bytes) -> str:
    signed = b".".join((message.encode(), stamp.encode(), body))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
