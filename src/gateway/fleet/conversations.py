"""Long conversations with control: each begins again by itself, at the next control where there are several.

The pauses grow to a few seconds, and start anew once something came through.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc
import tenacity

from gateway.fleet.controls import Controls

__all__ = ["BROKEN", "Mark", "Quiet", "ended", "on_and_on"]

log = logging.getLogger(__name__)

REST_S: Final = 0.2
"""Between a conversation in which something came through and the next."""


class Quiet(Exception):
    """Control has not answered in time, or has no more to say."""


BROKEN: Final = (grpc.aio.AioRpcError, asyncio.InvalidStateError, Quiet)
"""How conversations end; writing to one that has ended is the second."""


@dataclass(slots=True)
class Mark:
    """Whether anything came through in a conversation."""

    came_through: bool = False


Once = Callable[[Any, Mark], Awaitable[None]]
"""One conversation over a channel; raises one of `BROKEN` when it is over, and returns when it is to rest."""


async def on_and_on(controls: Controls, what: str, once: Once) -> None:
    """Converse until cancelled."""

    def told(state: tenacity.RetryCallState) -> None:
        # The first time and then seldom: a control that is away for an hour is one fact.
        if state.attempt_number in (1, 10, 100, 1000) and state.outcome is not None:
            log.warning("no %s: %s", what, _words(state.outcome.exception()))

    while True:
        await tenacity.AsyncRetrying(
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=3.0),
            retry=tenacity.retry_if_exception_type(BROKEN),
            before_sleep=told,
        )(_attempt, controls, what, once)
        await asyncio.sleep(REST_S)


async def ended(call: Any) -> Exception:
    """How a call ended, as an exception."""
    code = await call.code()
    return Quiet(f"control ended the conversation: {code.name} {await call.details()}")


async def _attempt(controls: Controls, what: str, once: Once) -> None:
    """One conversation; raises how it ended unless something came through."""
    at, channel = controls.now()
    mark = Mark()
    try:
        await once(channel, mark)
    except BROKEN as error:
        controls.failed(at)
        if not mark.came_through:
            raise
        log.info("%s: begun anew: %s", what, _words(error), extra={"control": controls.address(at)})


def _words(error: BaseException | None) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)
