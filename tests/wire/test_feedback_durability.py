"""Feedback that was acknowledged is on disk; feedback that cannot be kept is refused; inference goes on."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.v1 import feedback_pb2
from gateway.v1.feedback_pb2_grpc import FeedbackServiceStub
from tests.wire.clients import infer_by_grpcio
from tests.wire.conftest import MAIN_SETTINGS
from tests.wire.gateway_process import GatewayProcess, until
from tests.wire.servers import ScriptedServer

ACCEPTED = feedback_pb2.FeedbackResult.ACCEPTED
CORRECTED = feedback_pb2.FeedbackResult.CORRECTED
DUPLICATE = feedback_pb2.FeedbackResult.DUPLICATE


def settings(server: ScriptedServer) -> dict[str, Any]:
    return {
        "backends": {
            "main": {"grpc": server.address, "model": "main"},
            "ham": {"answer": {"label": "ham", "score": 0.0}},
        },
        "routes": {"spam": {**MAIN_SETTINGS, "chain": ["main", "ham"]}},
    }


def submit(channel: grpc.Channel, receipt: str, label: str) -> int:
    """The status of one label.

    Raises: grpc.RpcError, as the service does for a single item that it refuses.
    """
    item = feedback_pb2.FeedbackItem(receipt=receipt, label=label)
    request = feedback_pb2.SubmitFeedbackRequest(items=[item], source="app")
    (result,) = FeedbackServiceStub(channel).Submit(request, timeout=10).results
    return result.status


def feedback_labels(gateway: GatewayProcess) -> int:
    """How many labels of feedback the report counts."""
    return sum(source["labels"] for source in gateway.report()["spam"]["feedback"].values())


def test_acknowledged_label_survives_kill_9_once(main: ScriptedServer, tmp_path: Path) -> None:
    """Killed right after the acknowledgement: the label is there after the restart, and sending it again adds none."""
    gateway = GatewayProcess(tmp_path, settings(main))
    gateway.start()
    with grpc.insecure_channel(gateway.address) as channel:
        receipt = infer_by_grpcio(channel, "spam").said["receipt"]
        assert submit(channel, receipt, "spam") == ACCEPTED
        gateway.kill()
    with gateway, grpc.insecure_channel(gateway.address) as channel:
        assert submit(channel, receipt, "spam") == DUPLICATE
        assert feedback_labels(gateway) == 1


def test_receipt_of_the_killed_gateway_is_good_after_restart(main: ScriptedServer, tmp_path: Path) -> None:
    """Keys are kept: an answer given before the crash can be labelled after it."""
    gateway = GatewayProcess(tmp_path, settings(main))
    gateway.start()
    with grpc.insecure_channel(gateway.address) as channel:
        receipt = infer_by_grpcio(channel, "spam").said["receipt"]
    gateway.kill()
    with gateway, grpc.insecure_channel(gateway.address) as channel:
        assert submit(channel, receipt, "ham") == ACCEPTED


def test_forged_receipt_is_refused(main: ScriptedServer, tmp_path: Path) -> None:
    """A receipt with one changed character is INVALID_ARGUMENT, and says why."""
    with (
        GatewayProcess(tmp_path, settings(main)) as gateway,
        grpc.insecure_channel(gateway.address) as channel,
    ):
        receipt = infer_by_grpcio(channel, "spam").said["receipt"]
        middle = len(receipt) // 2
        forged = receipt[:middle] + ("A" if receipt[middle] != "A" else "B") + receipt[middle + 1 :]
        with pytest.raises(grpc.RpcError) as refused:
            submit(channel, forged, "spam")
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "receipt" in (refused.value.details() or "")


@dataclass
class SmallDisk:
    """A file system of a few megabytes that a test fills and empties."""

    folder: Path

    def fill(self) -> None:
        with (self.folder / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            for size in (65_536, 4096, 512, 1):
                with contextlib.suppress(OSError):
                    while True:
                        filler.write(b"\0" * size)

    def empty(self) -> None:
        (self.folder / "filler").unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A tmpfs of 8 MB. Needs to be root, as in CI and in containers; the test after it stands for others."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("nobody but root may mount a tmpfs")
    yield SmallDisk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def refused_feedback(channel: grpc.Channel, receipt: str) -> grpc.StatusCode:
    """Correct the label to and fro until the ledger cannot take any more; every answer before that is a promise."""
    for number in range(5000):
        try:
            submit(channel, receipt, ("ham", "spam")[number % 2])
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    raise AssertionError("5,000 labels went onto a full disk")


def test_full_disk_refuses_feedback_and_inference_goes_on(
    main: ScriptedServer, tmp_path: Path, small_disk: SmallDisk
) -> None:
    """UNAVAILABLE, so that the application tries again; calls are answered; with room again, feedback is taken."""
    gateway = GatewayProcess(tmp_path, settings(main), state_dir=small_disk.folder / "state")
    with gateway, grpc.insecure_channel(gateway.address) as channel:
        receipt = infer_by_grpcio(channel, "spam").said["receipt"]
        assert submit(channel, receipt, "spam") == ACCEPTED
        small_disk.fill()
        assert refused_feedback(channel, receipt) is grpc.StatusCode.UNAVAILABLE
        for _ in range(20):
            assert infer_by_grpcio(channel, "spam").said["outcome"] == "model"
        small_disk.empty()
        later = infer_by_grpcio(channel, "spam").said["receipt"]
        until(lambda: taken(channel, later), "feedback taken again")


def test_failing_writes_refuse_feedback_and_inference_goes_on(main: ScriptedServer, tmp_path: Path) -> None:
    """The same by a limit of file size that comes and goes, which needs no root: writes fail as on a broken disk."""
    with (
        GatewayProcess(tmp_path, settings(main)) as gateway,
        grpc.insecure_channel(gateway.address) as channel,
    ):
        receipt = infer_by_grpcio(channel, "spam").said["receipt"]
        assert submit(channel, receipt, "spam") == ACCEPTED
        limit_file_size(gateway, "1")
        assert refused_feedback(channel, receipt) is grpc.StatusCode.UNAVAILABLE
        assert infer_by_grpcio(channel, "spam").said["outcome"] == "model"
        limit_file_size(gateway, "unlimited")
        until(lambda: taken(channel, receipt), "feedback taken again")


def limit_file_size(gateway: GatewayProcess, size: str) -> None:
    subprocess.run(["prlimit", "--pid", str(gateway.pid), f"--fsize={size}:"], check=True)


def taken(channel: grpc.Channel, receipt: str) -> bool | None:
    """Whether feedback is taken now."""
    try:
        return submit(channel, receipt, "ham") in (ACCEPTED, CORRECTED, DUPLICATE)
    except grpc.RpcError:
        return None
