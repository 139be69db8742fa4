"""How much the ledger takes in before it says no; every queue and map of it has its bound here."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds, with the reason counted or the error given where one is met.

    `queued_records`, `queued_capture_bytes`: batches that wait for the writer; beyond, a batch is dropped whole
    (`queue_full`). `queued_jobs`: labels, leases and the like that wait; beyond, LedgerUnavailable. `group_records`:
    records stored in one transaction. `group_jobs`: jobs committed together. `linger_s`: how long records may wait
    for company. `retry_s`: how long a group of records is tried again while the database is full, locked or away,
    before it is dropped. `open_tasks`: open review tasks a queue; beyond, tasks are dropped (`queue_full`).
    `task_bytes`: payload of one captured call; larger ones are dropped whole (`too_large`). `segments`: distinct
    segments a route; further ones are counted as "(other)". `pending_labels`: statements that wait for their
    decision's record; beyond, they are refused (`pending_full`).
    """

    queued_records: int = 200_000
    queued_capture_bytes: int = 64 * 1024 * 1024
    queued_jobs: int = 10_000
    group_records: int = 50_000
    group_jobs: int = 1_000
    linger_s: float = 0.25
    retry_s: float = 30.0
    open_tasks: int = 10_000
    task_bytes: int = 3 * 1024 * 1024
    segments: int = 1_000
    pending_labels: int = 100_000
