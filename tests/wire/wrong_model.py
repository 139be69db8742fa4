"""A model that can be made to go wrong, callers who ask it, and people who see the request and say the truth."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as oip

from gateway.v1 import review_pb2 as pb
from gateway.v1.review_pb2_grpc import ReviewServiceStub
from tests.wire.clients import INFER
from tests.wire.conftest import MAIN_SETTINGS
from tests.wire.servers import ScriptedServer, answer

__all__ = ["AWAY", "WINDOW", "Caller", "Model", "quality_settings", "reviewers"]

WINDOW = 200
"""Labels, before the model goes wrong and after it."""


AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
"""What a caller gets of a gateway or control that was killed."""


class Model:
    """Says spam where the first feature says so, and where `wrong` says so of ham. Deterministic."""

    def __init__(self) -> None:
        self.wrong = 0.0
        self._dice = np.random.default_rng(7)

    def __call__(self, request: oip.ModelInferRequest, context: Any) -> bytes:
        spam = bool(np.frombuffer(request.raw_input_contents[0], "<f4")[0] > 0.5)
        flagged = spam or self._dice.random() < self.wrong
        return answer(request, [(0.05, 0.95) if flagged else (0.95, 0.05)])


def asked(number: int, spam: bool) -> oip.ModelInferRequest:
    made = oip.ModelInferRequest(model_name="spam", id=f"call-{number}")
    made.inputs.add(name="features", datatype="FP32", shape=[1, 1])
    made.raw_input_contents.append(np.float32(1.0 if spam else 0.0).tobytes())
    return made


class Caller:
    """Calls, a third of them spam."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._ask = self._channel.unary_unary(
            INFER, oip.ModelInferRequest.SerializeToString, oip.ModelInferResponse.FromString
        )
        self._numbers = itertools.count()

    def call(self) -> str:
        """Who answered."""
        number = next(self._numbers)
        _, call = self._ask.with_call(asked(number, number % 3 == 0), timeout=10)
        return {str(key): str(value) for key, value in call.trailing_metadata()}["gateway-backend"]

    def close(self) -> None:
        self._channel.close()


@contextmanager
def reviewers(address: str, people: int = 4) -> Iterator[list[int]]:
    """People who see the request, and say the truth; how many each has answered."""
    done, enough = [0] * people, threading.Event()

    def work(mine: int) -> None:
        with grpc.insecure_channel(address) as channel:
            reviews = ReviewServiceStub(channel)
            while not enough.is_set():
                name = f"reviewer-{mine}"
                try:
                    leased = reviews.Lease(pb.LeaseRequest(queue="moderation", reviewer=name), timeout=10)
                except grpc.RpcError as error:
                    if error.code() not in AWAY:
                        raise
                    time.sleep(0.1)
                    continue
                if not leased.HasField("task"):
                    time.sleep(0.02)
                    continue
                task = leased.task
                seen = oip.ModelInferRequest.FromString(task.request)
                spam = bool(np.frombuffer(seen.raw_input_contents[0], "<f4")[0] > 0.5)
                try:
                    reviews.Submit(
                        pb.SubmitReviewRequest(
                            task_id=task.task_id,
                            token=task.token,
                            reviewer=name,
                            label="spam" if spam else "ham",
                        ),
                        timeout=10,
                    )
                except grpc.RpcError as error:
                    # Not acknowledged: the task is leased again, or was answered.
                    if error.code() not in (*AWAY, grpc.StatusCode.FAILED_PRECONDITION):
                        raise
                    continue
                done[mine] += 1

    threads = [threading.Thread(target=work, args=(mine,), daemon=True) for mine in range(people)]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        enough.set()
        for thread in threads:
            thread.join(15)


def quality_settings(main: ScriptedServer) -> dict[str, Any]:
    gate = {
        "name": "precision-holds",
        "metric": "precision",
        "at_least": 0.9,
        "window_h": 1,
        "min_labels": 30,
        "then": "roll_back",
    }
    route = {
        **MAIN_SETTINGS,
        "chain": ["main", "ham"],
        "review": {"queue": "moderation", "share": 1.0, "capture": ["inputs"]},
        "gates": [gate],
    }
    return {
        "autopilot": {"every_s": 0.5},
        "backends": {
            "main": {"grpc": main.address, "model": "main"},
            "ham": {"answer": {"label": "ham", "score": 0.0}},
        },
        "routes": {"spam": route},
    }
