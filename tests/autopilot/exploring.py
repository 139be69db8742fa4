"""A route that explores, in force in a ledger of its own, and labels for it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gateway.autopilot.exploration import KIND, Exploration
from gateway.ledger import Facts, LabelRow, Ledger, Truth, acts
from gateway.runtime import Secrets
from gateway.services.policies import InForce, PolicyBook
from tests.autopilot.standing import NOW_US

__all__ = ["FACTS", "LEARNING", "SETTINGS", "Explored", "decisions"]

FACTS = Facts(NOW_US, 1, "spam", "v3", "", 0, 0.9, True, 0.5, True, "v3", 0.5)

SETTINGS = """\
backends:
  v3: {{grpc: "127.0.0.1:8001", version: "{version}"}}
  v4: {{grpc: "127.0.0.1:8002"}}
  ham: {{answer: {{label: ham, score: 0.0}}}}
routes:
  spam:
    chain: [v3, ham]
    prediction: {{scores: probabilities, classes: [ham, spam], positive: spam}}
    gates: [{{name: holds, metric: precision, at_least: 0.5}}]
    explore: {{arms: [v3, v4], {explore}}}
{more}
"""

LEARNING = "algorithm: thompson, cap: 1, every_s: 3600"
decisions = itertools.count(1)


class Explored:
    """A route that explores, in force in a ledger of its own."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger = ledger
        self.book = PolicyBook(ledger, Secrets("0" * 64, (b"k" * 32,)), folder=folder, name="settings")
        self.now_us = NOW_US
        self.part = self.restarted()

    def restarted(self) -> Exploration:
        """A process that remembers nothing but the ledger."""
        return Exploration(self.ledger, self.book, lambda make: make())

    def settings(self, explore: str = LEARNING, more: str = "", version: str = "3") -> None:
        text = SETTINGS.format(explore=explore, more=more, version=version)
        self.book.publish(text, author="serve", reason="start")

    @property
    def standing(self) -> InForce:
        found = self.book.in_force()
        assert found is not None
        return found

    @property
    def shares(self) -> dict[str, float]:
        [route] = self.standing.document["routes"]
        return {one["backend"]: one["share"] for one in route["explore"]["arms"]} if route["explore"] else {}

    @property
    def state(self) -> Mapping[str, Any]:
        return self.ledger.states(KIND)["spam", ""]

    def look(self, after_s: float = 0.0) -> str:
        """One look, some time later; why shares stay or moved."""
        self.now_us += round(after_s * 1e6)
        self.part.look(self.standing, self.now_us)
        return str(self.state["why"])

    def say(
        self, arm: str, right: int, wrong: int, age_s: float = 60.0, after_s: float = 1.0, **facts: Any
    ) -> None:
        """Labels of predictions of that age, which came some time after them; `source` and the rest as given."""
        source = facts.pop("source", "user")
        made = self.now_us - round(age_s * 1e6)
        share = self.shares.get(arm, 0.5)
        known = replace(FACTS, arm=arm, backend=arm, propensity=share, time_us=made, **facts)
        rows = [
            LabelRow(
                next(decisions).to_bytes(16, "big"),
                0,
                source,
                Truth(positive=is_right == known.flagged),
                known,
                made + round(after_s * 1e6),
            )
            for is_right in [True] * right + [False] * wrong
        ]
        self.ledger.submit_labels(rows).result()

    def acted(self) -> list[tuple[str, str, str]]:
        found = self.ledger.reader.snapshot(partial(acts.history, route="spam"))
        return [(one.act, one.state, one.words) for one in found]
