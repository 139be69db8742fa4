"""`python -m examples.oip_server NAME=FILE... [--port N] [--faults]`: serve models until SIGTERM or Ctrl-C.

The first line on stdout says where it listens, as JSON, for whoever started it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from .models import ServedModel
from .service import Service, run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.oip_server", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="NAME=FILE", help="a file that ServedModel.save wrote")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--faults", action="store_true", help="misbehave when told to")
    arguments = parser.parse_args()
    pairs = [text.partition("=") for text in arguments.models]
    if faulty := [name for name, equals, _ in pairs if not equals]:
        parser.error(f"wanted NAME=FILE, found {faulty[0]!r}")
    models = {name: ServedModel.load(Path(file)) for name, _, file in pairs}
    service = Service(models, faulty=arguments.faults)
    asyncio.run(run(service, f"{arguments.host}:{arguments.port}", say))


def say(address: str) -> None:
    print(json.dumps({"listening": address}), flush=True)


if __name__ == "__main__":
    main()
