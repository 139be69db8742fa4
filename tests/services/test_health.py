"""What health says of which name, and that a watcher is told of every change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from gateway.services.health import LOOK_S, Health

ANSWER = health_pb2.HealthCheckResponse


@dataclass
class World:
    """The models, how often they were looked at, and the time."""

    models: dict[str, bool] = field(default_factory=lambda: {"spam": True, "lite": False})
    looks: int = 0
    now_s: float = 0.0

    def look(self) -> dict[str, bool]:
        self.looks += 1
        return dict(self.models)

    def health(self, serving: bool = True) -> Health:
        made = Health(["gateway.v1.FeedbackService"], self.look, lambda: self.now_s)
        made.set_serving(serving)
        return made


class Refusing:
    """Stands for the call: remembers how it was refused."""

    async def abort(self, code: grpc.StatusCode, words: str) -> None:
        raise LookupError(code, words)


def test_a_model_is_well_while_it_could_answer_and_the_gateway_serves() -> None:
    world = World()
    health = world.health()
    assert (health.status("spam"), health.status("lite")) == (ANSWER.SERVING, ANSWER.NOT_SERVING)
    health.set_serving(False)
    assert health.status("spam") == ANSWER.NOT_SERVING


@pytest.mark.parametrize("service", ["", "gateway.v1.FeedbackService"])
def test_the_gateway_is_well_whatever_its_models_are(service: str) -> None:
    """A probe that restarts it would mend nothing."""
    assert World({"spam": False}).health().status(service) == ANSWER.SERVING
    assert World().health(serving=False).status(service) == ANSWER.NOT_SERVING


def test_models_are_looked_at_no_more_often_than_needed() -> None:
    world = World()
    health = world.health()
    for _ in range(100):
        health.status("spam")
    assert world.looks == 1
    world.models["spam"] = False
    world.now_s += LOOK_S
    assert (health.status("spam"), world.looks) == (ANSWER.NOT_SERVING, 2)


async def test_an_unknown_name_is_not_found() -> None:
    """Names of an older policy too."""
    context: Any = Refusing()
    with pytest.raises(LookupError) as refused:
        await World().health().Check(health_pb2.HealthCheckRequest(service="nobody"), context)
    assert refused.value.args == (grpc.StatusCode.NOT_FOUND, "no route and no model 'nobody'")


async def test_a_watcher_is_told_of_changes_alone() -> None:
    world = World()
    health = world.health()
    context: Any = Refusing()
    watch = health.Watch(health_pb2.HealthCheckRequest(service="spam"), context)
    told = [(await anext(watch)).status]
    world.models["spam"] = False
    world.now_s += LOOK_S
    told.append((await anext(watch)).status)
    del world.models["spam"]
    world.now_s += LOOK_S
    told.append((await anext(watch)).status)
    await watch.aclose()
    assert told == [ANSWER.SERVING, ANSWER.NOT_SERVING, ANSWER.SERVICE_UNKNOWN]
