"""Brings the questions of calls to who answers them: people, and processes that judge rules.

The data plane holds the questions, bounds them and times them; here is only the way there and back, on one thread of
its own. What fails here leaves a call without an answer, and the call goes on as its settings say.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from gateway._dataplane import Dataplane
from gateway.runtime.seldom import Seldom

__all__ = ["Answerer", "Desk", "Reply"]

log = logging.getLogger(__name__)

WAIT_MS: Final = 250
"""How long one pull waits for questions; a question that comes ends the wait."""

LOOK_S: Final = 1.0
"""How often the data plane's counts are looked at for questions that it refused."""

REFUSED: Final = {
    "dropped.python_rule.full": "rules in Python were not asked: as many calls as may wait for them were waiting",
    "dropped.people.full": "people were not asked: as many calls as may wait were waiting, or a call was too long",
}

Reply = Callable[[int, Any], bool]
"""Takes a question's number and the answer; False where nobody waits for it any more. From any thread."""


class Answerer(Protocol):
    """Who answers questions of one kind. Both methods return soon."""

    def ask(self, question: Mapping[str, Any]) -> None:
        """Take a question."""

    def withdraw(self, questions: Sequence[int]) -> None:
        """Forget questions."""


class Desk:
    """From `start` to `stop`; the data plane is not this room's to start or stop."""

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._answerers: dict[str, Answerer] = {}
        self._taken: dict[int, Answerer] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._refused: dict[str, int] = defaultdict(int)
        self._look = 0.0
        self._seldom = Seldom()

    def reply(self, question: int, answer: Any) -> bool:
        """See `Reply`."""
        self._taken.pop(question, None)
        return self._dataplane.reply(question, answer)

    def answer(self, kind: str, answerer: Answerer | None) -> None:
        """From now on questions of this kind (`people`, `rule`) go there; those taken before stay where they are."""
        if answerer is None:
            self._answerers.pop(kind, None)
        else:
            self._answerers[kind] = answerer

    def start(self) -> None:
        """Begin to bring questions."""
        self._thread = threading.Thread(target=self._run, name="desk", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Bring what is left, then stop."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._thread = None

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._once(WAIT_MS)
        self._once(0)

    def _once(self, wait_ms: int) -> None:
        asked, withdrawn = self._dataplane.questions(wait_ms)
        for question in asked:
            number, answerer = question["question"], self._answerers.get(question["kind"])
            if answerer is None:
                self._dataplane.reply(number, None)
                continue
            self._taken[number] = answerer
            try:
                answerer.ask(question)
            except Exception:
                log.exception("a question of a call was not taken")
                self.reply(number, None)
        if withdrawn:
            self._withdraw(withdrawn)
        if asked or time.monotonic() >= self._look:
            self._tell_refused()

    def _withdraw(self, withdrawn: Sequence[int]) -> None:
        by: dict[int, tuple[Answerer, list[int]]] = {}
        for number in withdrawn:
            answerer = self._taken.pop(number, None)
            if answerer is not None:
                by.setdefault(id(answerer), (answerer, []))[1].append(number)
        for answerer, numbers in by.values():
            try:
                answerer.withdraw(numbers)
            except Exception:
                log.exception("questions that nobody waits for were not withdrawn")

    def _tell_refused(self) -> None:
        """What did not fit never came here: it is told by the data plane's counts."""
        self._look = time.monotonic() + LOOK_S
        counters = self._dataplane.counters()
        for name, words in REFUSED.items():
            more = counters[name] - self._refused[name]
            if more and self._seldom.due(name, "") is not None:
                self._refused[name] = counters[name]
                log.warning(words, extra={"times": more})
