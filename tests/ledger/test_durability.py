"""What was acknowledged is on disk, whatever becomes of the process; what failed is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.errors import LeaseLost
from gateway.ledger import Kept, Ledger, audit
from gateway.ledger.review import counts
from tests.ledger.making import NOW_US, label

ROOT = Path(__file__).resolve().parents[2]

WRITER = """
import sys
from gateway.ledger import Ledger
from tests.ledger.making import label, sampled

ledger = Ledger(sys.argv[1])
ledger.open()
ledger.write_batch(sampled(1))
assert ledger.flush()
number = int(sys.argv[2])
while True:
    number += 1
    ledger.submit_labels([label(number, bool(number % 2))]).result()
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_an_acknowledged_label_survives_kill_9_and_is_there_once(tmp_path: Path) -> None:
    """Killed in the middle of writing, three times: all that was acknowledged is there, once."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    acknowledged = 0
    for round_ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, url, str(round_ * 1_000_000)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
            text=True,
        ) as process:
            assert process.stdout is not None
            seen = [int(process.stdout.readline()) for _ in range(25)]
            process.send_signal(signal.SIGKILL)
            seen += [int(line) for line in process.stdout if line.endswith("\n")]
        ledger = Ledger(url)
        ledger.open()
        acknowledged += len(seen)
        again = ledger.submit_labels([label(number, bool(number % 2)) for number in seen]).result()
        assert again == [Kept.DUPLICATE] * len(seen)
        found = len(ledger.reader.labelled().positive)
        assert acknowledged <= found <= acknowledged + 1, (
            "at most the one under way was kept without being told"
        )
        acknowledged = found
        assert ledger.reader.calls().calls.sum() == round_ + 1
        ledger.close()


@pytest.mark.parametrize("company", [0, 2])
def test_work_that_raises_leaves_nothing_and_takes_nobody_with_it(ledger: Ledger, company: int) -> None:
    """Whether it has the transaction for itself or shares it; what it counted does not count either."""
    gate = threading.Event()

    def half(connection: sa.Connection) -> None:
        audit.note(connection, time_us=NOW_US, actor="ann", action="task.half", subject="task 1")
        counts.note(connection, "moderation", "open", 1)
        raise LeaseLost("somebody else has it")

    first = ledger.submit(lambda connection: gate.wait(20))  # the others come while this one is served
    failed = ledger.submit(half)
    others = [ledger.submit_labels([label(number)]) for number in range(company)]
    gate.set()
    assert first.result()
    with pytest.raises(LeaseLost):
        failed.result()
    assert [other.result() for other in others] == [[Kept.ACCEPTED]] * company
    ledger.submit_labels([label(9)]).result()
    assert ledger.reader.snapshot(audit.entries) == []
    assert ledger.reader.snapshot(counts.read) == {}
