"""The gateway as a peer: one worker, a confidence floor, two rules, trailers and a receipt; records are drained.

Run as a process of its own, so that its CPU time is its own: `python gateway_peer.py BACKEND_PORT [SHADOW_PORT]`.
Prints its port. With a shadow, every call is mirrored to it.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from typing import Any

from gateway._dataplane import Dataplane, Policy

__all__ = ["document"]


def document(backend: str, shadow: str | None = None) -> dict[str, Any]:
    """A policy as usual settings make it."""
    usual: dict[str, Any] = {
        "kind": "grpc",
        "model": None,
        "version": None,
        "timeout_ms": None,
        "max_in_flight": 4096,
        "connect_timeout_ms": 300,
        "retry": {"attempts": 2, "methods": [], "budget_share": 0.2, "budget_per_s": 10.0, "jitter": 0.2},
        "circuit": {
            "failures": 7,
            "success_rate": 0.5,
            "min_calls": 100,
            "probe_first_s": 1,
            "probe_last_s": 60,
        },
        "warm": 1,
    }
    mirror = {"to": "shadow", "share": 1.0, "max_in_flight": 64, "max_bytes": 4194304, "timeout_ms": 1000}
    rule: dict[str, Any] = {
        "name": "allow-list",
        "on": "request",
        "then": {"kind": "answer", "backend": "ham"},
    }
    return {
        "version": 1,
        "salt": "5a" * 32,
        "receipt_keys": ["c3" * 32],
        "default_backend": None,
        "identity": {"unit": {"metadata": "x-user-id"}, "segments": []},
        "lists": {"trusted": ["a@example.org"]},
        "limits": {
            "buffer_bytes": 65536,
            "replay_bytes": 4194304,
            "answer_bytes": 16777216,
            "request_head_bytes": 65536,
            "max_rows": 65536,
        },
        "trace_share": 0.01,
        "backends": [
            {"name": "spam-v3", "endpoints": [backend], **usual},
            *([{"name": "shadow", "endpoints": [shadow], **usual}] if shadow else []),
            {"name": "ham", "kind": "static", "label": "ham", "score": 0.0, "scores": None, "value": None},
        ],
        "routes": [
            {
                "name": "spam",
                "match": {"model": "spam", "method": None, "metadata": {}},
                "chain": ["spam-v3", "ham"],
                "deadline_ms": None,
                "prediction": {
                    "scores": "probabilities",
                    "label": None,
                    "confidence": None,
                    "value": None,
                    "classes": ["ham", "spam"],
                    "positive": "spam",
                    "threshold": 0.5,
                    "datatype": "FP32",
                },
                "check": {"range": [0, 1], "sum": 1.0, "sum_tolerance": 0.001, "labels": None},
                "confidence": {
                    "measure": "max_probability",
                    "floor": 0.8,
                    "per_label": {},
                    "per_segment": {},
                },
                "rules": [
                    {**rule, "when": 'metadata["x-sender"] in lists.trusted'},
                    {
                        "name": "doubtful",
                        "on": "prediction",
                        "when": 'prediction.label == "spam" && prediction.score < 0.6',
                        "then": {"kind": "next"},
                    },
                ],
                "holdout": None,
                "mirror": [mirror] if shadow else [],
                "review": None,
                "kill_switch": False,
            }
        ],
    }


def main() -> None:
    options = {
        "inference": "127.0.0.1:0",
        "workers": 1,
        "control_socket": None,
        "ring_rows": 262144,
        "capture_bytes": 1 << 20,
    }
    backends = [f"127.0.0.1:{port}" for port in sys.argv[1:]]
    plane = Dataplane(json.dumps(options), Policy(json.dumps(document(*backends))))
    print(plane.start()["inference"].rsplit(":", 1)[1], flush=True)
    stopping = threading.Event()

    def drain() -> None:
        while not stopping.is_set():
            plane.drain(200)

    drainer = threading.Thread(target=drain)
    drainer.start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    stopping.set()
    plane.shutdown(1000)
    drainer.join()
    if dropped := plane.counters()["dropped.records.full"]:
        print(f"{dropped} records dropped", file=sys.stderr)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
