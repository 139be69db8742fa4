"""What importing the arithmetic costs."""

from __future__ import annotations

import subprocess
import sys


def test_numpy_is_all_that_is_imported() -> None:
    """scipy takes 40 MB that the serving process has not got; the one function that needs it imports it."""
    heavy = "{'scipy', 'pandas', 'sqlalchemy', 'sklearn', 'grpc'}"
    code = (
        f"import sys, gateway.quality; print(sorted({heavy} & {{m.partition('.')[0] for m in sys.modules}}))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert found.stdout.strip() == "[]"
