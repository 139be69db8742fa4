"""Tasks on a way to a real Label Studio on which answers get lost, and with two who sync at once: none goes twice."""

from __future__ import annotations

import threading
from collections.abc import Callable

import httpx
import pytest

from gateway.errors import LabelToolError
from gateway.ledger import Ledger
from tests.connectors.label_studio_server import LabelStudioProcess
from tests.connectors.syncing import QUEUE, fill, ids, labels, new_project, syncing, texts
from tests.ledger.making import Clock

pytestmark = pytest.mark.timeout(600)


class Losing(httpx.HTTPTransport):
    """The way to Label Studio and back, on which answers to imports get lost."""

    def __init__(self, lose: Callable[[httpx.Request], bool]) -> None:
        super().__init__()
        self._lose = lose
        self.lost = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        if self._lose(request):
            answer.read()
            self.lost += 1
            raise httpx.ReadTimeout("the answer is lost")
        return answer


def test_a_lost_answer_to_an_import_sends_nothing_twice(
    studio: LabelStudioProcess, ledger: Ledger, clock: Clock
) -> None:
    """Tasks that may have arrived are looked for before they are sent again."""
    project = new_project(studio)
    fill(ledger, 60)
    losing = Losing(lambda request: request.url.path.endswith("/import"))
    with (
        syncing(studio, ledger, clock, project, transport=losing) as sync,
        pytest.raises(LabelToolError, match="the answer is lost"),
    ):
        sync.round(QUEUE)
    assert (losing.lost, len(ids(studio, project))) == (1, 50)
    with syncing(studio, ledger, clock, project) as sync:  # as after a restart
        assert sync.round(QUEUE).sent == 10
        assert sync.round(QUEUE).sent == 0
    assert len(set(texts(studio, project))) == len(ids(studio, project)) == 60


def test_tasks_that_never_arrived_are_sent_when_they_can_no_longer_turn_up(
    studio: LabelStudioProcess, ledger: Ledger, clock: Clock
) -> None:
    """As when the gateway is killed between its own disk and the request."""
    project = new_project(studio)
    fill(ledger, 2)

    class Dead(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("/import"):
                raise httpx.ConnectError("nobody there")
            return super().handle_request(request)

    with syncing(studio, ledger, clock, project, transport=Dead()) as sync, pytest.raises(LabelToolError):
        sync.round(QUEUE)
    with syncing(studio, ledger, clock, project) as sync:
        assert sync.round(QUEUE).sent == 0, "they may be on their way"
        clock.pass_s(121)
        assert sync.round(QUEUE).sent == 2
    assert len(ids(studio, project)) == 2


def test_two_that_sync_at_once_do_nothing_twice(
    studio: LabelStudioProcess, ledger: Ledger, clock: Clock
) -> None:
    """A gateway that serves, and somebody who syncs by hand."""
    project = new_project(studio)
    fill(ledger, 30)
    faults: list[BaseException] = []

    def rounds() -> None:
        try:
            with syncing(studio, ledger, clock, project) as sync:
                for _ in range(3):
                    sync.round(QUEUE)
        except BaseException as error:
            faults.append(error)

    def both() -> None:
        threads = [threading.Thread(target=rounds) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    both()
    assert len(set(texts(studio, project))) == len(ids(studio, project)) == 30
    for task in ids(studio, project)[:10]:
        studio.annotate(task, "spam")
    both()
    assert faults == []
    assert len(labels(ledger)) == 10
