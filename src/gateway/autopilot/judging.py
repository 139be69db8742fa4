"""One gate's verdict: what was known before and what is known now, to pass, fail or inconclusive with its sentence.

Pure: no ledger, no clock. The alarm is the e-detector's, a pass the interval's:

    no alarm                          => pass where the interval is good, else inconclusive
    alarm within the window           => fail, once there are labels enough
    fail, interval since it is good   => (recovered) judged by the predictions since the alarm
    alarm older than the window       => as if there had been none
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from gateway.quality import Detector, Estimate, Target

if TYPE_CHECKING:
    from gateway.config.gates import Gate

__all__ = ["Memory", "Said", "judge", "target_of", "wait_us"]

HOUR_US = 3_600_000_000

Said = Literal["pass", "fail", "inconclusive"]

_KINDS: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("begun_us", "cursor_us", "row", "row_labels", "noted_us"), int),
    **dict.fromkeys(("alarm_us", "since_us"), int | None),
    **dict.fromkeys(("last", "verdict"), str | None),
    "recovered": bool,
}
"""Of what is kept besides the target and the detector."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a gate remembers of one segment between two looks; times in microseconds since 1970.

    `begun_us`: its predictions are of then or later. `cursor_us`: labels of predictions up to then have been shown to
    the detector. `alarm_us`: the prediction at which it last raised an alarm. `recovered`: the predictions since then
    were shown to be good. `since_us`: when the failure now standing was first seen. `row`: failures in a row that
    brought new labels, up to the detector's `row_labels`. `last`: the last pass or fail. `verdict`, `noted_us`: what
    was last put into the history, and when.
    """

    target: tuple[str, float, bool]
    begun_us: int
    cursor_us: int
    detector: Detector = field(default_factory=Detector)
    alarm_us: int | None = None
    recovered: bool = False
    since_us: int | None = None
    row: int = 0
    row_labels: int = -1
    last: Said | None = None
    verdict: str | None = None
    noted_us: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = [name for name in self.__slots__ if name not in ("target", "detector")]
        kept = {name: getattr(self, name) for name in names}
        return {**kept, "target": list(self.target), "detector": self.detector.as_dict()}

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Memory | None:
        """From what `as_dict` gave; None where it is of another form."""
        try:
            detector = Detector.of(kept["detector"])
            metric, bound, at_least = kept["target"]
            target = (str(metric), float(bound), bool(at_least))
            values = {name: kept[name] for name in cls.__slots__ if name not in ("target", "detector")}
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        if detector is None or any(not isinstance(values[name], kind) for name, kind in _KINDS.items()):
            return None
        return cls(target=target, detector=detector, **values)


def target_of(gate: Gate) -> Target:
    """What the gate's detector watches."""
    return Target(gate.metric, gate.bound, gate.at_least is not None)


def wait_us(gate: Gate) -> int:
    """How long a label is waited for, microseconds."""
    return round(gate.waits_h * HOUR_US)


def good(gate: Gate, estimate: Estimate) -> bool:
    """Whether the interval lies wholly on the good side of what a pass wants."""
    if estimate.low is None or estimate.high is None:
        return False
    return estimate.low >= gate.passes_at if gate.at_least is not None else estimate.high <= gate.passes_at


def judge(
    gate: Gate, memory: Memory, estimate: Estimate, after: Estimate | None, start_us: int, now_us: int
) -> tuple[Said, Estimate, str, Memory]:
    """Say what a gate says now.

    Args:
        memory: with the detector as it is after the newest labels. estimate: of the window, which begins at `start_us`.
        after: of the predictions since the alarm; None where there was none.
    Returns: the verdict, the number it was said from, the sentence, and what is to be remembered.
    """
    alarmed = memory.alarm_us is not None and memory.alarm_us >= start_us
    if not alarmed:
        memory = replace(memory, alarm_us=None, recovered=False)
    elif after is not None and after.labels >= gate.min_labels and good(gate, after):
        memory = replace(memory, recovered=True)
    if memory.recovered and after is not None:
        estimate = after
    plain, why = _plain(gate, memory, estimate, alarmed and not memory.recovered)
    said: Said = plain
    if plain == "inconclusive":
        absent = estimate.labels == 0
        policy = gate.on_no_data if absent else gate.on_inconclusive
        name = "on_no_data" if absent else "on_inconclusive"
        if policy == "fail":
            said, why = "fail", f"{why}, which counts as a failure ({name})"
        elif policy == "keep_last" and memory.last is not None:
            said, why = memory.last, f"{why}, so the last verdict stands, {memory.last} ({name})"
    since = (memory.since_us or now_us) if said == "fail" else None
    row, seen = memory.row, memory.row_labels
    if said != "fail":
        row, seen = 0, -1
    elif row == 0 or memory.detector.labels > seen:
        row, seen = row + 1, memory.detector.labels
    if plain == "fail" and since is not None:
        why = f"fail since {_time(since)}"
    memory = replace(
        memory,
        since_us=since,
        row=row,
        row_labels=seen,
        last=memory.last if plain == "inconclusive" else plain,
    )
    return said, estimate, f"{_number(gate, estimate)}: {why}", memory


def _plain(gate: Gate, memory: Memory, estimate: Estimate, alarmed: bool) -> tuple[Said, str]:
    """The verdict by what is known alone, and why."""
    labels = max(estimate.labels, memory.detector.labels)
    if alarmed and labels >= gate.min_labels:
        return "fail", ""
    if estimate.labels == 0:
        return "inconclusive", "no label in the whole window"
    if estimate.labels < gate.min_labels:
        return "inconclusive", f"fewer than the {gate.min_labels:,} labels that it takes"
    if good(gate, estimate):
        return "pass", "pass"
    if alarmed:
        return "inconclusive", f"fewer than the {gate.min_labels:,} labels that it takes"
    return "inconclusive", "neither is shown"


def _number(gate: Gate, estimate: Estimate) -> str:
    name = gate.metric.replace("_", " ")
    side = "at least" if gate.at_least is not None else "at most"
    wanted = f"{side} {gate.bound:g}"
    if gate.pass_at is not None:
        wanted += f" ({gate.pass_at:g} for a pass)"
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return f"{name} is not known ({estimate.reason}); wanted {wanted}"
    digits = max(2, len(f"{gate.bound:g}".partition(".")[2]))
    value, low, high = (f"{one:.{digits}f}" for one in (estimate.value, estimate.low, estimate.high))
    return f"{name} {value} [{low}, {high}] from {estimate.labels:,} labels; wanted {wanted}"


def _time(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")
