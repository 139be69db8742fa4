"""A sync between a ledger of a test and a project of a real Label Studio."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from gateway.config.label_studio import LabelStudio
from gateway.connectors.label_studio import Api, Sync, config_xml
from gateway.ledger import Ledger, RouteClasses
from gateway.runtime.batch import Batch
from tests.connectors.label_studio_server import OWNER, LabelStudioProcess
from tests.ledger.making import CLASSES, NOW_US, Clock, batch

__all__ = ["QUEUE", "fill", "ids", "labels", "new_project", "syncing", "texts"]

QUEUE = "moderation"
ROUTES = {"spam": CLASSES}


def new_project(studio: LabelStudioProcess) -> int:
    return studio.project(config_xml(["ham", "spam"]))


@contextmanager
def syncing(
    studio: LabelStudioProcess,
    ledger: Ledger,
    clock: Clock,
    project: int,
    *,
    transport: httpx.BaseTransport | None = None,
    routes: dict[str, RouteClasses] | None = None,
    **settings: Any,
) -> Iterator[Sync]:
    told = {"queues": {QUEUE: {"project": project, "at_most": settings.pop("at_most", 200)}}, **settings}
    block = LabelStudio.model_validate({"url": studio.url, "token": studio.tokens[OWNER], **told})
    api = Api(studio.url, studio.tokens[OWNER], transport=transport)
    known = ROUTES if routes is None else routes
    try:
        yield Sync(
            block,
            ledger,
            api,
            classes=known.get,
            queue_classes=lambda queue: CLASSES.classes,
            messages=lambda: None,
            clock_us=clock,
        )
    finally:
        api.close()


def fill(ledger: Ledger, count: int, first: int = 1) -> list[bytes]:
    """Sampled calls of one row each, whose text is `mail <number>`. Returns: their decision ids."""
    made = [uuid.uuid4() for _ in range(count)]
    for number, one in enumerate(made, first):
        ledger.write_batch(_sampled(one, f"mail {number}"))
    assert ledger.flush()
    return [one.bytes for one in made]


def _sampled(decision: uuid.UUID, text: str) -> Batch:
    request = pb.ModelInferRequest(model_name="spam")
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[1, 1])
    tensor.contents.bytes_contents.append(text.encode())
    record = {
        "id_hi": np.uint64(decision.int >> 64),
        "id_lo": np.uint64(decision.int & (2**64 - 1)),
        "sampled": 1,
        "review_pi": 0.25,
        "score": 0.9,
        "flagged": 1,
        "stratum": 1,
        "segment": 0,
        "label": 1,
    }
    capture = {
        "id": decision.bytes,
        "rows": [0],
        "route": "spam",
        "queue": QUEUE,
        "request": request.SerializeToString(),
        "answer": b"",
        "policy": 7,
        "time_us": NOW_US,
    }
    return batch([record], strings=["", "spam"], captures=[capture])


def ids(studio: LabelStudioProcess, project: int) -> list[int]:
    return [int(task["id"]) for task in studio.tasks(project)]


def texts(studio: LabelStudioProcess, project: int) -> list[str]:
    return [task["data"]["request"] for task in studio.tasks(project)]


def labels(ledger: Ledger) -> list[tuple[str, str, str, int, float]]:
    """Label, source, author, revision, inclusion probability; in the order in which they were written."""
    import sqlalchemy as sa

    from gateway.ledger import schema

    names = ("label", "source", "author", "revision", "review_pi")
    query = sa.select(*(schema.labels.c[name] for name in names)).order_by(schema.labels.c.id)
    return ledger.reader.snapshot(lambda connection: [tuple(row) for row in connection.execute(query)])
