"""A shadow as nobody wants it: `python bad_shadow.py slow` answers after half a second, `garbage` with 64 KB of noise.

Run as a process of its own. Prints its port.
"""

from __future__ import annotations

import asyncio
import sys

import grpc

WAITS_S = {"slow": 0.5, "garbage": 0.1}
"""Garbage waits a little too: with 64 copies under way that is 40 MB/s, and leaves the machine to what is measured."""

NOISE = bytes(range(256)) * 256


async def serve(kind: str) -> None:
    async def answer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        await asyncio.sleep(WAITS_S[kind])
        return NOISE if kind == "garbage" else b""

    class Every(grpc.GenericRpcHandler):
        def service(
            self, handler_call_details: grpc.HandlerCallDetails
        ) -> grpc.RpcMethodHandler[bytes, bytes]:
            return grpc.unary_unary_rpc_method_handler(answer)  # type: ignore[arg-type]

    server = grpc.aio.server(handlers=[Every()])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
