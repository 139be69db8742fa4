"""What is waited for: jobs on a connection, committed together, each failing by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar

import sqlalchemy as sa

from gateway.ledger import labels
from gateway.ledger.database import is_unavailable
from gateway.ledger.review import counts

__all__ = ["CONFLICTS", "Job", "LabelJob", "is_one", "work", "work_bare"]

T = TypeVar("T")

CONFLICTS: Final = 5
"""Tries of what another process's transaction was in the way of."""


@dataclass(slots=True)
class Job(Generic[T]):
    """Work on a connection, and who waits for it. A job that raises leaves nothing behind."""

    work: Callable[[sa.Connection], T]
    future: Future[T]


@dataclass(slots=True)
class LabelJob:
    """Labels that one caller sent together; those of several callers are written in one go."""

    rows: Sequence[labels.LabelRow]
    future: Future[list[labels.Kept]]


def is_one(group: Sequence[Job[Any] | LabelJob]) -> bool:
    """Whether the group is one piece of work: a single job, or labels, which are written in one go."""
    return len(group) == 1 or all(isinstance(job, LabelJob) for job in group)


def work_bare(connection: sa.Connection, group: Sequence[Job[Any] | LabelJob]) -> list[Any]:
    """The results of a group that `is_one`, without a savepoint, which is two round trips of a server's.

    Raises: what the work raises; then the transaction must be given up, and nothing of it is left.
    """
    with counts.counting(connection):
        [first, *_] = group
        if not isinstance(first, LabelJob):
            return [first.work(connection)]
        together = [job for job in group if isinstance(job, LabelJob)]
        following = iter(labels.keep(connection, [row for job in together for row in job.rows]))
        return [[next(following) for _ in job.rows] for job in together]


def work(connection: sa.Connection, group: Sequence[Job[Any] | LabelJob]) -> list[Any]:
    """The results of jobs, or the exception where one failed by itself, in order."""
    with counts.counting(connection):
        return _results(connection, group)


def _results(connection: sa.Connection, group: Sequence[Job[Any] | LabelJob]) -> list[Any]:
    together = [job for job in group if isinstance(job, LabelJob)]
    rows = [row for job in together for row in job.rows]
    kept = _tried(connection, lambda inner: labels.keep(inner, rows)) if rows else []
    following = iter(kept) if isinstance(kept, list) else None
    results: list[Any] = []
    for job in group:
        if not isinstance(job, LabelJob):
            results.append(_tried(connection, job.work))
        elif following is not None:
            results.append([next(following) for _ in job.rows])
        else:  # one of them cannot be kept: find out which, and keep the others
            results.append(_tried(connection, partial(labels.keep, rows=job.rows)))
    return results


def _tried(connection: sa.Connection, work: Callable[[sa.Connection], T]) -> T | Exception:
    """Within a savepoint, so that what fails by its own fault leaves nothing and the others' work stands.

    Where another process was first to write the same key, a second look finds what it wrote.
    """
    for left in reversed(range(CONFLICTS)):
        try:
            with counts.undone_by_errors(connection), connection.begin_nested():
                return work(connection)
        except sa.exc.IntegrityError as error:
            if not left:
                return error
        except Exception as error:
            if is_unavailable(error):
                raise
            return error
    raise AssertionError("unreachable")
