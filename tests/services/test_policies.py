"""The book of policies: two who change the policy at once do not undo each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import NotFound, PolicyConflict, QualityError
from gateway.ledger import Ledger
from gateway.runtime import Secrets
from gateway.runtime.learnt import Learnt
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


MODELS = """\
backends: {v3: {grpc: "127.0.0.1:8001"}, ham: {answer: {label: ham, score: 0.0}}}
routes:
  spam: {chain: [v3, ham], prediction: {scores: probabilities, classes: [ham, spam], positive: spam}}
"""


def test_what_was_learnt_stays_until_its_setting_is_changed(book: PolicyBook) -> None:
    """Through settings that say nothing of it, kills and restarts; rolled back, it is as it was then."""
    first = book.publish(MODELS, author="ann", reason="first")
    learnt = book.learn("spam", {"threshold": 0.7, "skip": ["v3"]}, author="autopilot", reason="it fell")
    book.kill("spam", revive=False, author="bob", reason="")
    book.publish(MODELS + "listen: {drain_s: 2}\n", author="ann", reason="second")
    found = book.in_force()
    assert found is not None
    assert found.learnt == {"spam": Learnt(threshold=0.7, skip=("v3",))}
    assert found.document["routes"][0]["chain"] == ["ham"]
    assert found.document["routes"][0]["prediction"]["threshold"] == 0.7
    book.publish(MODELS.replace("positive: spam", "positive: spam, threshold: 0.6"), author="ann", reason="")
    found = book.in_force()
    assert found is not None
    assert found.learnt == {"spam": Learnt(skip=("v3",))}
    for version, threshold in ((first, 0.5), (learnt, 0.7)):
        book.roll_back(version, author="ann", reason="")
        found = book.in_force()
        assert found is not None
        assert found.document["routes"][0]["prediction"]["threshold"] == threshold


def test_what_cannot_be_learnt_makes_no_version(book: PolicyBook) -> None:
    version = book.publish(MODELS, author="ann", reason="first")
    with pytest.raises(NotFound, match="there is no route 'ham'; there are spam"):
        book.learn("ham", {"threshold": 0.7}, author="autopilot", reason="")
    with pytest.raises(QualityError, match="nothing would be left"):
        book.learn("spam", {"skip": ["v3", "ham"]}, author="autopilot", reason="")
    with pytest.raises(PolicyConflict):
        book.learn("spam", {"threshold": 0.7}, author="autopilot", reason="", onto=version + 1)
    assert book.learn("spam", {}, author="autopilot", reason="") == version


def test_a_secret_of_the_settings_is_not_kept_and_todays_is_used(ledger: Crowded, tmp_path: Path) -> None:
    """The ledger may be read by people who must not review in another's name."""
    own = MODELS + 'access: {ann: {role: reviewer, token: "the first secret, which is long"}}\n'
    secrets = Secrets("0" * 64, (b"k" * 32,))
    book = PolicyBook(ledger, secrets, folder=tmp_path, name="settings", own=lambda: own)
    first = book.publish(own, author="serve", reason="start", file=True)
    kept = ledger.find_policy()
    assert kept is not None
    assert "secret" not in str(kept)
    assert not book.file_is_new(own)
    own = own.replace("first", "second")
    book.publish(own, author="serve", reason="", file=True)
    book.roll_back(first, author="ann", reason="")
    found = book.in_force()
    assert found is not None
    token = found.settings.access["ann"].token
    assert token is not None
    assert token.get_secret_value() == "the second secret, which is long"
