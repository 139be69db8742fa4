"""The committed code is what the protos make."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_generated_code_is_that_of_the_protos(tmp_path: Path) -> None:
    """Someone who edits a proto and forgets `make proto` finds out here."""
    spec = importlib.util.spec_from_file_location("scripts_protos", ROOT / "scripts" / "protos.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    made = {path.name: path.read_bytes() for path in script.generate(tmp_path)}
    committed = {
        path.name: path.read_bytes()
        for path in (ROOT / "src/gateway/v1").iterdir()
        if path.suffix in {".py", ".pyi"}
    }
    assert len(made) > 5
    assert made == committed
