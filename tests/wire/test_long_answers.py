"""Answers that no route reads are handed on as they come: however long, in constant memory."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from tests.wire.clients import INFER, request, rows
from tests.wire.gateway_process import GatewayProcess
from tests.wire.plane import UNLIMITED, document, model, route, running, static
from tests.wire.servers import ScriptedServer, fail, pb, scores

UNREAD = {
    "prediction": None,
    "check": {"range": None, "sum": None, "sum_tolerance": 0.001, "labels": None},
    "confidence": None,
}


def long(bytes_: int) -> bytes:
    message = pb.ModelInferResponse(model_name="a", model_version="1", id="x")
    message.outputs.add(name="pixels", datatype="UINT8", shape=[bytes_])
    message.raw_output_contents.append(bytes(bytes_))
    encoded: bytes = message.SerializeToString()
    return encoded


def ask(channel: grpc.Channel) -> tuple[pb.ModelInferResponse, dict[str, str]]:
    call = channel.unary_unary(
        INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
    )
    answer, rpc = call.with_call(request("spam", rows()), timeout=60)
    return answer, {str(key): str(value) for key, value in rpc.trailing_metadata()}


@pytest.mark.parametrize("size", [60_000, 65_531, 65_536, 70_000, 1 << 20, 32 << 20])
def test_an_unread_answer_may_be_of_any_length(size: int) -> None:
    """With its marks as trailers and as parameters, under the name that was asked for; held by no limit of 16 MB."""
    with ScriptedServer(lambda request, context: long(size)) as server:
        policy = document([model("a", server.address, model="a")], [route(["a"], **UNREAD)])
        with running(policy) as (plane, channel):
            answer, told = ask(channel)
            [record] = plane.records(1)
    assert len(answer.raw_output_contents[0]) == size
    assert answer.model_name == "spam"
    assert told["gateway-attempts"] == "a:ok"
    assert answer.parameters["gateway_attempts"].string_param == "a:ok"
    assert answer.parameters["gateway_receipt"].string_param == told["gateway-receipt"]
    assert (record["outcome"], record["status"]) == ("model", 0)
    assert record["answer_bytes"] > size


def test_what_fails_before_its_message_falls_back() -> None:
    """Its length does not matter, only that nothing was handed on."""
    with (
        ScriptedServer(fail(grpc.StatusCode.UNAVAILABLE)) as bad,
        ScriptedServer(lambda request, context: long(1 << 20)) as good,
    ):
        backends = [model("bad", bad.address), model("good", good.address)]
        with running(document(backends, [route(["bad", "good"], **UNREAD)])) as (_, channel):
            answer, told = ask(channel)
    assert told["gateway-attempts"] == "bad:backend_error,good:ok"
    assert len(answer.raw_output_contents[0]) == 1 << 20


def test_a_read_answer_keeps_its_limit() -> None:
    with ScriptedServer(lambda request, context: long(17 << 20)) as server:
        policy = document([model("a", server.address), static()], [route(["a", "ham"])])
        with running(policy) as (_, channel):
            _, told = ask(channel)
    assert told["gateway-attempts"] == "a:invalid_output,ham:ok"


def peak_bytes(process: GatewayProcess) -> int:
    """The most memory that the process has had so far."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024


def test_long_answers_leave_memory_flat(tmp_path: Path) -> None:
    """Eight of 32 MB at a time hold windows, not answers."""
    settings = {
        "backends": {"a": {"grpc": "HERE", "model": "a"}},
        "routes": {"spam": {"chain": ["a"]}},
    }
    with ScriptedServer(lambda request, context: long(32 << 20)) as server:
        settings["backends"]["a"]["grpc"] = server.address
        with (
            GatewayProcess(tmp_path, settings) as process,
            grpc.insecure_channel(process.address, options=UNLIMITED) as channel,
        ):
            server.behaviour = scores(0.9)
            ask(channel)
            before = peak_bytes(process)
            server.behaviour = lambda request, context: long(32 << 20)
            raw = channel.unary_unary(INFER)
            message = request("spam", rows()).SerializeToString()
            for call in [raw.future(message, timeout=120) for _ in range(8)]:
                assert len(call.result()) > 32 << 20
            grown = peak_bytes(process) - before
    assert grown < 24 << 20, f"{grown >> 20} MB more"
