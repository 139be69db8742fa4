"""A PostgreSQL that is frozen keeps its connections and says nothing: every wait for it ends, and nothing is lost.

The kernel answers for a frozen process, so TCP's keepalives and time-outs notice nothing: all bounds are the gateway's
own. They are made short here; one test of the long run keeps them as they are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from gateway.errors import LedgerUnavailable
from gateway.ledger import Kept, Ledger, Limits, database, leadership, patience
from gateway.ledger.leadership import Leadership
from gateway.v1 import feedback_pb2 as pb
from gateway.v1.feedback_pb2_grpc import FeedbackServiceStub
from tests.faults.load import LONG
from tests.ledger.making import batch, label
from tests.postgres import Postgres, wanted
from tests.wire.clients import infer_by_grpcio
from tests.wire.gateway_process import GatewayProcess, until
from tests.wire.servers import ScriptedServer, scores

ANSWER_S = 0.6
GRACE_S = 0.4
BOUND_S = 8.0  # a statement's wait, or a connection's attempt, on a busy machine


@pytest.fixture(scope="module")
def mortal() -> Iterator[Postgres]:
    """A server of this file's own, which each test leaves running."""
    wanted()
    with Postgres.start() as server:
        yield server


@pytest.fixture
def url(mortal: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database of the test's own, for a gateway that is less patient."""
    monkeypatch.setattr(database, "_WRITER_S", ANSWER_S)
    monkeypatch.setattr(database, "_READER_S", ANSWER_S)
    monkeypatch.setattr(patience, "_GRACE_S", GRACE_S)
    monkeypatch.setitem(database._PATIENCE, "connect_timeout", 2)  # the shortest there is
    with mortal.database() as found:
        yield found


def opened(url: str) -> Ledger:
    ledger = Ledger(url, Limits(linger_s=0.01))
    ledger.open()
    return ledger


def refused_in_time(ledger: Ledger, number: int) -> None:
    begun = time.monotonic()
    with pytest.raises(LedgerUnavailable, match="could not commit"):
        ledger.submit_labels([label(number)]).result(60)
    assert time.monotonic() - begun < BOUND_S


def test_what_waits_for_a_frozen_server_is_refused_in_time_and_it_goes_on_by_itself(
    mortal: Postgres, url: str
) -> None:
    """Callers have a deadline, and whoever waits for ever holds a place that others need."""
    with closing(opened(url)) as ledger:  # type: ignore[type-var]
        told = list(range(1, 31))
        for number in told:
            ledger.submit_labels([label(number)]).result(60)
        assert len(ledger.reader.labelled().positive) == len(told)
        mortal.pause()
        try:
            refused_in_time(ledger, 31)
            refused_in_time(ledger, 32)  # its connection cannot even be made
            begun = time.monotonic()
            with pytest.raises(LedgerUnavailable, match="cannot be read now"):
                ledger.reader.labelled()
            assert time.monotonic() - begun < BOUND_S
            ledger.write_batch(batch([{}] * 3))
        finally:
            mortal.unpause()
        assert ledger.submit_labels([label(32)]).result(60)[0] in (Kept.ACCEPTED, Kept.DUPLICATE)
        assert ledger.submit_labels([label(number) for number in told]).result(60) == [Kept.DUPLICATE] * 30
        assert ledger.flush(60)
        assert ledger.reader.calls().calls.sum() == 3
        assert ledger.counters()["jobs_failed.no_answer"] == 1


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_commit_that_a_server_froze_in_is_promised_to_nobody_and_there_once_when_it_comes_again(
    mortal: Postgres, url: str, goes_on: bool
) -> None:
    """The server may do it when it goes on, or never if it is killed: said again, it is there once either way."""
    with closing(opened(url)) as ledger:  # type: ignore[type-var]
        ledger.submit_labels([label(1)]).result(60)
        dialect = ledger._engine.dialect
        commit = dialect.do_commit

        def frozen(connection: Any) -> None:
            dialect.do_commit = commit  # type: ignore[method-assign]
            mortal.pause()
            commit(connection)

        dialect.do_commit = frozen  # type: ignore[method-assign]
        try:
            refused_in_time(ledger, 2)
        finally:
            if goes_on:
                mortal.unpause()
            else:
                mortal.kill()
                mortal.resume()
        again = ledger.submit_labels([label(1), label(2)]).result(60)
        assert again[0] is Kept.DUPLICATE
        assert again[1] in ((Kept.ACCEPTED, Kept.DUPLICATE) if goes_on else (Kept.ACCEPTED,))
        assert len(ledger.reader.labelled().positive) == 2


def test_a_statement_that_takes_too_long_is_ended_by_the_server(url: str) -> None:
    """A server that is well but slow is heard, and does not work on for nobody."""
    with closing(opened(url)) as ledger:  # type: ignore[type-var]
        begun = time.monotonic()
        with pytest.raises(LedgerUnavailable, match="no_answer"):
            ledger.submit(lambda connection: connection.execute(sa.text("SELECT pg_sleep(60)"))).result(60)
        assert time.monotonic() - begun < BOUND_S
        assert ledger.submit_labels([label(1)]).result(60) == [Kept.ACCEPTED]


def test_a_step_of_the_schema_may_take_its_time(url: str) -> None:
    """An index over a year of labels is made in minutes, and a start that gives up would never get there."""
    engine = database.writer_engine(url)
    try:
        with engine.begin() as connection, database.unhurried(connection):
            connection.execute(sa.text(f"SELECT pg_sleep({ANSWER_S + GRACE_S + 0.5})"))
        with engine.begin() as connection, pytest.raises(sa.exc.OperationalError, match="timeout"):
            connection.execute(sa.text("SELECT pg_sleep(60)"))
    finally:
        engine.dispose()


def test_a_frozen_gateway_does_not_hold_up_the_others(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its transaction stands half done, with locks that all others need."""
    monkeypatch.setattr(patience, "_HALF_DONE_S", 1)
    go_on = threading.Event()
    begun = threading.Event()
    with closing(opened(url)) as frozen, closing(opened(url)) as other:  # type: ignore[type-var]

        def half_done(connection: sa.Connection) -> None:
            connection.execute(sa.text("LOCK TABLE labels IN EXCLUSIVE MODE"))
            begun.set()
            go_on.wait(60)

        job = frozen.submit(half_done)
        assert begun.wait(60)

        def kept() -> bool:
            try:
                return other.submit_labels([label(1)]).result(60) == [Kept.ACCEPTED]
            except LedgerUnavailable:
                return False

        until(kept, "the other's label is kept", 30)
        go_on.set()
        with pytest.raises(LedgerUnavailable):
            job.result(60)
        assert frozen.submit_labels([label(2)]).result(60) == [Kept.ACCEPTED]


def test_a_leader_that_is_silent_leads_no_more(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen, or its machine gone without a word: its connection would hold the lock for hours."""
    monkeypatch.setattr(leadership, "SILENT_S", 1.0)
    silent, other = Leadership(url), Leadership(url)
    try:
        assert silent.leads()
        assert not other.leads()
        until(other.leads, "the other leads", 20)
        assert not silent.leads()
    finally:
        silent.close()
        other.close()


def test_a_leader_does_not_wait_for_a_frozen_server(
    mortal: Postgres, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must know soon that it may lead no more: another server may have taken over."""
    monkeypatch.setattr(patience, "LEADER_S", ANSWER_S)
    leader = Leadership(url)
    try:
        assert leader.leads()
        mortal.pause()
        try:
            begun = time.monotonic()
            assert not leader.leads()
            assert time.monotonic() - begun < BOUND_S
        finally:
            mortal.unpause()
        until(leader.leads, "it leads again", 20)
    finally:
        leader.close()


@pytest.mark.skipif(not LONG, reason="it waits as long as a gateway does: `make faults`")
def test_calls_are_served_while_the_ledger_is_frozen_and_feedback_is_refused_in_time(
    mortal: Postgres, tmp_path: Path
) -> None:
    """A whole gateway, as patient as it is: what it forwards never waits for the database."""
    prediction = {"scores": "probabilities", "classes": ["ham", "spam"], "positive": "spam"}
    with ScriptedServer(scores(0.97)) as models, mortal.database() as url:
        settings = {
            "backends": {"main": {"grpc": models.address, "model": "main"}},
            "routes": {"spam": {"chain": ["main"], "prediction": prediction}},
            "ledger": url,
        }
        with GatewayProcess(tmp_path, settings) as gateway, grpc.insecure_channel(gateway.address) as channel:
            stub = FeedbackServiceStub(channel)
            receipts = [infer_by_grpcio(channel, "spam").said["receipt"] for _ in range(3)]

            def says(receipt: str) -> Any:
                return stub.Submit(
                    pb.SubmitFeedbackRequest(items=[pb.FeedbackItem(receipt=receipt, label="spam")]),
                    timeout=90,
                )

            assert says(receipts[0]).results[0].status == pb.FeedbackResult.ACCEPTED
            mortal.pause()
            try:
                refused: list[tuple[grpc.StatusCode, float]] = []

                def feedback() -> None:
                    for receipt in receipts[1:]:
                        begun = time.monotonic()
                        try:
                            says(receipt)
                        except grpc.RpcError as error:
                            refused.append((error.code(), time.monotonic() - begun))

                thread = threading.Thread(target=feedback)
                thread.start()
                took = []
                while thread.is_alive():
                    begun = time.monotonic()
                    assert infer_by_grpcio(channel, "spam").status == "OK"
                    took.append(time.monotonic() - begun)
                    time.sleep(0.02)
            finally:
                mortal.unpause()
            assert [code for code, _ in refused] == [grpc.StatusCode.UNAVAILABLE] * 2
            waits = [seconds for _, seconds in refused]
            assert max(waits) < 17 + 5 + 8, "a statement's wait, a connection's attempt, and a busy machine"
            slowest = sorted(took)[len(took) * 99 // 100]
            assert slowest < 1.0, "calls wait for nobody"
            found = [says(receipt).results[0].status for receipt in receipts]
            assert found[0] == pb.FeedbackResult.DUPLICATE
            assert set(found[1:]) <= {pb.FeedbackResult.ACCEPTED, pb.FeedbackResult.DUPLICATE}
            print(
                f"frozen: feedback was refused after {waits[0]:.1f} and {waits[1]:.1f} s; meanwhile {len(took)} calls "
                f"were answered, 99 % of them within {slowest * 1000:.0f} ms"
            )
