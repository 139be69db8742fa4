"""A policy book on a ledger, and a clock: what acts and moves work on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.config import Settings
from gateway.ledger import Ledger
from gateway.runtime import Secrets
from gateway.runtime.learnt import Learnt
from gateway.services.policies import InForce, PolicyBook

__all__ = ["HOUR_US", "NOW_US", "Ruled"]

NOW_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000

SETTINGS = """\
backends:
  v3: {{grpc: "127.0.0.1:8001"}}
  v4: {{grpc: "127.0.0.1:8002"}}
  lite: {{grpc: "127.0.0.1:8003"}}
  ham: {{answer: {{label: ham, score: 0.0}}}}
routes:
  spam:
    chain: [v3, lite, ham]
    prediction: {{scores: probabilities, classes: [ham, spam], positive: spam}}
    confidence: {{floor: 0.6}}
    explore: {{arms: {{v3: 0.5, v4: 0.5}}}}
    review: {{share: 0.01}}
{more}
"""


class Ruled:
    """Settings in force, as a gateway has them."""

    def __init__(self, ledger: Ledger, folder: Path, more: str = "") -> None:
        self.ledger = ledger
        self.book = PolicyBook(ledger, Secrets("0" * 64, (b"k" * 32,)), folder=folder, name="settings")
        self.book.publish(SETTINGS.format(more=more), author="serve", reason="start")
        self.changes = 0

    @property
    def now(self) -> InForce:
        found = self.book.in_force()
        assert found is not None
        return found

    @property
    def settings(self) -> Settings:
        return self.now.settings

    def learnt(self, route: str) -> Learnt:
        return self.now.learnt.get(route, Learnt())

    def change(self, make: Callable[[], int]) -> int:
        self.changes += 1
        return make()
