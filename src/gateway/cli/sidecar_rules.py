"""Rules in Python beside a sidecar: the functions that its policy names, from the folder that its operator named.

A policy comes from elsewhere, so it runs no function where nobody said that it may (`--rules DIR`). The processes are
started where the policy has such rules, and anew where it names others or the operator asks for it (SIGHUP), as the
code behind them may have changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gateway.errors import GatewayError

if TYPE_CHECKING:
    from gateway.runtime import RuleWorkers
    from gateway.runtime.desk import Answerer, Reply

__all__ = ["SidecarRules"]

log = logging.getLogger(__name__)

USUAL_WORKERS: Final = 2
"""Where a policy of an older control does not say."""

JOIN_S: Final = 2.0


class SidecarRules:
    """On one thread at a time.

    Args:
        folder: where modules are looked for first; None: no policy with such rules is taken.
        answer: from now on questions go there. reply: takes a question's number and the verdict.
    """

    def __init__(
        self, folder: Path | None, answer: Callable[[str, Answerer | None], None], reply: Reply
    ) -> None:
        self._folder, self._answer, self._reply = folder, answer, reply
        self._workers: RuleWorkers | None = None
        self._made_for: tuple[dict[str, int], int] = ({}, 0)

    def prepare(
        self, document: Mapping[str, Any], serving: Mapping[str, Any], *, anew: bool = False
    ) -> Callable[[bool], None]:
        """Have the functions of a policy before it is in force; blocks.

        Returns: to be told whether the policy was taken: what is of no further use ends then.
        Raises: GatewayError, where they cannot be had; what was stays.
        """
        functions = needed(self._folder, document)
        made_for = (functions, int(serving.get("python_workers", USUAL_WORKERS)))
        if made_for == self._made_for and not anew:
            return lambda taken: None
        fresh = None if not functions else self._start(functions, made_for[1])
        before, made_before = self._workers, self._made_for
        self._put(fresh, made_for)

        def settle(taken: bool) -> None:
            if not taken:
                self._put(before, made_before)
            over = before if taken else fresh
            if over is not None:
                over.close()

        return settle

    def close(self) -> None:
        """End the processes."""
        if self._workers is not None:
            self._workers.close()
            self._workers.join(JOIN_S)

    def _put(self, workers: RuleWorkers | None, made_for: tuple[dict[str, int], int]) -> None:
        self._workers, self._made_for = workers, made_for
        self._answer("rule", workers)

    def _start(self, functions: Mapping[str, int], workers: int) -> RuleWorkers:
        from gateway.runtime import RULE_ERRORS, RuleWorkers

        assert self._folder is not None, "looked at by `needed`"
        try:
            made = RuleWorkers(self._folder, functions, workers, self._reply)
        except RULE_ERRORS as error:
            raise GatewayError(
                f"its rules in Python cannot be loaded from {self._folder}: {type(error).__name__} {error}"
            ) from error
        log.info("rules in Python", extra={"functions": ",".join(functions), "workers": workers})
        return made


def needed(folder: Path | None, document: Mapping[str, Any]) -> dict[str, int]:
    """The functions of a policy's rules, with how many arguments they are called.

    Raises: GatewayError, where it has some and there is no folder for them.
    """
    if not any(rule.get("python") for route in document["routes"] for rule in route["rules"]):
        return {}
    from gateway.runtime.rule_workers import functions_in

    functions = functions_in(document)
    if folder is None:
        raise GatewayError(
            f"it has rules in Python ({', '.join(functions)}), and this sidecar runs none: "
            "start it with --rules DIR, the folder of their modules"
        )
    return functions
