"""A real MLServer from PyPI with a scikit-learn model, as a process in a virtual environment of its own.

Its environment is made once under `.venvs/mlserver` (it pins an old starlette, so it cannot share ours) and made again
when the pinned requirements change.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import grpc
from tritonclient.grpc import service_pb2 as pb

from tests.wire.gateway_process import ROOT, free_ports

__all__ = ["FEATURES", "MODEL", "MLServerProcess", "environment"]

REQUIREMENTS = Path(__file__).with_name("mlserver-requirements.txt")
HOME = ROOT / ".venvs" / "mlserver"
MODEL = "cancer"
FEATURES = 30
START_S = 180.0  # mostly imports: 8 s on an idle machine, 40 s on a busy one

TRAIN = """
import sys
import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

rows, truth = load_breast_cancer(return_X_y=True)
joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, truth), sys.argv[1])
"""


def environment() -> Path:
    """The environment's folder of programs; made when absent or when the requirements changed.

    Raises: RuntimeError, with what uv said.
    """
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    stamp = HOME / "made-from"
    HOME.parent.mkdir(exist_ok=True)
    with (HOME.parent / "mlserver.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs in one tree make it once
        if not stamp.exists() or stamp.read_text() != wanted:
            _uv("venv", "--clear", "--python", sys.executable, str(HOME))
            _uv("pip", "install", "--python", str(HOME / "bin" / "python"), "-r", str(REQUIREMENTS))
            stamp.write_text(wanted)
    return HOME / "bin"


def _uv(*arguments: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "uv", "--quiet", *arguments], capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise RuntimeError(f"uv {arguments[0]} failed:\n{result.stderr}")


class MLServerProcess:
    """MLServer with one model, `cancer`: 30 features in, `predict_proba` [rows, 2] FP64 out."""

    def __init__(self, directory: Path) -> None:
        http, self._port = free_ports(2)
        self.address = f"127.0.0.1:{self._port}"
        self._directory = directory
        self._log = directory / "mlserver.log"
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "settings.json").write_text(
            json.dumps(
                {
                    "debug": False,
                    "host": "127.0.0.1",
                    "http_port": http,
                    "grpc_port": self._port,
                    "parallel_workers": 0,
                    "metrics_endpoint": None,
                    "environments_dir": str(directory / "environments"),
                }
            )
        )
        (directory / "model-settings.json").write_text(
            json.dumps(
                {
                    "name": MODEL,
                    "implementation": "mlserver_sklearn.SKLearnModel",
                    "parameters": {
                        "uri": "./model.joblib",
                        "version": "v1",
                        "extra": {"predict_fn": "predict_proba"},
                    },
                    "inputs": [{"name": "features", "datatype": "FP32", "shape": [-1, FEATURES]}],
                    "outputs": [{"name": "predict_proba", "datatype": "FP64", "shape": [-1, 2]}],
                }
            )
        )

    def start(self) -> None:
        """Return when the model is ready.

        Raises: RuntimeError, with the log, when that takes too long.
        """
        programs = environment()
        model = self._directory / "model.joblib"
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        subprocess.run(
            [str(programs / "python"), "-c", TRAIN, str(model)], check=True, timeout=120, env=environ
        )
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(programs / "mlserver"), "start", str(self._directory)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env=environ,
            )
        deadline = time.monotonic() + START_S
        with grpc.insecure_channel(self.address, options=[("grpc.max_reconnect_backoff_ms", 250)]) as channel:
            ready = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelReady",
                pb.ModelReadyRequest.SerializeToString,
                pb.ModelReadyResponse.FromString,
            )
            while True:
                try:
                    if ready(pb.ModelReadyRequest(name=MODEL), timeout=2, wait_for_ready=True).ready:
                        return
                except grpc.RpcError:
                    pass  # not listening yet
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(f"MLServer did not start:\n{self._log.read_text()[-4000:]}")
                time.sleep(0.1)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> MLServerProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
