"""`gateway export`: labelled decisions as Parquet files, with a card that says what they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.check import FileArgument, JsonOption, SetOption

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.datasets import Plan

__all__ = ["export"]


def export(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make.")],
    file: FileArgument = Path("gateway.yaml"),
    overrides: SetOption = [],  # noqa: B006  typer copies it
    route: Annotated[str | None, typer.Option("--route", metavar="NAME", help="One route only.")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Predictions from then on, UTC; whole hours, as in the report."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Predictions before then.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="BY:SHARE",
            help="unit:0.8 or time:0.8 (train, test); unit:0.7,0.15 (train, validation, test); time:2026-11-01.",
        ),
    ] = None,
    gap_h: Annotated[
        float, typer.Option("--gap-h", metavar="H", help="By time: hours after each cut that are left out.")
    ] = 0.0,
    unknown_units: Annotated[
        str,
        typer.Option(
            "--unknown-units",
            metavar="drop|call",
            help="Rows whose unit nobody knows: left out, or one each call.",
        ),
    ] = "drop",
    kinds: Annotated[
        list[str], typer.Option("--kind", metavar="KIND", help="label, outcome or signal; may be repeated.")
    ] = ["label"],  # noqa: B006
    inputs: Annotated[
        bool, typer.Option("--inputs/--no-inputs", help="Whether captured requests are written.")
    ] = True,
    form: Annotated[
        str, typer.Option("--format", metavar="parquet", help="The only one there is.")
    ] = "parquet",
    force: Annotated[bool, typer.Option("--force", help="Replace a data set that stands there.")] = False,
    json: JsonOption = False,
) -> None:
    """Write labelled decisions, with inputs where captured, their probabilities and weights, and a data card.

    Reads beside a running gateway, from one state of its ledger. The folder appears when all of it is on disk,
    or not at all. A unit (and a call) is in one split only. What the settings redact stays out; people have pseudonyms.
    """
    from gateway.cli.ledgers import find_ledger
    from gateway.cli.printing import console, print_json, wrong_use

    if form != "parquet":
        raise wrong_use(f"--format: found {form!r}, wanted parquet")
    plan = _plan(route, since, until, split, gap_h, unknown_units, kinds, inputs)
    if file.is_dir():
        raise wrong_use(
            f"found the folder {file}, wanted the settings file: it says what is redacted, and names the salt"
        )
    url, settings = find_ledger(file, overrides)
    assert settings is not None
    with _stoppable():
        made = _export(url, settings, out, plan, force, _command())
    if json:
        print_json(made)
        return
    shown = console()
    for name, one in made["splits"].items():
        kish = one["weights"]["effective_sample_size"]
        worth = f", {one['weights']['rows']:,} with a weight (worth {kish:,.0f})" if kish else ""
        shown.print(f"{out / name}.parquet: {one['rows']:,} rows of {one['calls']:,} calls{worth}")
    for reason, rows in made["dropped"].items():
        if rows:
            shown.print(f"left out: {rows:,} rows, {reason}")
    shown.print(f"{out / 'README.md'} says what they are and how to use them")


def _plan(
    route: str | None,
    since: str | None,
    until: str | None,
    split: str | None,
    gap_h: float,
    unknown_units: str,
    kinds: list[str],
    inputs: bool,
) -> Plan:
    import time

    from gateway.cli.ledgers import moment
    from gateway.cli.printing import wrong_use
    from gateway.datasets import KINDS, Plan, parse_split
    from gateway.errors import DataSetError
    from gateway.ledger import Window

    now_us = time.time_ns() // 1000
    since_us = None if since is None else moment("--since", since, now_us)
    until_us = None if until is None else moment("--until", until, now_us)
    if since_us is not None and until_us is not None and since_us >= until_us:
        raise wrong_use(f"--until: found {until!r}, wanted a time after --since {since!r}")
    if not 0 <= gap_h < 1e6:
        raise wrong_use(f"--gap-h: found {gap_h:g}, wanted a number of hours, such as 24")
    if gap_h and split is None:
        raise wrong_use("--gap-h: found no --split, wanted --split time:0.8 beside it")
    for kind in kinds:
        if kind not in KINDS:
            raise wrong_use(f"--kind: found {kind!r}, wanted {', '.join(KINDS)}")
    if unknown_units not in ("drop", "call"):
        raise wrong_use(f"--unknown-units: found {unknown_units!r}, wanted drop or call")
    try:
        parted = None if split is None else parse_split(split, round(gap_h * 3.6e9))
    except DataSetError as error:
        raise wrong_use(f"--split: {error}") from None
    return Plan(
        window=Window(since_us, until_us, route),
        split=parted,
        kinds=tuple(dict.fromkeys(kinds)),
        unknown_units="drop" if unknown_units == "drop" else "call",
        inputs=inputs,
    )


def _salt(settings: Settings) -> str:
    """The gateway's own salt: with another one, splits and pseudonyms would differ from every other export's."""
    from gateway.errors import DataSetError
    from gateway.runtime import kept_secrets

    file = settings.state_dir / "salt"
    if settings.secrets.salt is None and not file.exists():
        raise DataSetError(
            f"there is no salt at {file}, and splits and pseudonyms follow from it; copy it from where the gateway "
            "runs, or set secrets.salt"
        )
    return kept_secrets(settings, make=False).salt_hex


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends the export as Ctrl-C does: with nothing left behind."""
    import signal

    def stop(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _export(url: str, settings: Settings, out: Path, plan: Plan, force: bool, command: str) -> dict[str, Any]:
    from gateway.cli.ledgers import logged_in
    from gateway.cli.printing import wrong_use
    from gateway.datasets import Redaction
    from gateway.datasets import export as write
    from gateway.ledger import Ledger, Reader

    def note(card: Mapping[str, Any]) -> None:
        """A reader cannot write; and who may read what people said, but not add to the trail, may not take it away."""
        ledger = Ledger(url)
        ledger.open()
        try:
            ledger.audit(
                logged_in(),
                "dataset.export",
                str(out),
                command=command,
                rows=card["rows"],
                splits={name: one["rows"] for name, one in card["splits"].items()},
                inputs=card["inputs"]["written"],
            ).result()
        finally:
            ledger.close()

    reader = Reader.open(url)
    try:
        route = plan.window.route
        if route is not None and route not in settings.routes and route not in (seen := reader.routes()):
            names = ", ".join(sorted({*settings.routes, *seen})) or "none yet"
            raise wrong_use(f"--route: found {route!r}, wanted one of the routes ({names})")
        redaction = Redaction.of(settings)
        salt_hex = _salt(settings)
        return write(
            reader, out, plan, salt_hex=salt_hex, redaction=redaction, force=force, command=command, note=note
        )
    finally:
        reader.close()


def _command() -> str:
    """As it was typed, but for values of `--set`, which may be secrets."""
    import re
    import shlex
    import sys

    words = list(sys.argv[1:])
    for index, word in enumerate(words):
        if word.startswith("--set="):
            words[index] = re.sub(r"(--set=[^=]*=).*", r"\1...", word, flags=re.DOTALL)
        elif index and words[index - 1] == "--set":
            words[index] = re.sub(r"=.*", "=...", word, flags=re.DOTALL)
    return shlex.join(["gateway", *words])
