"""What one control does for the whole fleet, and what each does with what its sidecars bring; and the next leader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from tests.fleet.processes import ROUTES, ControlProc, SidecarProc
from tests.fleet.test_totals import ended
from tests.telemetry.event_receiver import EventReceiver
from tests.wire.clients import INFER, request, rows
from tests.wire.gateway_process import until

PER_HOUR = 3600.0
ROWS = 20
CALLS = 150


def settings(folder: Path, events: str) -> dict[str, Any]:
    token = folder / "label-studio"
    token.write_text("header.payload.signature")
    review = {"queue": "q", "per_hour": PER_HOUR, "capture": ["inputs"]}
    return {
        **ROUTES,
        "routes": {"spam": {**ROUTES["routes"]["spam"], "review": review}},
        "telemetry": {"events": {"url": events}},
        "label_studio": {
            "url": "http://127.0.0.1:1",
            "token": f"file:{token}",
            "queues": {"q": {"project": 1}},
            "every_s": 1,
        },
    }


def infer(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary(
            INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        )
        for _ in range(CALLS):
            ask(request("spam", rows(ROWS)), timeout=20, wait_for_ready=True)


def share(control: ControlProc) -> float | None:
    """Of what a static answer said, which is a fallback's stratum; None where it is not told of."""
    return control.metric('gateway_review_share_ratio{route="spam",stratum="fallback"}')


def leads(control: ControlProc) -> bool:
    return control.metric("gateway_fleet_leader") == 1


def tool_age(control: ControlProc) -> float | None:
    return control.metric("gateway_label_tool_age_seconds")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_budget_events_and_label_tool_work_and_have_a_successor(tmp_path: Path, postgres_url: str) -> None:
    """Two sidecars, each of which talks to another control: shares rest on the traffic of both, payloads leave from
    where they arrive, one control alone asks Label Studio; and when the leader is killed the other does all of it."""
    with EventReceiver() as receiver:
        made = settings(tmp_path, receiver.url)
        controls = [ControlProc(tmp_path, f"c{at}", postgres_url, made) for at in range(2)]
        sidecars = [SidecarProc(tmp_path, f"s{at}", [controls[at].address]) for at in range(2)]
        with ended(*controls, *sidecars):
            for control in controls:
                control.start()
            for sidecar in sidecars:
                sidecar.start()
            leader = until(lambda: next((one for one in controls if leads(one)), None), "somebody leads")
            [other] = [one for one in controls if one is not leader]
            until(lambda: share(leader) == 0.02, "the first share", 30)
            for sidecar in sidecars:
                infer(sidecar.address)
            until(lambda: share(leader) not in (None, 0.02), "a share of the traffic", 60)
            until(lambda: tool_age(leader) is not None, "the label tool is looked at", 20)
            assert share(other) is None
            assert tool_age(other) is None
            learnt = share(leader)
            assert learnt is not None

            came = 2 * CALLS * ROWS
            until(lambda: (captured := len(receiver.posted)) and captured % 2 == 0, "events of both", 30)
            routes = {one.headers["ce-inferenceservicename"] for one in receiver.posted}
            assert routes == {"spam"}
            assert 10 <= len(receiver.posted) / 2 <= came * 0.02 * 2.5

            version = leader.metric("gateway_policy_version")
            leader.kill()
            until(lambda: leads(other), "a successor", 30)
            until(lambda: share(other) is not None, "the successor moves the shares", 40)
            until(lambda: tool_age(other) is not None, "the successor asks the label tool", 20)
            assert share(other) == pytest.approx(learnt, rel=0.9)
            assert (other.metric("gateway_policy_version") or 0) >= (version or 0)
