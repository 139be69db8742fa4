"""`python -m examples.oip_server NAME=FILE... [--port N] [--faults]`: serve models until SIGTERM or Ctrl-C.

The first line on stdout says where it listens, as JSON, for whoever started it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from pathlib import Path

from .models import ServedModel
from .service import Service, serve


async def run(models: dict[str, ServedModel], address: str, *, faulty: bool) -> None:
    server, port = await serve(Service(models, faulty=faulty), address)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    host = address.rpartition(":")[0]
    print(json.dumps({"listening": f"{host}:{port}", "models": sorted(models)}), flush=True)
    await stop.wait()
    await server.stop(grace=1.0)


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
    asyncio.run(run(models, f"{arguments.host}:{arguments.port}", faulty=arguments.faults))


if __name__ == "__main__":
    main()
