"""A ledger with everything that a data set may meet: outcomes, sources, arms, strata, batches, units, captures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from gateway.datasets import Plan, Redaction, export
from gateway.ledger import Ledger, Limits, Reader, Truth
from tests.ledger.making import HOUR_US, NOW_US, batch, decision, label

SALT = "ab" * 32
MADE_US = NOW_US + 40 * 24 * HOUR_US
DAY_US = 24 * HOUR_US


def infer_request(inputs: Mapping[str, tuple[str, NDArray[Any]]], raw: bool = True) -> bytes:
    """A `ModelInferRequest` as tritonclient makes it; by name the datatype and the values."""
    request = pb.ModelInferRequest(model_name="spam")
    for name, (datatype, values) in inputs.items():
        tensor = request.inputs.add(name=name, datatype=datatype, shape=values.shape)
        if datatype == "BYTES":
            texts = [bytes(one) for one in values.ravel().tolist()]
            if raw:
                packed = b"".join(len(one).to_bytes(4, "little") + one for one in texts)
                request.raw_input_contents.append(packed)
            else:
                tensor.contents.bytes_contents.extend(texts)
        elif raw:
            request.raw_input_contents.append(values.tobytes())
        else:
            kind = {"FP32": "fp32", "INT64": "int64", "BOOL": "bool", "FP64": "fp64", "UINT8": "uint"}[
                datatype
            ]
            getattr(tensor.contents, f"{kind}_contents").extend(values.ravel().tolist())
    return request.SerializeToString()


def opened(url: str, **policy: Any) -> Ledger:
    """A new ledger with policies up to the version of the records, 7; `policy` is what is special about them."""
    ledger = Ledger(url, Limits(linger_s=0.01), lambda: MADE_US)
    ledger.open()
    route = {
        "name": "spam",
        "match": {"method": None},
        "prediction": {},
        "review": {"redact": ["inputs.phone"]},
    }
    for number in range(1, 8):
        made_one = {"descriptors": [], "routes": [route], "number": number, **policy}
        assert ledger.keep_policy(made_one, author="test", reason="test") == number
    return ledger


def calls(
    seed: int, count: int, *, first: int = 1, units: int = 40, rows: Sequence[int] = (1, 1, 1, 3)
) -> list[dict[str, Any]]:
    """Calls of some rows each, as the data plane records them, one dictionary a row."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(first, first + count):
        size = int(rng.choice(rows))
        call = {
            "id_lo": number,
            "rows": size,
            "time_us": NOW_US + int(rng.integers(0, 30 * DAY_US)),
            "unit": int(rng.integers(0, units)) * 0x9E37_79B9_7F4A_7C15 % 2**64,
            "outcome": int(rng.choice([0, 0, 0, 0, 1, 2, 4])),
            "segment": int(rng.integers(0, 3)),
            "arm": int(rng.choice([0, 0xFFFF])),
        }
        for row in range(size):
            score = float(rng.random())
            flagged = int(score >= 0.5)
            pi = (0.25, 0.75)[flagged]
            made.append(
                {
                    **call,
                    "row": row,
                    "score": score,
                    "confidence": max(score, 1 - score),
                    "flagged": flagged,
                    "label": 3 + flagged,
                    "stratum": flagged,
                    "review_pi": pi,
                    "sampled": int(rng.random() < pi),
                    "propensity": 0.5 if call["arm"] == 0 else 1.0,
                }
            )
    return made


STRINGS = ("device=phone,country=de", "device=desk", "(other)", "ham", "spam")


def capture(rows: Sequence[Mapping[str, Any]], request: bytes) -> dict[str, Any]:
    """What is captured of a call with these rows."""
    return {
        "id": decision(rows[0]["id_lo"]),
        "rows": [row["row"] for row in rows],
        "route": "spam",
        "queue": "moderation",
        "request": request,
        "answer": b"",
        "policy": 7,
        "time_us": rows[0]["time_us"],
    }


def by_call(records: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The records of each call."""
    found: dict[int, list[Mapping[str, Any]]] = {}
    for record in records:
        found.setdefault(record["id_lo"], []).append(record)
    return list(found.values())


def request_of(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Inputs from which the score could have been computed: `features` [rows, 4], `text` [rows], `once` [2]."""
    size = rows[0]["rows"]
    rng = np.random.default_rng(rows[0]["id_lo"])
    return infer_request(
        {
            "features": ("FP32", rng.random((size, 4)).astype("<f4")),
            "text": ("BYTES", np.array([b"text %d" % row for row in range(size)], dtype=object)),
            "once": ("INT64", np.array([7, rows[0]["id_lo"]], dtype="<i8")),
            "email": ("BYTES", np.array([b"ann@example.org"] * size, dtype=object)),
        }
    )


def write(ledger: Ledger, records: Sequence[Mapping[str, Any]], *, captured: bool = True) -> None:
    """Put records into the ledger as the data plane would, with captures of the sampled."""
    captures = [
        capture(rows, request_of(rows))
        for rows in by_call([one for one in records if one["sampled"]])
        if captured
    ]
    ledger.write_batch(batch(records, strings=STRINGS, captures=captures))
    assert ledger.flush(30.0)


def facts_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the receipt of a record says."""
    return {
        "time_us": record["time_us"] // 1000 * 1000,  # receipts know the time to the millisecond
        "outcome": record["outcome"],
        "score": record["score"],
        "flagged": bool(record["flagged"]),
        "review_pi": record["review_pi"],
        "sampled": bool(record["sampled"]),
        "segment": STRINGS[record["segment"]],
        "arm": "spam-v3" if record["arm"] == 0 else None,
        "propensity": record["propensity"],
    }


def settled(ledger: Ledger, records: Sequence[Mapping[str, Any]]) -> None:
    """Labels that three reviewers came to, not all of one mind."""
    rows = [label(one["id_lo"], row=one["row"], source="review", **facts_of(one)) for one in records]
    shares = [(2, 3)[number % 2] / 3 for number in range(len(rows))]
    told = [
        replace(row, author="bob", agreement=share, reviews=3)
        for row, share in zip(rows, shares, strict=True)
    ]
    ledger.submit_labels(told).result(30.0)


def feedback(ledger: Ledger, records: Sequence[Mapping[str, Any]], seed: int, share: float = 0.5) -> None:
    """What users say of some of the records, drawn or not, later by hours to weeks; some correct themselves."""
    rng = np.random.default_rng(seed)
    rows = []
    for record in records:
        if rng.random() >= share:
            continue
        rows += [
            label(
                record["id_lo"],
                bool(rng.random() < record["score"]),
                row=record["row"],
                source=str(rng.choice(["app", "support"])),
                received_us=record["time_us"] + int(rng.integers(0, 35 * DAY_US)),
                **facts_of(record),
            )
            for _ in range(int(rng.choice([1, 1, 2])))
        ]
    ledger.submit_labels(rows).result(30.0)


def review(ledger: Ledger, records: Sequence[Mapping[str, Any]], most: int | None = None) -> int:
    """A reviewer answers tasks, oldest first; returns how many."""
    score = {(decision(one["id_lo"]), one["row"]): one["score"] for one in records}
    done = 0
    while most is None or done < most:
        task = ledger.lease("moderation", "ann", 600.0).result(10.0)
        if not hasattr(task, "token"):
            break
        positive = score[task.decision, task.row] > 0.6
        truth = Truth("spam" if positive else "ham", positive)
        ledger.submit_review(task.task, task.token, "ann", lambda _route, t=truth: t).result(10.0)
        done += 1
    return done


def fill(url: str) -> None:
    """300 calls, feedback on half of their rows, 120 reviews by one and 11 by three."""
    ledger = opened(url)
    try:
        records = calls(1, 300)
        write(ledger, records)
        feedback(ledger, records, 2)
        assert review(ledger, records, most=120) == 120
        settled(ledger, [one for one in records if one["sampled"]][-11:])
    finally:
        ledger.close()


def made(url: str, out: Path, plan: Plan, **options: Any) -> tuple[dict[str, Any], pl.DataFrame]:
    """The card of an export and all its rows, as polars reads them."""
    reader = Reader.open(url)
    try:
        card = export(
            reader,
            out,
            plan,
            salt_hex=SALT,
            redaction=options.pop("redaction", Redaction()),
            now_us=lambda: MADE_US,
            **options,
        )
    finally:
        reader.close()
    return card, pl.concat([pl.read_parquet(file) for file in sorted(out.glob("*.parquet"))])
