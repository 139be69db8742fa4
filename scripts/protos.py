"""Makes `src/gateway/v1` from `protos/gateway/v1`; `make proto` runs it, and a test compares what it makes.

The code is committed, so that an installation needs no compiler. mypy-protobuf writes the types: protoc's own
`--pyi_out` leaves the services out.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
INIT = '"""The services\' messages and stubs: `make proto` writes them from `protos/gateway/v1`."""\n'


def generate(to: Path) -> list[Path]:
    """Write the package `gateway/v1` under `to`; returns the files, in order."""
    sources = sorted(
        path.relative_to(PROTOS).as_posix() for path in (PROTOS / "gateway" / "v1").glob("*.proto")
    )
    to.mkdir(parents=True, exist_ok=True)
    # protoc finds the mypy plugins beside the interpreter that runs this, whatever environment is active.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTOS}",
            f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}",
            f"--python_out={to}",
            f"--grpc_python_out={to}",
            f"--mypy_out=quiet:{to}",
            f"--mypy_grpc_out=quiet:{to}",
            *sources,
        ]
    )
    if status != 0:
        raise SystemExit(f"protoc failed with status {status}; its words stand above")
    package = to / "gateway" / "v1"
    (package / "__init__.py").write_text(INIT, encoding="utf-8")
    return sorted(path for path in package.iterdir() if path.suffix in {".py", ".pyi"})


if __name__ == "__main__":
    for written in generate(ROOT / "src"):
        sys.stdout.write(f"{written.relative_to(ROOT)}\n")
