"""Two controls and several sidecars count as one process does, whatever is killed meanwhile.

`make faults` runs it in full, with ten sidecars and control away for a minute of calls; four are enough to see a fault,
and what CI has processors for. FLEET_SIDECARS and FLEET_AWAY_S set other numbers.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.fleet.spool import Spool
from gateway.ledger import Reader
from gateway.types import Outcome
from tests.faults.load import scaled
from tests.fleet.processes import ROUTES, ControlProc, Proc, SidecarProc, call
from tests.wire.gateway_process import GatewayProcess, until

SIDECARS = int(os.environ.get("FLEET_SIDECARS", scaled(4, 10)))
AWAY_S = float(os.environ.get("FLEET_AWAY_S", scaled(0, 60)))
SETTINGS = {
    "backends": {**ROUTES["backends"], "no": {"answer": {"label": "spam", "score": 1.0}}},
    "routes": {
        "spam": ROUTES["routes"]["spam"],
        "fraud": {
            **ROUTES["routes"]["spam"],
            "chain": ["no"],
            "rules": [
                {"name": "off", "on": "request", "when": "request.rows > 0", "then": {"answer": "ham"}}
            ],
        },
    },
}


def counted(ledger: str) -> Counter[tuple[str, str, str, str]]:
    """Calls by route, backend, outcome and reason."""
    reader = Reader.open(ledger)
    try:
        calls = reader.calls()
    finally:
        reader.close()
    found: Counter[tuple[str, str, str, str]] = Counter()
    for route, backend, outcome, reason, count in zip(
        calls.route, calls.backend, calls.outcome, calls.reason, calls.calls, strict=True
    ):
        found[route, backend, Outcome(outcome).text, reason] += int(count)
    return found


@contextlib.contextmanager
def ended(*processes: Proc) -> Iterator[None]:
    """None of them outlives the test."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()


def everywhere_at_once(sidecars: Sequence[SidecarProc], times: int) -> None:
    """Calls of both models through every sidecar at once."""
    with ThreadPoolExecutor(len(sidecars)) as pool:
        for model in ("spam", "fraud"):
            list(pool.map(lambda sidecar, model=model: call(sidecar.address, times, model), sidecars))


def all_spooled(sidecar: SidecarProc) -> bool:
    """Whether all that waits is on disk, where kill -9 leaves it."""
    spooled = sum(one.records for one in Spool(sidecar.state / "spool", 0).left())
    return sidecar.waiting() == spooled > 0


@pytest.mark.slow
@pytest.mark.timeout(400 + 30 * AWAY_S)
def test_a_fleet_counts_as_one_process_whatever_restarts(tmp_path: Path, postgres_url: str) -> None:
    """Controls away, sidecars killed, controls killed while batches come: every call is counted exactly once."""
    made = 0  # calls of each model through each sidecar

    def everywhere(times: int) -> None:
        nonlocal made
        everywhere_at_once(sidecars, times)
        made += times

    controls = [ControlProc(tmp_path, f"c{at}", postgres_url, SETTINGS) for at in range(2)]
    addresses = [control.address for control in controls]
    sidecars = [
        SidecarProc(tmp_path, f"s{at}", addresses if at % 2 else addresses[::-1]) for at in range(SIDECARS)
    ]
    with ended(*controls, *sidecars):
        for control in controls:
            control.start()
        for sidecar in sidecars:
            sidecar.start(ready=False)
        for sidecar in sidecars:
            sidecar.wait_ready()
        everywhere(50)

        for control in controls:  # control is away
            control.kill()
        away = time.monotonic()
        everywhere(50)
        while time.monotonic() - away < AWAY_S:
            everywhere(10)
            time.sleep(1.0)
        for sidecar in sidecars:
            until(lambda sidecar=sidecar: all_spooled(sidecar), "what waits is on disk", 30)
        for sidecar in sidecars[: max(2, SIDECARS // 2)]:  # and sidecars are killed and come back without it
            sidecar.kill()
            sidecar.start()
        everywhere(50)

        controls[0].start()
        everywhere(50)
        controls[1].start()
        controls[0].kill()  # while batches are on their way
        everywhere(50)
        controls[0].start()
        for sidecar in sidecars:
            until(lambda sidecar=sidecar: sidecar.waiting() == 0, "control has everything", 60)
        sidecars[-1].stop()
        found = counted(postgres_url)

    with GatewayProcess(tmp_path, SETTINGS) as single:
        for model in ("spam", "fraud"):
            call(single.address, made * SIDECARS, model)
        single.stop()
        assert found == counted(f"sqlite:///{single.state_dir / 'ledger.db'}")
    assert sum(found.values()) == 2 * made * SIDECARS
    print(
        f"{SIDECARS} sidecars, two controls, {AWAY_S:g} s away: {2 * made * SIDECARS} calls, each counted once"
    )


@pytest.mark.slow
def test_a_sidecar_killed_under_load_loses_only_its_last_seconds(tmp_path: Path, sqlite_url: str) -> None:
    """What was acknowledged or spooled is counted; what was in memory is bounded by `spool_after_s`."""
    control = ControlProc(tmp_path, "c", sqlite_url)
    sidecar = SidecarProc(tmp_path, "s", [control.address])
    with ended(control, sidecar):
        control.start()
        sidecar.start()
        control.kill()
        sent: list[tuple[float, int]] = []
        begun = time.monotonic()
        while time.monotonic() - begun < 6:
            sent.append((time.monotonic(), len(call(sidecar.address, 20))))
        killed = time.monotonic()
        sidecar.kill()
        sidecar.start()
        control.start()
        until(lambda: sidecar.waiting() == 0, "control has everything", 60)
        found = sum(counted(sqlite_url).values())
    total = sum(count for _, count in sent)
    # 2 s in memory, half a second until it is looked, half a second in the data plane; and a busy machine
    old_enough = sum(count for at, count in sent if killed - at > 4.0)
    assert 0 < old_enough <= found <= total


def test_a_sidecar_serves_without_control_by_the_policy_it_kept(tmp_path: Path, sqlite_url: str) -> None:
    """A node that restarts during an outage of control must not make it an outage of the model."""
    control = ControlProc(tmp_path, "c", sqlite_url)
    sidecar = SidecarProc(tmp_path, "s", [control.address])
    with ended(control, sidecar):
        control.start()
        sidecar.start()
        kept = sidecar.state / "policy"
        assert kept.stat().st_mode & 0o077 == 0, "salt and keys are in it"
        control.kill()
        sidecar.kill()
        sidecar.start()
        assert call(sidecar.address)[0]["gateway-policy"] == "1"


def test_a_new_policy_reaches_every_sidecar(tmp_path: Path, sqlite_url: str) -> None:
    """The file changes at control, calls at the sidecar see it."""
    control = ControlProc(tmp_path, "c", sqlite_url)
    sidecars = [SidecarProc(tmp_path, f"s{at}", [control.address]) for at in range(2)]
    with ended(control, *sidecars):
        control.start()
        for sidecar in sidecars:
            sidecar.start()
        control.write({**ROUTES, "limits": {"max_rows": 7}})
        for sidecar in sidecars:
            until(lambda sidecar=sidecar: sidecar.metric("gateway_policy_version") == 2, "version 2", 30)
            assert call(sidecar.address)[0]["gateway-policy"] == "2"
        assert control.metric('gateway_fleet_sidecars{version="2"}') == 2


def test_records_of_a_quiet_sidecar_travel_together(tmp_path: Path, sqlite_url: str) -> None:
    """A batch costs control milliseconds, a record in it nothing: many quiet sidecars must not be too much for it."""
    control = ControlProc(tmp_path, "c", sqlite_url)
    sidecar = SidecarProc(tmp_path, "s", [control.address])
    with ended(control, sidecar):
        control.start()
        sidecar.start()
        begun = time.monotonic()
        for _ in range(40):
            call(sidecar.address)
        until(lambda: sum(counted(sqlite_url).values()) == 40, "every call is counted", 30)
        took = time.monotonic() - begun
        assert (control.metric('gateway_fleet_batches_total{result="counted"}') or 0) <= 4 * took + 2
