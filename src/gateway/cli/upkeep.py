"""What a gateway does for its ledger now and then: rolls tallies, takes away what is old, gives room back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gateway.config import Settings
from gateway.errors import GatewayError
from gateway.ledger import Ledger
from gateway.ledger.retention import Keep

__all__ = ["PERIOD_S", "Upkeep", "keep_of"]

log = logging.getLogger(__name__)

PERIOD_S: Final = 60.0
"""What comes in between may stand beyond the limit of size."""

HOUR_US: Final = 3_600_000_000


def keep_of(settings: Settings) -> Keep:
    """The settings' hours as the ledger wants them."""
    of = settings.retention

    def us(hours: float | None) -> int | None:
        return None if hours is None else round(hours * HOUR_US)

    return Keep(
        decisions_us=us(of.decisions_h),
        captures_us=us(of.captures_h),
        labels_us=us(of.labels_h),
        tallies_us=us(of.tallies_h),
        policies_us=us(of.policies_h),
        audit_us=us(of.audit_h),
        max_bytes=of.max_bytes,
    )


class Upkeep:
    """Runs beside the gateway; `settings` gives those in force."""

    def __init__(self, ledger: Ledger, settings: Callable[[], Settings]) -> None:
        self._ledger = ledger
        self._settings = settings
        self._was_over = False

    async def run(self) -> None:
        """Work until cancelled; what cannot be done now is done the next time."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                await asyncio.to_thread(self.once)
            except GatewayError as error:
                log.warning("the ledger was not tidied: %s; tried again in %g s", error, PERIOD_S)
            except Exception:
                log.exception("the ledger was not tidied; tried again in %g s", PERIOD_S)

    def once(self) -> None:
        """One round; blocks. Raises: LedgerUnavailable."""
        done = self._ledger.tidy(keep_of(self._settings()))
        if done.deleted:
            log.info("retention", extra={"deleted": dict(done.deleted)})
        if done.over_bytes and not self._was_over:
            log.warning(
                "the ledger holds %d bytes more than retention.max_bytes, and nothing is left that may be deleted: "
                "labels, tallies and open tasks stay; raise max_bytes, or keep labels and tallies for less long",
                done.over_bytes,
            )
        self._was_over = bool(done.over_bytes)
