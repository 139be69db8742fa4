"""A fleet is steered at control: by commands, by roles, and through a sidecar where that is allowed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from ruamel.yaml import YAML

from gateway.v1 import (
    feedback_pb2,
    feedback_pb2_grpc,
    fleet_pb2,
    fleet_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    review_pb2,
    review_pb2_grpc,
)
from tests.fleet.processes import ROOT, ROUTES, SECRET, ControlProc, SidecarProc, call
from tests.wire.gateway_process import until

TOKENS = {role: f"{role}-token-of-some-length" for role in ("viewer", "reviewer", "operator", "sidecar")}


def command(*arguments: str, token: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "src"), "GATEWAY_TOKEN": token},
    )


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ControlProc, SidecarProc]]:
    folder = tmp_path_factory.mktemp("fleet")
    for role, token in TOKENS.items():
        (folder / role).write_text(token)
    access = {f"the-{role}": {"role": role, "token": f"file:{folder / role}"} for role in TOKENS}
    settings = {
        "backends": {**ROUTES["backends"], "model": {"grpc": "127.0.0.1:1", "circuit": None}},
        "routes": {"spam": {**ROUTES["routes"]["spam"], "chain": ["model", "ham"]}},
        "access": access,
    }
    control = ControlProc(folder, "c", f"sqlite:///{folder / 'ledger.db'}", settings)
    sidecar = SidecarProc(folder, "s", [control.address], "--token-file", str(folder / "sidecar"))
    try:
        yield control.start(), sidecar.start()
    finally:
        control.kill()
        sidecar.kill()


def test_commands_stop_publish_and_go_back_and_all_is_told_by_whom(
    fleet: tuple[ControlProc, SidecarProc], tmp_path: Path
) -> None:
    """An operator's night: stop the model, look, mend, go back."""
    control, sidecar = fleet
    at, operator = ("--address", control.address), TOKENS["operator"]
    refused = command("kill", "spam", *at, token=TOKENS["reviewer"])
    assert refused.returncode == 1
    assert "the-reviewer has the role reviewer, wanted operator (PERMISSION_DENIED)" in refused.stderr
    killed = command("kill", "spam", *at, "--reason", "it is odd", token=operator)
    assert killed.stdout == "spam is stopped: policy 2 is in force\n", killed.stderr
    until(lambda: sidecar.metric("gateway_policy_version") == 2, "the sidecar has it", 20)
    assert call(sidecar.address)[0]["gateway-reason"] == "kill_switch"

    text = command("policy", "show", *at, token=operator).stdout
    assert "chain:" in text
    assert all(token not in text for token in (*TOKENS.values(), *SECRET.values()))
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text.replace("ham]", "hamm]").replace("- ham\n", "- hamm\n", 1))
    faulty = command("policy", "publish", str(wrong), *at, token=operator)
    assert faulty.returncode == 1
    assert 'routes.spam.chain[1]: there is no backend "hamm"' in faulty.stderr

    wrong.write_text(f"{text}\nlists: {{those: ['file:{tmp_path / 'wrong.yaml'}', '${{PATH}}']}}\n")
    prying = command("policy", "publish", str(wrong), *at, token=operator)
    assert prying.returncode == 1
    assert "lists.those[0]: " in prying.stderr
    assert 'lists.those[1]: "${PATH}" would be looked up on control\'s machine' in prying.stderr

    mended = tmp_path / "mended.yaml"
    whole = YAML(typ="safe").load(text) | {"limits": {"max_rows": 9}}
    with mended.open("w") as file:
        YAML(typ="safe").dump(whole, file)
    published = command("policy", "publish", str(mended), *at, "--reason", "mended", token=operator)
    assert published.stdout == "policy 3 is in force\n", published.stderr
    back = command("policy", "roll-back", "1", *at, token=operator)
    assert back.stdout == "policy 4 is in force\n", back.stderr
    assert command("policy", "roll-back", "99", *at, token=operator).returncode == 1
    listed = json.loads(command("policy", "list", *at, "--json", token=TOKENS["viewer"]).stdout)["policies"]
    assert [(one["version"], one["author"], one["reason"], one["stopped"]) for one in listed] == [
        (4, "the-operator", "back to 1", ["spam"]),
        (3, "the-operator", "mended", ["spam"]),
        (2, "the-operator", "kill spam: it is odd", ["spam"]),
        (1, "serve", "start", []),
    ]
    revived = command("kill", "spam", "--off", *at, token=operator)
    assert revived.stdout == "spam goes on: policy 5 is in force\n", revived.stderr
    until(lambda: sidecar.metric("gateway_policy_version") == 5, "the sidecar has it", 20)
    assert call(sidecar.address)[0]["gateway-reason"] == "backend_error"

    control.kill()  # what was done by hand survives, and the file does not undo it
    control.start()
    shown = json.loads(command("policy", "show", *at, "--json", token=operator).stdout)
    assert (shown["version"], shown["author"]) == (5, "the-operator")


def bearer(role: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {TOKENS[role]}"),)


def unless_unavailable(method: Any, request: Any) -> Any:
    """The answer, or None where it is worth trying again."""
    try:
        return method(request, timeout=20)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return None
        raise


def test_feedback_and_review_work_through_a_sidecar(fleet: tuple[ControlProc, SidecarProc]) -> None:
    """Callers and reviewers know the gateway's port and no other."""
    _, sidecar = fleet
    receipt = call(sidecar.address)[0]["gateway-receipt"]
    with grpc.insecure_channel(sidecar.address) as channel:
        feedback = feedback_pb2_grpc.FeedbackServiceStub(channel)
        item = feedback_pb2.FeedbackItem(receipt=receipt, label="spam")
        sent = feedback_pb2.SubmitFeedbackRequest(items=[item])
        # Control may have come back a moment ago, and UNAVAILABLE says that nothing was kept: send it again.
        result = until(lambda: unless_unavailable(feedback.Submit, sent), "control is reached", 20).results[0]
        assert result.status == feedback_pb2.FeedbackResult.ACCEPTED
        forged = feedback_pb2.FeedbackItem(receipt=receipt[:-4] + "AAAA", label="spam")
        with pytest.raises(grpc.RpcError) as refused:
            feedback.Submit(feedback_pb2.SubmitFeedbackRequest(items=[forged]), timeout=20)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert dict(refused.value.trailing_metadata())["gateway-error"] == "receipt_forged"
        review = review_pb2_grpc.ReviewServiceStub(channel)
        lease = review_pb2.LeaseRequest(queue="q", reviewer="anna")
        assert review.Lease(lease, metadata=bearer("reviewer"), timeout=20).HasField("queue_empty")
        with pytest.raises(grpc.RpcError) as nobody:
            review.Lease(lease, timeout=20)
        assert nobody.value.code() == grpc.StatusCode.PERMISSION_DENIED
        watching = policy_pb2_grpc.PolicyServiceStub(channel).Watch(
            policy_pb2.WatchPoliciesRequest(), metadata=bearer("viewer"), timeout=20
        )
        assert next(watching).settings
        watching.cancel()


def test_a_threshold_learnt_from_labels_becomes_a_version(fleet: tuple[ControlProc, SidecarProc]) -> None:
    """By an operator, for the version that it was found out under, and nothing that a route cannot hold."""
    control, sidecar = fleet
    with grpc.insecure_channel(control.address) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)

        def learn(changes: Any, role: str = "operator", onto: int = 0) -> int:
            asked = policy_pb2.LearnRequest(route="spam", changes=json.dumps(changes), onto=onto)
            return int(stub.Learn(asked, metadata=bearer(role), timeout=20).version)

        before = stub.Get(policy_pb2.GetPolicyRequest(), metadata=bearer("viewer"), timeout=20).version
        table = {"x": [0.0, 0.5, 1.0], "y": [0.0, 0.3, 1.0]}
        version = learn({"threshold": 0.3, "recalibration": table}, onto=before)
        assert version == before + 1
        policy = stub.Get(policy_pb2.GetPolicyRequest(), metadata=bearer("viewer"), timeout=20)
        [route] = json.loads(policy.document)["routes"]
        assert route["prediction"]["threshold"] == 0.3
        assert route["recalibration"] == table | {"backend": None}
        until(lambda: sidecar.metric("gateway_policy_version") == version, "the sidecar has it", 20)
        for changes, role, onto, code in (
            ({"threshold": 0.4}, "viewer", 0, grpc.StatusCode.PERMISSION_DENIED),
            ({"threshold": 0.4}, "operator", before, grpc.StatusCode.ABORTED),
            ({"threshold": 1.4}, "operator", 0, grpc.StatusCode.INVALID_ARGUMENT),
            ({"threshold": "high"}, "operator", 0, grpc.StatusCode.INVALID_ARGUMENT),
            ({"recalibration": {"x": [0, 1]}}, "operator", 0, grpc.StatusCode.INVALID_ARGUMENT),
            ({"arms": {}}, "operator", 0, grpc.StatusCode.INVALID_ARGUMENT),
            ([], "operator", 0, grpc.StatusCode.INVALID_ARGUMENT),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                learn(changes, role, onto)
            assert refused.value.code() == code, (changes, refused.value.details())
        assert learn({"threshold": None, "recalibration": None}) == version + 1


def test_a_sidecar_hands_no_policy_on(fleet: tuple[ControlProc, SidecarProc]) -> None:
    """The receipt keys are in it, and any caller reaches a sidecar; at control the role is wanted, and its admin port,
    which nobody is asked at, leads there no more than to steering.
    """
    control, sidecar = fleet
    asked = fleet_pb2.WatchPolicyRequest(sidecar="x")
    for address, role, code in (
        (sidecar.address, "sidecar", grpc.StatusCode.UNIMPLEMENTED),
        (control.admin, "sidecar", grpc.StatusCode.UNIMPLEMENTED),
        (control.address, "operator", grpc.StatusCode.PERMISSION_DENIED),
    ):
        with grpc.insecure_channel(address) as channel:
            watching = fleet_pb2_grpc.FleetServiceStub(channel).WatchPolicy(
                asked, metadata=bearer(role), timeout=20
            )
            with pytest.raises(grpc.RpcError) as refused:
                next(watching)
            assert refused.value.code() == code
    with grpc.insecure_channel(control.admin) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            policy_pb2_grpc.PolicyServiceStub(channel).Kill(
                policy_pb2.KillRequest(route="spam"), metadata=bearer("operator"), timeout=20
            )
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
    with grpc.insecure_channel(control.address) as channel:
        pushing = fleet_pb2_grpc.FleetServiceStub(channel).PushRecords(
            iter([fleet_pb2.RecordBatch(run=bytes(16), sequence=1)]), metadata=bearer("viewer"), timeout=20
        )
        with pytest.raises(grpc.RpcError) as refused:
            next(pushing)
        assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_garbage_is_refused_and_what_comes_after_it_is_kept(fleet: tuple[ControlProc, SidecarProc]) -> None:
    """A broken sidecar must stop neither control nor itself."""
    control, _ = fleet
    with grpc.insecure_channel(control.address) as channel:
        pushing = channel.stream_stream(
            "/gateway.v1.FleetService/PushRecords",
            request_serializer=None,
            response_deserializer=fleet_pb2.RecordsReply.FromString,
        )
        empty = fleet_pb2.RecordBatch(run=b"g" * 16, sequence=1, sidecar="broken")
        replies = list(
            pushing(
                iter([empty.SerializeToString(), fleet_pb2.RecordBatch(run=b"?").SerializeToString()]),
                metadata=bearer("sidecar"),
                timeout=20,
            )
        )
    assert [reply.sequence for reply in replies] == [1, 0]
    assert "records lacks" in replies[0].refused
    assert "names itself by no run" in replies[1].refused
    assert control.metric('gateway_fleet_batches_total{result="refused"}') == 1
    assert control.get("/readyz")[0] == 200
