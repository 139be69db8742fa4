"""A call through a sidecar that waits for people, who may be at any control, and outlive the one that was asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.v1 import review_pb2
from gateway.v1.review_pb2_grpc import ReviewServiceStub
from tests.fleet.processes import ControlProc, SidecarProc
from tests.fleet.test_totals import ended
from tests.wire.clients import INFER, request, rows
from tests.wire.gateway_process import until
from tests.wire.test_people_process import infer_pb, lease, outcome, submit

SETTINGS: dict[str, Any] = {
    "backends": {
        "moderators": {"people": {"queue": "moderation", "timeout_s": 60}},
        "ham": {"answer": {"label": "ham", "score": 0.0}},
    },
    "routes": {
        "spam": {
            "chain": ["moderators", "ham"],
            "prediction": {"scores": "probabilities", "classes": ["ham", "spam"], "positive": "spam"},
        }
    },
}


@contextmanager
def reviewer(control: ControlProc) -> Iterator[Any]:
    with grpc.insecure_channel(control.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield ReviewServiceStub(channel)


@contextmanager
def caller(sidecar: SidecarProc) -> Iterator[Any]:
    with grpc.insecure_channel(sidecar.address) as channel:
        ask = channel.unary_unary(
            INFER, infer_pb.ModelInferRequest.SerializeToString, infer_pb.ModelInferResponse.FromString
        )
        yield lambda count=1, timeout=90: ask.future(request("spam", rows(count)), timeout=timeout)


def empty(review: Any) -> bool:
    found = review.Lease(review_pb2.LeaseRequest(queue="moderation", reviewer="zoe"))
    return bool(found.HasField("queue_empty"))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_call_waits_for_people_at_any_control(tmp_path: Path, postgres_url: str) -> None:
    """Answered where it was asked, at another control, and after the control that was asked is killed."""
    controls = [ControlProc(tmp_path, f"c{at}", postgres_url, SETTINGS) for at in range(2)]
    sidecar = SidecarProc(tmp_path, "s", [control.address for control in controls])
    with ended(*controls, sidecar):
        for control in controls:
            control.start()
        sidecar.start()
        with reviewer(controls[0]) as here, reviewer(controls[1]) as elsewhere, caller(sidecar) as call:
            waiting = call(2)
            tasks = [lease(here, "ann"), lease(elsewhere, "bob")]
            submit(here, tasks[0], "spam", "ann")
            submit(elsewhere, tasks[1], "ham", "bob")
            answer = waiting.result()
            assert outcome(waiting) == "human,human"
            assert list(answer.outputs[0].contents.fp32_contents) == [0, 1, 1, 0]
            counted = 'gateway_people_calls_total{backend="moderators",result="answered"}'
            assert [control.metric(counted) for control in controls] == [1, None]

            waiting = call()
            task = lease(elsewhere, "bob")
            controls[0].kill()
            submit(elsewhere, task, "spam", "bob")
            assert list(waiting.result().outputs[0].contents.fp32_contents) == [0, 1]
            assert outcome(waiting) == "human"

            waiting = call()  # asked at the control that is left
            submit(elsewhere, lease(elsewhere, "bob"), "ham", "bob")
            assert outcome(waiting) == "human"

            waiting = call(timeout=3)  # and who goes on leaves no task behind
            assert outcome(waiting) == "static"
            until(lambda: empty(elsewhere) or None, "an empty queue", 20)
