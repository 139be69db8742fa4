"""Who wants to know is told of every act: signed, in order, at least once, and after whatever was away."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gateway.autopilot.alerts import Alerter, verify
from gateway.config.alerts import Alerts, signing_key
from gateway.ledger import Ledger, acts
from gateway.ledger.acts import Act

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
NOW_S = 1_700_000_000.0


class Receiver(ThreadingHTTPServer):
    """Takes webhooks, and answers with the statuses it was given, the last for ever."""

    def __init__(self) -> None:
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.statuses = [204]
        super().__init__(("127.0.0.1", 0), Taking)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/alerts"


class Taking(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        status = self.server.statuses.pop(0) if len(self.server.statuses) > 1 else self.server.statuses[0]
        self.server.taken.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(status)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    opened.open()
    yield opened
    opened.close()


def happen(ledger: Ledger, state: str, words: str = "precision fell") -> int:
    act = Act(1_700_000_000_000_000, "spam", "holds", "roll_back", state, words, "autopilot", 1, 2)
    return ledger.transact(partial(acts.note, act=act)).result()


def alerter(ledger: Ledger, receiver: Receiver, retry_s: float = 5.0) -> Alerter:
    alerts = Alerts.model_validate({"url": receiver.url, "secret": SECRET, "retry_s": retry_s})
    return Alerter(ledger, lambda: alerts, lambda: NOW_S)


def test_an_act_is_told_once_and_signed(ledger: Ledger, receiver: Receiver) -> None:
    """What happened before anybody wanted to know is not told; what was only begun is told when it has ended."""
    happen(ledger, "done", "last year")
    one = alerter(ledger, receiver)
    assert one.tell() == 0
    happen(ledger, "begun")
    entry = happen(ledger, "done")
    assert (one.tell(), one.tell(), len(receiver.taken)) == (1, 0, 1)
    [(headers, body)] = receiver.taken
    said = json.loads(body)
    assert headers["content-type"].startswith("application/cloudevents+json")
    assert (said["specversion"], said["id"], headers["webhook-id"]) == ("1.0", f"act-{entry}", f"act-{entry}")
    assert said["type"] == "io.model-gateway.act.done"
    assert said["data"]["words"] == "precision fell"
    key = signing_key(SECRET)
    assert verify(key, headers, body, NOW_S)
    assert not verify(key, headers, body + b" ", NOW_S)
    assert not verify(b"another key" * 3, headers, body, NOW_S)
    assert not verify(key, headers, body, NOW_S + 600)
    assert not verify(key, headers | {"webhook-id": "act-0"}, body, NOW_S)


def test_the_signature_is_that_of_the_standard() -> None:
    """The example of the specification's own libraries."""
    from gateway.autopilot.alerts import headers

    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = headers(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_that_is_away_is_told_when_it_is_back_in_order(ledger: Ledger, receiver: Receiver) -> None:
    """Over a restart too: how far it has come is in the ledger."""
    assert alerter(ledger, receiver).tell() == 0
    first, second = happen(ledger, "proposed"), happen(ledger, "done")
    receiver.statuses = [503]
    one = alerter(ledger, receiver, retry_s=0.0)
    assert (one.tell(), one.counts["failed"]) == (0, 1)
    receiver.statuses = [500, 204]
    assert alerter(ledger, receiver).tell() == 2
    ids = [headers["webhook-id"] for headers, _ in receiver.taken]
    assert ids == [f"act-{first}", f"act-{first}", f"act-{first}", f"act-{second}"]


def test_what_the_receiver_refuses_keeps_nothing_back(ledger: Ledger, receiver: Receiver) -> None:
    assert alerter(ledger, receiver).tell() == 0
    happen(ledger, "done"), happen(ledger, "undone")
    receiver.statuses = [400, 204]
    one = alerter(ledger, receiver)
    assert one.tell() == 2
    assert one.counts == {"sent": 1, "refused": 1, "failed": 0}


def test_what_happened_while_nobody_wanted_to_know_is_not_told_later(
    ledger: Ledger, receiver: Receiver
) -> None:
    """Who adds a receiver after a year does not get the year."""
    nobody = Alerter(ledger, lambda: None)
    nobody.tell()
    happen(ledger, "done")
    nobody.tell()
    assert alerter(ledger, receiver).tell() == 0
    happen(ledger, "done")
    assert alerter(ledger, receiver).tell() == 1
