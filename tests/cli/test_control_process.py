"""Control's process does all that its settings say, though it has no data plane."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gateway.cli import upkeep
from gateway.cli.control_process import ControlProcess
from gateway.ledger import Ledger, audit
from tests.wire.gateway_process import free_ports

WAIT_S = 20.0
DAY_US = 86_400_000_000


def settings(folder: Path) -> Path:
    file = folder / "settings.yaml"
    [port] = free_ports(1)
    file.write_text(
        f"""\
ledger: sqlite:///{folder}/ledger.db
state_dir: {folder}/state
secrets: {{salt: "${{SALT}}", receipt_keys: ["${{KEY}}"]}}
listen: {{control: "127.0.0.1:{port}"}}
retention: {{audit_h: 24}}
backends: {{ham: {{answer: {{label: ham, score: 0.0}}}}}}
routes: {{spam: {{chain: [ham], prediction: {{scores: probabilities, classes: [ham, spam], positive: spam}}}}}}
"""
    )
    return file


async def test_control_takes_away_what_is_older_than_retention_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a fleet nobody else has the ledger: what control does not tidy grows for ever."""
    monkeypatch.setenv("SALT", "a salt for the whole fleet")
    monkeypatch.setenv("KEY", "a receipt key for the fleet")
    file = settings(tmp_path)
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    ledger.open()
    now_us = time.time_ns() // 1000
    for subject, age_us in (("old", 2 * DAY_US), ("young", DAY_US // 2)):
        ledger.submit(
            lambda connection, subject=subject, time_us=now_us - age_us: audit.note(  # type: ignore[misc]
                connection, time_us=time_us, actor="ann", action="test", subject=subject
            )
        ).result()
    monkeypatch.setattr(upkeep, "PERIOD_S", 0.05)
    process = ControlProcess(file, ())
    running = asyncio.create_task(process.run())

    def left() -> set[str]:
        return {one.subject for one in ledger.reader.snapshot(audit.entries) if one.action == "test"}

    try:
        async with asyncio.timeout(WAIT_S):
            while await asyncio.to_thread(left) != {"young"}:
                assert not running.done(), running.exception()
                await asyncio.sleep(0.05)
    finally:
        process._stop.set()
        await running
        ledger.close()
