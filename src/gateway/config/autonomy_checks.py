"""What a level of autonomy needs of its route: somebody else who answers, a sample that people look at."""

from __future__ import annotations

from gateway.config.faults import Path
from gateway.config.names import Report
from gateway.config.routes import Route
from gateway.config.sampling_checks import models_of
from gateway.config.settings import Settings

__all__ = ["check_autonomy"]


def check_autonomy(path: Path, route: Route, settings: Settings, report: Report) -> None:
    """Levels below autonomous are also where a failed gate leads, so what they need must be there from the start."""
    if route.autonomy is None:
        return
    at = (*path, "autonomy")
    watched = {route.chain[0], *models_of(route)} if route.explore is not None else {route.chain[0]}
    if not set(route.chain) - watched:
        report(
            at,
            "autonomy, and nothing but the model in the chain",
            "a backend behind it, which answers while the model only watches",
            "for example chain: [spam-v3, ham]",
        )
    first = settings.backends.get(route.chain[0])
    if first is not None and first.grpc is None:
        report(at, f"autonomy, and {route.chain[0]} is no model", "a model first in the chain")
    if route.prediction is None:
        report(at, "autonomy without prediction", "prediction: what is read out of the model's answer")
    elif route.review is None:
        report(
            at,
            "autonomy without review",
            "people who look at what the model says",
            "for example review: {per_hour: 60}",
        )
