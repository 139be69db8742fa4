"""`QualityService`: the report, and what gates say, now and from now on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from gateway.errors import NotFound, QualityError
from gateway.ledger import Reader, Window, verdicts
from gateway.ledger.grid import HOUR_US
from gateway.ledger.report import Report as LedgerReport
from gateway.ledger.report import make_report
from gateway.ledger.verdicts import Verdict
from gateway.services.access import Access
from gateway.v1 import quality_pb2 as pb
from gateway.v1 import quality_pb2_grpc

__all__ = ["QualityService"]

USUAL_HOURS: Final = 168.0
MOST_HOURS: Final = 1e6

LOOK_S: Final = 1.0
"""How soon a watcher is told of a new verdict; gates are looked at less often."""

SAID: Final = {"pass": pb.Verdict.PASS, "fail": pb.Verdict.FAIL, "inconclusive": pb.Verdict.INCONCLUSIVE}


class QualityService(quality_pb2_grpc.QualityServiceServicer):
    """Args:
    reader: of the ledger. access: who may do what; asked for each call.
    gates: what every gate says now; blocks. routes: those in force.
    told: a report as JSON has it, with whatever goes with it; blocks. The report alone if absent.
    """

    def __init__(
        self,
        reader: Reader,
        access: Callable[[], Access],
        gates: Callable[[], Sequence[Verdict]],
        routes: Callable[[], Sequence[str]],
        look_s: float = LOOK_S,
        told: Callable[[Window, LedgerReport, int], Mapping[str, Any]] | None = None,
    ) -> None:
        self._told = told
        self._reader, self._access, self._gates, self._routes = reader, access, gates, routes
        self._look_s = look_s

    async def Report(self, request: pb.ReportRequest, context: Any) -> pb.ReportResponse:  # noqa: N802
        """The report of a route, or of all."""
        self._access().demand(context, "viewer")
        hours = request.hours or USUAL_HOURS
        if not 0 < hours <= MOST_HOURS:
            raise QualityError(f"hours: found {hours:g}, wanted a number above 0, such as 168")
        self._known(request.route)
        now_us = time.time_ns() // 1000
        window = Window(now_us - round(hours * HOUR_US), None, request.route or None)
        known = tuple(self._routes())

        def told() -> Mapping[str, Any]:
            made = make_report(self._reader, window, known, now_us=now_us)
            return made.as_dict() if self._told is None else self._told(window, made, now_us)

        return pb.ReportResponse(json=json.dumps(await asyncio.to_thread(told)))

    async def Gates(self, request: pb.GatesRequest, context: Any) -> pb.GatesResponse:  # noqa: N802
        """Every gate's verdict."""
        self._access().demand(context, "viewer")
        self._known(request.route)
        said = await asyncio.to_thread(self._gates)
        return pb.GatesResponse(verdicts=[_message(one) for one in said if request.route in ("", one.route)])

    async def WatchGates(  # noqa: N802
        self, request: pb.GatesRequest, context: Any
    ) -> AsyncIterator[pb.Verdict]:
        """What was said last, then what is said anew."""
        self._access().demand(context, "viewer")
        self._known(request.route)
        route = request.route or None
        seen = await asyncio.to_thread(self._reader.snapshot, verdicts.newest)
        for one in await asyncio.to_thread(self._reader.snapshot, partial(verdicts.latest, route=route)):
            yield _message(one)
        while True:
            await asyncio.sleep(self._look_s)
            newest = await asyncio.to_thread(self._reader.snapshot, verdicts.newest)
            if newest == seen:
                continue
            look = partial(verdicts.between, after=seen, last=newest, route=route)
            for one in await asyncio.to_thread(self._reader.snapshot, look):
                yield _message(one)
            seen = newest

    def _known(self, route: str) -> None:
        if route and route not in (routes := self._routes()):
            raise NotFound(f"there is no route {route!r}; there are {', '.join(routes) or 'none'}")


def _message(one: Verdict) -> pb.Verdict:
    return pb.Verdict(
        time_us=one.time_us,
        policy=one.policy,
        route=one.route,
        gate=one.gate,
        segment=one.segment,
        said=SAID.get(one.verdict, pb.Verdict.SAID_UNSPECIFIED),
        value=one.value,
        low=one.low,
        high=one.high,
        labels=one.labels,
        words=one.words,
    )
