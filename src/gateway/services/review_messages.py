"""What the ledger says about reviews, as the messages of `gateway.v1`."""

from __future__ import annotations

import uuid

from gateway.ledger import Facts, Lease, QueueStats, RouteClasses, Truth
from gateway.quality.agreement import Agreement
from gateway.services.readable import Messages
from gateway.v1 import review_pb2 as pb

__all__ = ["agreement_of", "answer_of", "prediction_of", "stats_of", "task_of"]


def task_of(
    lease: Lease, number: int, known: RouteClasses, messages: Messages | None, *, show_prediction: bool
) -> pb.ReviewTask:
    """A leased task as a reviewer gets it. `number`: what it is called outside."""
    task = pb.ReviewTask(
        task_id=number,
        token=lease.token,
        lease_until_ms=lease.until_us // 1000,
        queue=lease.queue,
        route=lease.facts.route,
        decision_id=str(uuid.UUID(bytes=lease.decision)),
        row=lease.row,
        classes=known.classes,
        positive=known.positive or "",
        request=lease.request,
        time_ms=lease.facts.time_us // 1000,
        answer_by_ms=(lease.answer_by_us or 0) // 1000,
        due_ms=(lease.due_us or 0) // 1000,
        priority=lease.priority,
        deciding=lease.deciding,
        others=[answer_of(other) for other in lease.others],
    )
    if messages is not None and lease.request:
        read = messages.request(lease.facts.route, lease.request)
        task.request_type, task.request_json = read.type, read.json
    if show_prediction:
        task.prediction.CopyFrom(prediction_of(lease.facts, lease.label, lease.answer, messages))
    return task


def prediction_of(
    facts: Facts, label: str | None, answer: bytes, messages: Messages | None
) -> pb.ShownPrediction:
    """What the model said."""
    shown = pb.ShownPrediction(
        label=label or "", score=facts.score, flagged=facts.flagged, backend=facts.backend, answer=answer
    )
    if messages is not None:
        read = messages.answer(facts.route, answer)
        shown.answer_type, shown.answer_json = read.type, read.json
    return shown


def answer_of(truth: Truth) -> pb.ReviewAnswer:
    """What a reviewer said."""
    return pb.ReviewAnswer(label=truth.label or "", positive=truth.positive)


def stats_of(queue: QueueStats, now_us: int) -> pb.QueueStats:
    """How a queue stands."""
    return pb.QueueStats(
        queue=queue.queue,
        open=queue.open_tasks,
        leased=queue.leased,
        done=queue.done,
        skips=queue.skips,
        oldest_s=0.0 if queue.oldest_us is None else max(0, now_us - queue.oldest_us) / 1e6,
        disputed=queue.disputed,
        skipped=queue.skipped,
        aside=queue.aside,
        overdue=queue.overdue,
    )


def agreement_of(found: Agreement) -> pb.ReviewAgreement:
    """How far reviewers agree."""
    return pb.ReviewAgreement(
        kind=found.kind,
        tasks=found.tasks,
        agree=found.agree,
        kappa=found.kappa,
        low=found.low,
        high=found.high,
    )
