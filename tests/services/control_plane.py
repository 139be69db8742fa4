"""A control plane for tests: a real ledger and a real server on a real socket; receipts are plain JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from gateway.errors import ReceiptError
from gateway.ledger import Ledger, Limits, RouteClasses
from gateway.services import Control, FeedbackRules, Rate
from gateway.v1 import feedback_pb2_grpc, review_pb2_grpc
from tests.ledger.making import CLASSES, NOW_US, Clock, decision

MAX_AGE_H = 24.0
RULES = FeedbackRules(MAX_AGE_H, clock_skew_s=300.0, pending_s=600.0)
ROUTES = {"spam": CLASSES, "topics": RouteClasses(("a", "b", "c"))}


def receipt(number: int, rows: int = 1, route: str = "spam", age_h: float = 0.0, **changes: Any) -> str:
    """What the injected verifier takes for genuine."""
    fields = {
        "id": decision(number).hex(),
        "time_ms": NOW_US // 1000 - int(age_h * 3_600_000),
        "policy": 7,
        "route": route,
        "backend": "spam-v3",
        "segment": "device=phone",
        "arm": None,
        "propensity": 1.0,
        "rows": [
            {
                "score": 0.9,
                "flagged": True,
                "sampled": False,
                "outcome": "model",
                "class": 1,
                "review_pi": 0.25,
            }
        ]
        * rows,
    }
    return json.dumps(fields | changes)


def verify(text: str) -> Mapping[str, Any]:
    """Stands for the runtime's: `forged`, `foreign` and what is no JSON are refused as it would."""
    if text in {"forged", "foreign"}:
        raise ReceiptError(text, f"the receipt is {text}")
    try:
        fields: dict[str, Any] = json.loads(text)
    except ValueError:
        raise ReceiptError("malformed", "the receipt is malformed") from None
    return fields | {"id": bytes.fromhex(fields["id"])}


@dataclass
class Plane:
    """The running parts."""

    ledger: Ledger
    control: Control
    channel: grpc.aio.Channel
    clock: Clock

    @property
    def feedback(self) -> feedback_pb2_grpc.FeedbackServiceAsyncStub:
        return feedback_pb2_grpc.FeedbackServiceStub(self.channel)

    @property
    def review(self) -> review_pb2_grpc.ReviewServiceAsyncStub:
        return review_pb2_grpc.ReviewServiceStub(self.channel)


@asynccontextmanager
async def running(folder: Path, rate: Rate | None = None) -> AsyncIterator[Plane]:
    """A control plane from start to stop."""
    clock = Clock()
    ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}", Limits(linger_s=0.01), clock)
    ledger.open()
    socket = str(folder / "control")
    control = Control(
        socket,
        ledger=ledger,
        verify=verify,
        classes=ROUTES.get,
        rules=lambda: RULES,
        rate=lambda: rate,
        clock_us=clock,
        task_key=b"a key of the tests",
    )
    await control.start()
    control.set_serving(True)
    try:
        async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
            yield Plane(ledger, control, channel, clock)
    finally:
        await control.stop(grace_s=0.5)
        ledger.close()
