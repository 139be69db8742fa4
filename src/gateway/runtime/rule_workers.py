"""Rules in Python: judged in processes of their own, a few at a time, within their time.

In: questions that calls wait with. Out: whether a rule holds, or that there is no answer; then the rule's own
`otherwise` counts, which the data plane knows. Processes and not threads: a function that spins would take the
interpreter from feedback, review and metrics, and one that never comes back could not be ended. Nothing here knows
settings: a sidecar runs it by the policy that control made.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.runtime.rule_process import Ended, Hung, NotLoaded, RuleProcess, Said, Verdict
from gateway.runtime.seldom import Seldom

__all__ = ["RULE_ERRORS", "RuleWorkers", "functions_in"]

log = logging.getLogger(__name__)

RULE_ERRORS: Final = (NotLoaded, Ended, Hung)
"""What the making of processes may raise."""

RESTART_S: Final = 1.0
"""Rest before a process that could not be started is tried again."""


def functions_in(document: Mapping[str, Any]) -> dict[str, int]:
    """The functions that a policy's rules name, with how many arguments they are called, as `functions_of` settings."""
    found: dict[str, int] = {}
    for route in document["routes"]:
        for rule in route["rules"]:
            if name := rule.get("python"):
                found[name] = max(found.get(name, 0), 2 if rule["on"] == "request" else 3)
    return found


@dataclass(frozen=True, slots=True)
class _Question:
    number: int
    function: str
    values: bytes
    timeout_s: float
    until: float


class RuleWorkers:
    """Some processes, a thread before each.

    Args:
        folder: where modules are looked for first. functions: see `functions_of`. workers: processes.
        reply: takes a question's number and the verdict; from any thread.
    Raises: NotLoaded, Ended, Hung; nothing runs then.
    """

    def __init__(
        self,
        folder: Path,
        functions: Mapping[str, int],
        workers: int,
        reply: Callable[[int, Verdict], object],
    ) -> None:
        self._folder, self._functions, self._reply = folder, dict(functions), reply
        self._waiting: OrderedDict[int, _Question] = OrderedDict()
        self._under_way: dict[int, str] = {}
        self._wake = threading.Condition()
        self._closing = False
        self._seldom = Seldom()
        self.ended = 0
        processes: list[RuleProcess] = []
        try:
            processes.extend(RuleProcess(folder, self._functions) for _ in range(workers if functions else 0))
        except BaseException:
            for process in processes:
                process.kill()
            raise
        self._threads = [
            threading.Thread(target=self._run, args=(process,), name=f"rules-{number}", daemon=True)
            for number, process in enumerate(processes)
        ]
        for thread in self._threads:
            thread.start()

    def ask(self, question: Mapping[str, Any]) -> None:
        """Take a question of the desk; it is answered, withdrawn, or left without an answer when its time is up."""
        made = _Question(
            question["question"],
            question["function"],
            question["values"],
            question["timeout_s"],
            time.monotonic() + question["timeout_s"],
        )
        with self._wake:
            if self._closing or made.function not in self._functions:
                self._reply(made.number, None)
                return
            self._waiting[made.number] = made
            self._wake.notify()

    def withdraw(self, questions: Sequence[int]) -> None:
        """Nobody waits for these any more: their time is up, or their callers went away."""
        with self._wake:
            late = [self._waiting.pop(number, None) for number in questions]
            names = [question.function for question in late if question is not None]
            names += [self._under_way[number] for number in questions if number in self._under_way]
        for name in names:
            self._tell(name, "late", "did not answer in time")

    def close(self) -> None:
        """Answer what waits, then end the processes; returns at once."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()

    def join(self, timeout_s: float) -> None:
        """Wait for the threads to end."""
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self, process: RuleProcess | None) -> None:
        while (question := self._next()) is not None:
            process = process or self._restart()
            said = None if process is None else self._ask(process, question)
            with self._wake:
                self._under_way.pop(question.number, None)
            late = said is not None and said.failed == "late"
            if not late and question.until > time.monotonic():  # else the call has gone on by itself
                self._reply(question.number, None if said is None else said.verdict)
            if late:
                self._tell(question.function, "late", "did not answer in time")
            elif said is None and process is not None:
                process.kill()
                process = None
                self.ended += 1
            elif said is not None and said.failed:
                self._tell(
                    question.function,
                    "failed",
                    f"{said.failed} at {said.where}" if said.where else said.failed,
                )
        if process is not None:
            process.close()

    def _next(self) -> _Question | None:
        with self._wake:
            while True:
                while self._waiting:
                    _, question = self._waiting.popitem(last=False)
                    if question.until > time.monotonic():
                        self._under_way[question.number] = question.function
                        return question
                if self._closing:
                    return None
                self._wake.wait()

    def _ask(self, process: RuleProcess, question: _Question) -> Said | None:
        """None where the process is of no further use."""
        left = max(0.001, question.until - time.monotonic())
        try:
            return process.ask(question.function, question.values, left)
        except Hung:
            self._tell(
                question.function, "hung", "does not come back: its process was ended and started anew"
            )
        except Ended:
            self._tell(question.function, "ended", "ended its process, which was started anew")
        return None

    def _restart(self) -> RuleProcess | None:
        try:
            return RuleProcess(self._folder, self._functions)
        except (NotLoaded, Ended, Hung) as error:
            self._tell("(all)", "start", f"cannot be loaded any more: {type(error).__name__}")
            with self._wake:
                self._wake.wait_for(lambda: self._closing, RESTART_S)
            return None

    def _tell(self, function: str, kind: str, words: str) -> None:
        """Into the log, seldom, and never with anything of the call."""
        count = self._seldom.due(function, kind)
        if count is not None:
            log.warning("rule in Python %s %s", function, words, extra={"times": count})
