"""Feedback through a whole gateway: what is wrong is told by its code, who sends too much is told when to come back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2

from gateway._dataplane import sign_receipt
from gateway.client import AsyncFeedbackClient, FeedbackClient, label, positive, receipt_of, signal
from gateway.v1 import feedback_pb2 as pb
from gateway.v1.feedback_pb2_grpc import FeedbackServiceStub
from tests.wire.clients import INFER, infer_by_grpcio, request, rows, triton_input
from tests.wire.conftest import MAIN_SETTINGS
from tests.wire.gateway_process import GatewayProcess, until
from tests.wire.servers import ScriptedServer, scores

RESULT = pb.FeedbackResult
DAY_S = 86_400


def settings(server: ScriptedServer, **more: Any) -> dict[str, Any]:
    route = {**MAIN_SETTINGS, "chain": ["main", "ham"]}
    return {
        "backends": {
            "main": {"grpc": server.address, "model": "main"},
            "ham": {"answer": {"label": "ham", "score": 0.0}},
        },
        "routes": {"spam": route},
        **more,
    }


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("feedback")
    with ScriptedServer() as server:
        server.reset(scores(0.97))
        limited = {"feedback": {"per_caller_per_s": 1.0, "burst": 2000}}
        with GatewayProcess(folder, settings(server, **limited)) as process:
            yield process


@pytest.fixture
def channel(gateway: GatewayProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(gateway.address) as channel:
        yield channel


def submit(channel: grpc.Channel, *items: pb.FeedbackItem, **options: Any) -> list[pb.FeedbackResult]:
    stub = FeedbackServiceStub(channel)
    return list(
        stub.Submit(pb.SubmitFeedbackRequest(items=items, source="app"), timeout=10, **options).results
    )


def infer(channel: grpc.Channel, count: int = 1) -> Any:
    """The call of an answer."""
    call = channel.unary_unary(
        INFER, service_pb2.ModelInferRequest.SerializeToString, service_pb2.ModelInferResponse.FromString
    )
    return call.with_call(request("spam", rows(count)), timeout=10)[1]


def signed(gateway: GatewayProcess, age_s: float, key: bytes | None = None) -> str:
    """A receipt of this gateway's own key, of a call some time ago."""
    kept = bytes.fromhex((gateway.state_dir / "receipt-key").read_text())
    row = {"score": 0.9, "flagged": True, "sampled": False, "outcome": "model", "class": 1, "review_pi": 0.5}
    then_ms = int((time.time() - age_s) * 1000)
    fields: dict[str, Any] = {
        "id": uuid.UUID(int=then_ms << 80 | 7 << 76 | 2 << 62 | 5).bytes,
        "policy": 1,
        "route": "spam",
        "backend": "main",
        "segment": "",
    }
    return sign_receipt(fields | {"rows": [row]}, key or kept)


def changed(receipt: str) -> str:
    middle = len(receipt) // 2
    return receipt[:middle] + ("A" if receipt[middle] != "A" else "B") + receipt[middle + 1 :]


def bad_items(gateway: GatewayProcess, channel: grpc.Channel) -> list[tuple[pb.FeedbackItem, str, str]]:
    good = receipt_of(infer(channel))
    unknown = str(uuid.UUID(int=int((time.time() - DAY_S) * 1000) << 80 | 7 << 76 | 2 << 62))
    tomorrow_ms, yesterday_ms = (int((time.time() + day * DAY_S) * 1000) for day in (1, -1))
    return [
        (label(changed(good), "spam"), "receipt_forged", "INVALID_ARGUMENT"),
        (label(good[:-6], "spam"), "receipt_malformed", "INVALID_ARGUMENT"),
        (label(signed(gateway, 0, b"k" * 32), "spam"), "receipt_foreign", "INVALID_ARGUMENT"),
        (label(signed(gateway, 91 * DAY_S), "spam"), "receipt_expired", "INVALID_ARGUMENT"),
        (label(signed(gateway, -DAY_S), "spam"), "receipt_early", "INVALID_ARGUMENT"),
        (label(good, "spma"), "unknown_label", "INVALID_ARGUMENT"),
        (label(good, "spam", row=1), "no_such_row", "INVALID_ARGUMENT"),
        (label(unknown, "spam"), "unknown_decision", "NOT_FOUND"),
        (pb.FeedbackItem(receipt=good, label="spam", time_ms=tomorrow_ms), "bad_time", "INVALID_ARGUMENT"),
        (pb.FeedbackItem(receipt=good, label="spam", time_ms=yesterday_ms), "bad_time", "INVALID_ARGUMENT"),
        (signal(good, "A click"), "bad_signal", "INVALID_ARGUMENT"),
        (signal(good, "click", float("nan")), "bad_value", "INVALID_ARGUMENT"),
        (label(good, "spam", source="review"), "bad_source", "INVALID_ARGUMENT"),
    ]


def test_what_is_wrong_is_told_by_its_code(gateway: GatewayProcess, channel: grpc.Channel) -> None:
    """Forged, cut, foreign, old, early and more: the status, and the code in a trailer that reaches callers."""
    for item, code, status in bad_items(gateway, channel):
        with pytest.raises(grpc.RpcError) as refused:
            submit(channel, item)
        trailers = dict(refused.value.trailing_metadata() or ())
        assert (trailers.get("gateway-error"), refused.value.code().name) == (code, status)
        assert refused.value.details()


def test_a_receipt_that_is_replayed_counts_once(channel: grpc.Channel) -> None:
    """The same statement again is nothing new, whoever sends it; another source is another voice."""
    receipt = receipt_of(infer(channel))
    said = [label(receipt, "spam"), label(receipt, "spam"), label(receipt, "spam", source="other")]
    assert [submit(channel, one)[0].status for one in said] == [
        RESULT.ACCEPTED,
        RESULT.DUPLICATE,
        RESULT.ACCEPTED,
    ]


def test_feedback_months_late_is_taken(gateway: GatewayProcess, channel: grpc.Channel) -> None:
    """90 days unless the settings say otherwise."""
    assert submit(channel, label(signed(gateway, 89 * DAY_S), "spam"))[0].status == RESULT.ACCEPTED


def test_feedback_by_id_waits_for_a_record(channel: grpc.Channel) -> None:
    """No call here is sampled, so none comes; but that is not known when it is said."""
    identity = infer_by_grpcio(channel, "spam").said["decision-id"]
    [result] = submit(channel, label(identity, "spam"))
    assert (result.status, result.decision_id) == (RESULT.PENDING, identity)


def test_the_sdk_finds_receipts_and_hands_them_back(gateway: GatewayProcess, channel: grpc.Channel) -> None:
    """From a call's trailers and from tritonclient's result, through the gateway's own port."""
    client = triton.InferenceServerClient(gateway.address)
    result = client.infer("spam", [triton_input(rows(3))])
    client.close()
    with FeedbackClient(gateway.address, source="sdk") as feedback:
        assert feedback.label(infer(channel), "spam").status == "accepted"
        assert feedback.signal(result, "click", row=2).status == "accepted"
        kept = feedback.submit([positive(result, True, row=row) for row in range(4)])
    assert [one.status for one in kept] == ["accepted", "accepted", "accepted", "refused"]
    assert kept[3].code == "no_such_row"


async def test_the_sdk_for_asyncio_does_the_same(gateway: GatewayProcess, channel: grpc.Channel) -> None:
    async with AsyncFeedbackClient(gateway.address, source="sdk") as feedback:
        assert (await feedback.label(infer(channel), "ham")).status == "accepted"


def test_the_report_and_the_metrics_show_signals_by_source(
    gateway: GatewayProcess, channel: grpc.Channel
) -> None:
    """Count, mean and how long they took, beside the labels; and every refusal by its code."""
    old = signed(gateway, 2 * 3600)
    said = [signal(old, "buy", value, after_s=600, source=f"shop{value:g}") for value in (1.0, 3.0)]
    said += [signal(receipt_of(infer(channel)), "buy", 5.0, source="shop1")]
    assert [one.status for one in submit(channel, *said)] == [RESULT.ACCEPTED] * 3
    signals = gateway.report()["spam"]["signals"]
    assert signals["shop3"]["buy"] == {"count": 1, "mean": 3.0, "median_delay_s": 600}
    assert signals["shop1"]["buy"]["count"] == 2
    assert signals["shop1"]["buy"]["mean"] == 3.0

    def counted() -> bool:
        text = gateway.get("/metrics")[1]
        lines = [line for line in text.splitlines() if line.startswith("gateway_labels_total")]
        return any('kind="signal"' in line and 'source="shop1"' in line for line in lines)

    until(counted, "signals in gateway_labels", timeout_s=40)


def test_who_sends_too_much_waits_and_cannot_pass_for_another(
    gateway: GatewayProcess, channel: grpc.Channel
) -> None:
    """The address is the caller's, whatever its metadata say. Last of these, as the burst is gone then."""
    receipt = receipt_of(infer(channel))
    items = [positive(receipt, True)] * 1000
    sent = (submit(channel, *items, metadata=(("gateway-caller", f"tls:no-{n}"),)) for n in range(4))
    with pytest.raises(grpc.RpcError) as refused:
        list(sent)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "addr:127.0.0.1" in (refused.value.details() or "")
    trailers = dict(refused.value.trailing_metadata() or ())
    assert trailers["gateway-error"] == "rate_limited"
    assert 0 < int(trailers["grpc-retry-pushback-ms"]) <= 1_000_000
    dropped = [
        line
        for line in gateway.get("/metrics")[1].splitlines()
        if line.startswith("gateway_dropped_total") and 'reason="rate"' in line and 'what="feedback"' in line
    ]
    assert [float(line.rsplit(" ", 1)[1]) for line in dropped] == [1000.0]
