"""The book of policies: two who change the policy at once do not undo each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import PolicyConflict
from gateway.ledger import Ledger
from gateway.runtime import Secrets
from gateway.services.policies import TRIES, PolicyBook

SETTINGS = """\
backends: {{ham: {{answer: {{label: ham, score: 0.0}}}}}}
routes:
  spam: {{chain: [ham], prediction: {{scores: probabilities, classes: [ham, spam], positive: spam}}}}
listen: {{drain_s: {drain_s}}}
"""


class Crowded(Ledger):
    """A ledger where another operator is faster: `meanwhile` happens after the newest policy was looked up."""

    meanwhile: Callable[[], Any] | None = None
    times = 0

    def find_policy(self, *args: Any, **kwargs: Any) -> Any:
        found = super().find_policy(*args, **kwargs)
        if self.meanwhile is not None and self.times > 0:
            self.times -= 1
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
            self.meanwhile = meanwhile
        return found


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Crowded]:
    opened = Crowded(f"sqlite:///{tmp_path}/ledger.db")
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def book(ledger: Crowded, tmp_path: Path) -> PolicyBook:
    return PolicyBook(ledger, Secrets("0" * 64, (b"k" * 32,)), folder=tmp_path, name="settings")


def stopped(book: PolicyBook) -> frozenset[str]:
    found = book.in_force()
    assert found is not None
    return found.stopped


def test_settings_that_are_published_while_a_route_is_killed_leave_it_killed(
    ledger: Crowded, book: PolicyBook
) -> None:
    """Whoever stops a model in an emergency must not have to look whether it stayed stopped."""
    book.publish(SETTINGS.format(drain_s=1), author="ann", reason="first")
    ledger.meanwhile = lambda: book.kill("spam", revive=False, author="bob", reason="it went mad")
    ledger.times = 1
    assert book.publish(SETTINGS.format(drain_s=2), author="ann", reason="second") == 3
    assert stopped(book) == {"spam"}


def test_what_was_made_for_a_version_is_not_put_on_another(ledger: Crowded, book: PolicyBook) -> None:
    """Its author has not seen what came in between."""
    made_for = book.publish(SETTINGS.format(drain_s=1), author="ann", reason="first")
    ledger.meanwhile = lambda: book.kill("spam", revive=False, author="bob", reason="it went mad")
    ledger.times = 1
    with pytest.raises(PolicyConflict, match="policy 2 is in force, not 1"):
        book.publish(SETTINGS.format(drain_s=2), author="ann", reason="second", onto=made_for)
    assert stopped(book) == {"spam"}


def test_one_who_is_never_fast_enough_is_told(ledger: Crowded, book: PolicyBook) -> None:
    """Tries end."""
    book.publish(SETTINGS.format(drain_s=1), author="ann", reason="first")
    numbers = iter(range(10, 100))
    ledger.meanwhile = lambda: ledger.keep_policy({"a": next(numbers)}, author="bob", reason="busy")
    ledger.times = 100
    with pytest.raises(PolicyConflict, match="try again"):
        book.publish(SETTINGS.format(drain_s=2), author="ann", reason="second")
    assert ledger.times == 100 - TRIES
