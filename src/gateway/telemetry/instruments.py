"""The catalogue of what is measured: names, kinds, units, attributes and limits, in one place.

Both ways out (OTLP and Prometheus text) render from it, and a point that is not in it is refused, so that no
metric can appear by accident. The `rpc.*` names are those of the semantic conventions; they stand here as
text because importing the conventions' package costs 3 MB in every sidecar. A test compares them with the
installed conventions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from gateway.types import STATUS_NAMES

__all__ = [
    "CATALOGUE",
    "ERROR_TYPE",
    "OVERFLOW",
    "RPC_METHOD",
    "RPC_STATUS_CODE",
    "RPC_SYSTEM_NAME",
    "SERIES_LIMIT",
    "UNRECOGNISED_METHOD",
    "Instrument",
    "Kind",
    "status_name",
]

RPC_SYSTEM_NAME: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS_CODE: Final = "rpc.response.status_code"
ERROR_TYPE: Final = "error.type"
UNRECOGNISED_METHOD: Final = "_OTHER"
"""What the conventions want for a method nobody serves: a caller may invent any number of names."""

OVERFLOW: Final = "otel.metric.overflow"
"""Marks the one series that takes what came after an instrument's limit (OpenTelemetry metrics SDK,
cardinality limits).
"""

SERIES_LIMIT: Final = 1000
"""Series that one instrument may have, unless it says otherwise."""


def status_name(code: int) -> str:
    """The gRPC status as the conventions spell it; codes beyond the list keep their number."""
    return STATUS_NAMES[code] if 0 <= code < len(STATUS_NAMES) else f"CODE_{code}"


Kind = Literal["counter", "updown", "gauge", "histogram"]

# The conventions' advice for RPC durations, with finer steps below: a small model answers in less than their
# first.
# fmt: off
_CALL_SECONDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075,
    0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)
_OVERHEAD_SECONDS: Final = (
    1e-5, 2.5e-5, 5e-5, 7.5e-5, 1e-4, 1.5e-4, 2.5e-4, 5e-4, 7.5e-4,
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
)
_SCORE_DIFFERENCE: Final = (
    -1.0, -0.5, -0.25, -0.1, -0.05, -0.02, -0.01, -0.001, 0.0,
    0.001, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0,
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric.

    `attributes`: every key a series may carry. `unit`: UCUM, as OTLP sends it; `{thing}` is an annotation
    that Prometheus leaves out. `bounds`: upper, inclusive edges of a histogram's buckets, in the unit.
    """

    name: str
    kind: Kind
    unit: str
    text: str
    attributes: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    series_limit: int = SERIES_LIMIT


_RPC = (RPC_SYSTEM_NAME, RPC_METHOD, RPC_STATUS_CODE, ERROR_TYPE)

CATALOGUE: Final = {
    instrument.name: instrument
    for instrument in (
        Instrument(
            "rpc.server.call.duration",
            "histogram",
            "s",
            "Calls as their callers see them.",
            _RPC,
            _CALL_SECONDS,
        ),
        Instrument(
            "rpc.client.call.duration",
            "histogram",
            "s",
            "Attempts at backends.",
            (*_RPC, "backend"),
            _CALL_SECONDS,
        ),
        Instrument(
            "gateway.decisions",
            "counter",
            "{decision}",
            "Decisions, one per row of a call.",
            ("route", "outcome", "reason"),
        ),
        Instrument(
            "gateway.overhead",
            "histogram",
            "s",
            "The gateway's own time in a call: all of it, less what was spent waiting on backends.",
            ("route",),
            _OVERHEAD_SECONDS,
        ),
        Instrument(
            "gateway.attempts",
            "counter",
            "{attempt}",
            "Attempts at backends, by how each ended.",
            ("route", "backend", "reason"),
        ),
        Instrument("gateway.in_flight", "updown", "{call}", "Calls under way."),
        Instrument("gateway.cancelled", "counter", "{call}", "Calls that their callers gave up."),
        Instrument(
            "gateway.hedges",
            "counter",
            "{call}",
            "Calls whose late attempt got another beside it (begun), and those that the other answered (first).",
            ("result",),
        ),
        Instrument(
            "gateway.retries",
            "counter",
            "{attempt}",
            "Calls made again at the same backend: it had failed, or not taken the call up (unprocessed).",
            ("reason",),
        ),
        Instrument(
            "gateway.units",
            "gauge",
            "{unit}",
            "Units that are remembered, for loop_guard and for session.",
            ("what",),
        ),
        Instrument(
            "gateway.circuit.state",
            "gauge",
            "{state}",
            "1 for the state that a backend's circuit is in.",
            ("backend", "state"),
        ),
        Instrument(
            "gateway.mirror",
            "counter",
            "{prediction}",
            "Mirrored predictions: agreed, disagreed, scored (no label), answered (nothing is read) or failed. "
            "Noise: the primary's twin was compared.",
            ("route", "to", "result", "noise", "segment"),
        ),
        Instrument(
            "gateway.mirror.difference",
            "histogram",
            "1",
            "The shadow's score less the primary's; with noise its twin's.",
            ("route", "to", "noise", "segment"),
            _SCORE_DIFFERENCE,
        ),
        Instrument(
            "gateway.dropped",
            "counter",
            "{item}",
            "What did not fit and was left out, whole: copies, spans, records, series.",
            ("what", "reason"),
        ),
        Instrument(
            "gateway.deleted",
            "counter",
            "{row}",
            "What the ledger took away because it was too old or too much.",
            ("what", "reason"),
        ),
        Instrument(
            "gateway.fleet.waiting",
            "gauge",
            "{record}",
            "Records of a sidecar that control has not acknowledged.",
        ),
        Instrument(
            "gateway.fleet.batches",
            "counter",
            "{batch}",
            "Batches of sidecars, by what became of them: counted, again (known already), refused, unavailable.",
            ("result",),
        ),
        Instrument(
            "gateway.fleet.sidecars",
            "gauge",
            "{sidecar}",
            "Sidecars that watch policies at this control, by the version that they were given last.",
            ("version",),
        ),
        Instrument(
            "gateway.fleet.leader", "gauge", "1", "1 where this control is the one that acts for all."
        ),
        Instrument(
            "gateway.autopilot.duration", "gauge", "s", "What the last look at gates and all else took."
        ),
        Instrument(
            "gateway.autopilot.failures",
            "counter",
            "{look}",
            "Looks that failed, by what was looked at; it is looked at again.",
            ("part",),
        ),
        Instrument(
            "gateway.alerts",
            "counter",
            "{alert}",
            "Alerts that the receiver took (sent) or does not want (refused), and tries in vain (failed).",
            ("result",),
        ),
        Instrument("gateway.events", "counter", "{event}", "Events that a receiver took.", ("kind",)),
        Instrument("gateway.people.waiting", "gauge", "{call}", "Calls that wait for people.", ("backend",)),
        Instrument(
            "gateway.people.age", "gauge", "s", "How long the oldest of them has waited.", ("backend",)
        ),
        Instrument(
            "gateway.people.calls",
            "counter",
            "{call}",
            "Calls that people were asked about: answered, unanswered in time, or refused.",
            ("backend", "result"),
        ),
        Instrument(
            "gateway.people.late",
            "counter",
            "{answer}",
            "Answers of people that came when nobody waited any more; they are kept as labels.",
            ("backend",),
        ),
        Instrument("gateway.review.open", "gauge", "{task}", "Review tasks nobody has answered.", ("queue",)),
        Instrument(
            "gateway.review.tasks",
            "gauge",
            "{task}",
            "Review tasks by state: done, and of the open ones leased, disputed, skipped, aside, overdue.",
            ("queue", "state"),
        ),
        Instrument("gateway.review.age", "gauge", "s", "Age of the oldest open review task.", ("queue",)),
        Instrument(
            "gateway.review.share",
            "gauge",
            "1",
            "Probability of review now in force, by stratum.",
            ("route", "stratum"),
        ),
        Instrument(
            "gateway.review.budget",
            "gauge",
            "{task}",
            "Review tasks an hour: wanted by the settings, expected from the shares and the traffic, made, done.",
            ("route", "what"),
        ),
        Instrument(
            "gateway.review.workload",
            "gauge",
            "{state}",
            "1 for the state of a review budget: people do fewer than it (overload) or more (underload), "
            "or there is not enough to review (starved).",
            ("route", "state"),
        ),
        Instrument(
            "gateway.label_tool.open",
            "gauge",
            "{task}",
            "Tasks that lie in a label tool without an answer.",
            ("tool", "queue"),
        ),
        Instrument(
            "gateway.label_tool.age",
            "gauge",
            "s",
            "How long ago everything there was looked at for the last time.",
            ("tool", "queue"),
        ),
        Instrument(
            "gateway.label_tool.answers",
            "counter",
            "{answer}",
            "Answers of a label tool: accepted, corrected, duplicate, skipped, taken_back; deleted for tasks.",
            ("tool", "queue", "result"),
        ),
        Instrument(
            "gateway.label_tool.requests",
            "counter",
            "{request}",
            "Requests to a label tool: ok, error, unreachable.",
            ("tool", "result"),
        ),
        Instrument(
            "gateway.labels",
            "counter",
            "{label}",
            "Labels, signals and outcomes kept: accepted, or correcting what their source said before.",
            ("source", "kind", "route", "status"),
        ),
        Instrument(
            "gateway.feedback",
            "counter",
            "{item}",
            "Items of feedback by what became of them; reason: the code of a refusal.",
            ("kind", "status", "reason"),
        ),
        Instrument(
            "gateway.feedback.pending",
            "gauge",
            "{item}",
            "Items that wait for the record of their decision.",
            (),
        ),
        Instrument(
            "gateway.feedback.resolved",
            "counter",
            "{item}",
            "Items that waited, by what they were.",
            ("status",),
        ),
        Instrument(
            "gateway.confusion",
            "counter",
            "{prediction}",
            "Labelled predictions by cell (tp, fp, fn, tn); weighted ones by 1/inclusion probability.",
            ("route", "segment", "cell", "weighted"),
        ),
        Instrument(
            "gateway.precision",
            "gauge",
            "1",
            "Precision and its 95 % interval.",
            ("route", "segment", "bound"),
        ),
        Instrument(
            "gateway.recall", "gauge", "1", "Recall and its 95 % interval.", ("route", "segment", "bound")
        ),
        Instrument(
            "gateway.gate",
            "gauge",
            "{gate}",
            "1 for the verdict that a gate stands at.",
            ("route", "gate", "segment", "verdict"),
            series_limit=10_000,
        ),
        Instrument(
            "gateway.certificate.expiry",
            "gauge",
            "s",
            "How long a certificate in use is still good; of several in a file, the one that ends first.",
            ("setting",),
        ),
        Instrument("gateway.policy.version", "gauge", "{version}", "The policy that new calls see."),
    )
}
"""Every metric by its name."""
