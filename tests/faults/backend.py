"""A model server in a process of its own, to be killed: `python -m tests.faults.backend PORT SCORE`."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from concurrent import futures
from types import TracebackType

import grpc

from tests.wire.gateway_process import ROOT, _environment, free_ports
from tests.wire.servers import SERVICE, answer, pb, rows_of

__all__ = ["BackendProcess"]


class BackendProcess:
    """Answers every row with one score. Killed and started again on the same port."""

    def __init__(self, score: float) -> None:
        self.score = score
        [self.port] = free_ports(1)
        self.address = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.faults.backend", str(self.port), str(self.score)]
        self._process = subprocess.Popen(command, cwd=ROOT, env=_environment())
        deadline = time.monotonic() + 30
        while not self._listens():
            assert time.monotonic() < deadline, "the model server does not listen"
            time.sleep(0.02)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """As kill -9 does it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def __enter__(self) -> BackendProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def main(port: str, score: str) -> None:
    positive = float(score)

    def infer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> bytes:
        return answer(request, [(1 - positive, positive)] * rows_of(request))

    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    handler = grpc.unary_unary_rpc_method_handler(infer, pb.ModelInferRequest.FromString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
