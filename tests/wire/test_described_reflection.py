"""Descriptors asked of a server, by the command and by what it rests on."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2

from gateway.config import read_text
from gateway.errors import NotFound
from gateway.runtime.check import compile_faults
from gateway.services.reflection import ask_descriptors
from tests.wire.described import DescribedServer, message

SETTINGS = """
descriptors: [asked.binpb]
backends: {main: {grpc: "127.0.0.1:1"}}
routes:
  scorer:
    match: {method: /scoring.Scorer/Score}
    chain: [main]
    request: {rows: items}
    prediction: {scores: "predictions[].score", classes: [HAM, SPAM], positive: SPAM}
"""


def _nothing(asked: object, context: grpc.ServicerContext) -> object:
    return message("scoring.ScoreResponse")


def test_a_servers_own_descriptors_are_what_routes_are_read_by(tmp_path: Path) -> None:
    """What comes is whole, stands by itself, and is enough for the compiler."""
    with (
        DescribedServer(_nothing, reflected=True) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        made, names = ask_descriptors(channel)
        one, _ = ask_descriptors(channel, ["tensorflow.serving.PredictionService"])
        with pytest.raises(NotFound, match=r"no service scoring.Nobody; it has .*scoring.Scorer"):
            ask_descriptors(channel, ["scoring.Nobody"])
    assert names == ["scoring.Scorer", "tensorflow.serving.PredictionService"]
    files = [file.name for file in descriptor_pb2.FileDescriptorSet.FromString(one).file]
    assert files == ["tensor.proto", "prediction_service.proto"]
    (tmp_path / "asked.binpb").write_bytes(made)
    loaded = read_text(SETTINGS, folder=tmp_path, env={})
    assert [str(fault) for fault in [*loaded.faults, *compile_faults(loaded)]] == []


def test_a_server_without_reflection_is_named_so() -> None:
    with (
        DescribedServer(_nothing) as server,
        grpc.insecure_channel(server.address) as channel,
        pytest.raises(NotFound, match=r"does not describe itself by reflection .UNIMPLEMENTED"),
    ):
        ask_descriptors(channel)
    with (
        grpc.insecure_channel("127.0.0.1:1") as channel,
        pytest.raises(NotFound, match="UNAVAILABLE"),
    ):
        ask_descriptors(channel)
