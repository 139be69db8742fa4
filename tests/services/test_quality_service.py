"""`QualityService` over a real socket: gates, what is said anew, the report, and who may ask."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import SecretStr

from gateway.config.access import Access as Named
from gateway.ledger import Ledger, verdicts
from gateway.ledger.verdicts import Verdict
from gateway.services.access import Access
from gateway.services.errors import ErrorInterceptor
from gateway.services.quality import QualityService
from gateway.v1 import quality_pb2 as pb
from gateway.v1 import quality_pb2_grpc
from tests.autopilot.labelled import START_US, opened

TOKEN = "a token that is long enough"
GOOD = Verdict(START_US, 3, "spam", "holds", "", "pass", 0.96, 0.94, 0.98, 300, "precision 0.96: pass")
UNKNOWN = Verdict(START_US, 3, "mail", "holds", "device=tv", "inconclusive", None, None, None, 0, "not known")


@pytest.fixture
def ledger(tmp_path: Path):  # type: ignore[no-untyped-def]
    with opened(tmp_path, [START_US]) as made:
        yield made


@asynccontextmanager
async def served(ledger: Ledger, folder: Path) -> AsyncIterator[quality_pb2_grpc.QualityServiceAsyncStub]:
    access = Access({"ann": Named(role="viewer", token=SecretStr(TOKEN))})
    service = QualityService(
        ledger.reader,
        lambda: access,
        lambda: [GOOD, UNKNOWN],
        lambda: ("spam", "mail"),
        look_s=0.01,
        told=lambda window, made, now_us: {**made.as_dict(), "told_of": window.route},
    )
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    quality_pb2_grpc.add_QualityServiceServicer_to_server(service, server)
    server.add_insecure_port(f"unix:{folder}/s")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"unix:{folder}/s") as channel:
            yield quality_pb2_grpc.QualityServiceStub(channel)
    finally:
        await server.stop(0)


HOW: dict[str, Any] = {"metadata": [("authorization", f"Bearer {TOKEN}")], "timeout": 20}


async def test_gates_say_what_they_say_now(ledger: Ledger, tmp_path: Path) -> None:
    """A number that cannot be had is absent, not 0."""
    async with served(ledger, tmp_path) as stub:
        good, unknown = (await stub.Gates(pb.GatesRequest(), **HOW)).verdicts
        assert (good.said, good.value, good.labels, good.words) == (pb.Verdict.PASS, 0.96, 300, GOOD.words)
        assert (good.route, good.gate, good.segment, good.policy) == ("spam", "holds", "", 3)
        assert (unknown.said, unknown.segment) == (pb.Verdict.INCONCLUSIVE, "device=tv")
        assert not unknown.HasField("value")
        assert not unknown.HasField("low")
        [only] = (await stub.Gates(pb.GatesRequest(route="mail"), **HOW)).verdicts
        assert only == unknown


async def test_a_watcher_gets_what_was_said_last_and_then_what_is_said_anew(
    ledger: Ledger, tmp_path: Path
) -> None:
    """Each once, in order, and of the route that was asked for."""
    older = replace(GOOD, verdict="inconclusive")
    ledger.transact(partial(verdicts.note, verdicts=[older, GOOD, UNKNOWN])).result()
    async with served(ledger, tmp_path) as stub:
        watching = aiter(stub.WatchGates(pb.GatesRequest(route="spam"), **HOW))
        assert (await anext(watching)).said == pb.Verdict.PASS
        fails = [replace(GOOD, verdict="fail", words=f"fail {number}") for number in range(3)]
        ledger.transact(partial(verdicts.note, verdicts=[fails[0], UNKNOWN, fails[1]])).result()
        ledger.transact(partial(verdicts.note, verdicts=[fails[2]])).result()
        assert [(await anext(watching)).words for _ in range(3)] == ["fail 0", "fail 1", "fail 2"]


async def test_the_report_is_that_of_the_command(ledger: Ledger, tmp_path: Path) -> None:
    """Routes without traffic are in it, with reasons."""
    async with served(ledger, tmp_path) as stub:
        made = json.loads((await stub.Report(pb.ReportRequest(route="spam"), **HOW)).json)
    assert list(made["routes"]) == ["spam"]
    assert made["told_of"] == "spam"
    assert made["routes"]["spam"]["precision"]["value"] is None
    assert made["routes"]["spam"]["precision"]["reason"]


@pytest.mark.parametrize("method", ["Report", "Gates", "WatchGates"])
async def test_what_cannot_be_answered_is_refused_in_words(
    ledger: Ledger, tmp_path: Path, method: str
) -> None:
    """Who may not, and which route there is not."""
    request = pb.ReportRequest if method == "Report" else pb.GatesRequest

    async def refusal(**how: object) -> grpc.aio.AioRpcError:
        call = getattr(stub, method)(request(route="luck"), timeout=20, **how)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await (anext(aiter(call)) if method == "WatchGates" else call)
        return refused.value

    async with served(ledger, tmp_path) as stub:
        stranger = await refusal()
        assert stranger.code() is grpc.StatusCode.PERMISSION_DENIED
        lost = await refusal(metadata=HOW["metadata"])
        assert lost.code() is grpc.StatusCode.NOT_FOUND
        assert "there is no route 'luck'; there are spam, mail" in str(lost.details())


async def test_hours_that_make_no_sense_are_named(ledger: Ledger, tmp_path: Path) -> None:
    """A negative window would be an empty report that looks like one."""
    async with served(ledger, tmp_path) as stub:
        for hours in (-1.0, 1e9, float("nan")):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Report(pb.ReportRequest(hours=hours), **HOW)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "hours: found" in str(refused.value.details())
