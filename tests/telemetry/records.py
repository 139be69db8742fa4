"""Batches as the data plane hands them over, made from plain dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gateway.runtime.batch import Batch, PolicyNames
from gateway.types import NO_INDEX, NO_STRING, UNKNOWN

RECORD_COLUMNS: Mapping[str, tuple[str, Any]] = {
    "id_hi": ("u8", 0x0190_0000_0000_7000),
    "id_lo": ("u8", 1),
    "row": ("u4", 0),
    "rows": ("u4", 1),
    "time_us": ("i8", 1_760_000_000_000_000),
    "duration_us": ("u4", 1500),
    "overhead_us": ("f4", 40.0),
    "policy": ("u4", 7),
    "route": ("u2", 0),
    "backend": ("u2", 0),
    "outcome": ("u1", 0),
    "reason": ("u1", 0),
    "rule": ("u2", NO_INDEX),
    "label": ("u4", NO_STRING),
    "flagged": ("u1", UNKNOWN),
    "score": ("f8", np.nan),
    "confidence": ("f8", np.nan),
    "segment": ("u4", 0),
    "unit": ("u8", 0),
    "stratum": ("u1", UNKNOWN),
    "review_pi": ("f4", 0.0),
    "sampled": ("u1", 0),
    "arm": ("u2", NO_INDEX),
    "propensity": ("f4", 1.0),
    "status": ("u1", 0),
    "request_bytes": ("u4", 300),
    "answer_bytes": ("u4", 100),
    "trace_hi": ("u8", 0),
    "trace_lo": ("u8", 0),
    "span": ("u8", 0),
    "parent": ("u8", 0),
    "traced": ("u1", 0),
    "method": ("u4", 1),
}
ATTEMPT_COLUMNS: Mapping[str, tuple[str, Any]] = {
    "record": ("u4", 0),
    "backend": ("u2", 0),
    "reason": ("u1", 0),
    "start_us": ("i8", 1_760_000_000_000_100),
    "duration_us": ("u4", 1200),
    "status": ("u1", 0),
    "span": ("u8", 0),
}
MIRROR_COLUMNS: Mapping[str, tuple[str, Any]] = {
    "time_us": ("i8", 1_760_000_000_000_000),
    "policy": ("u4", 7),
    "route": ("u2", 0),
    "backend": ("u2", 0),
    "to": ("u2", 1),
    "noise": ("u1", 0),
    "segment": ("u4", 0),
    "result": ("u1", 0),
    "agree": ("u1", UNKNOWN),
    "difference": ("f8", np.nan),
    "id_hi": ("u8", 0),
    "id_lo": ("u8", 0),
    "row": ("u4", 0),
}
STRINGS = ("", "/inference.GRPCInferenceService/ModelInfer", "spam", "ham", "/other.Service/Do")
NAMES = {
    7: PolicyNames(("spam", "fraud"), ("spam-v3", "spam-lite", "ham"), (("allow-list", "new"), ("rows",))),
    8: PolicyNames(("fraud", "spam"), ("ham", "spam-v3", "spam-lite"), (("rows",), ("allow-list", "new"))),
}


def columns(spec: Mapping[str, tuple[str, Any]], rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    return {
        name: np.array([row.get(name, default) for row in rows], dtype=kind)
        for name, (kind, default) in spec.items()
    }


def batch(
    records: Sequence[Mapping[str, Any]] = (),
    attempts: Sequence[Mapping[str, Any]] = (),
    mirrors: Sequence[Mapping[str, Any]] = (),
    strings: Sequence[str] = STRINGS,
) -> Batch:
    return Batch(
        columns(RECORD_COLUMNS, records),
        columns(ATTEMPT_COLUMNS, attempts),
        columns(MIRROR_COLUMNS, mirrors),
        list(strings),
        [],
        NAMES,
    )


def traced_batch(calls: int, attempts_each: int = 1, first_id: int = 1) -> Batch:
    """Single-row calls, all traced, with distinct trace and span ids."""
    ids = range(first_id, first_id + calls)
    return batch(
        [{"id_lo": i, "trace_hi": i, "trace_lo": i, "span": i, "traced": 1} for i in ids],
        [
            {"record": at, "span": 1_000_000 * (step + 1) + i}
            for at, i in enumerate(ids)
            for step in range(attempts_each)
        ],
    )
