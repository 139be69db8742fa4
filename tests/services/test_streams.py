"""A stream that breaks tells its caller as much as a call with one answer, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import SecretStr

from gateway.config.access import Access as Named
from gateway.services.access import Access
from gateway.services.changes import Changes
from gateway.services.errors import ERROR_TRAILER, ErrorInterceptor
from gateway.services.policy import PolicyService
from gateway.v1 import policy_pb2, policy_pb2_grpc

TOKEN = "a token of some length"


class Broken:
    """A ledger that cannot even be asked."""

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError("what must not be told")


@pytest.mark.parametrize(
    ("token", "code", "word", "words"),
    [
        ("", grpc.StatusCode.PERMISSION_DENIED, "forbidden", "this wants the role viewer"),
        (TOKEN, grpc.StatusCode.INTERNAL, "internal", "the gateway's log has it under number"),
    ],
)
async def test_a_watcher_is_told_why_it_ends(
    tmp_path: Path, token: str, code: grpc.StatusCode, word: str, words: str
) -> None:
    """By status, words and trailer, not by UNKNOWN and a traceback in the log."""
    access = Access({"ann": Named(role="viewer", token=SecretStr(TOKEN))})
    versions: Changes[int] = Changes()
    versions.set(1)
    broken: Any = Broken()
    service = PolicyService(broken, broken, lambda: access, broken, versions, broken)
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(service, server)
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
            watching = policy_pb2_grpc.PolicyServiceStub(channel).Watch(
                policy_pb2.WatchPoliciesRequest(), metadata=[("authorization", f"Bearer {token}")], timeout=10
            )
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await anext(aiter(watching))
    finally:
        await server.stop(0)
    assert refused.value.code() is code
    assert words in str(refused.value.details())
    assert "must not be told" not in str(refused.value.details())
    assert (ERROR_TRAILER, word) in list(refused.value.trailing_metadata() or ())
