"""`gateway labels import` and `gateway labels export`: labels, signals and outcomes as CSV or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.check import JsonOption, SetOption
from gateway.cli.ledgers import WhereArgument

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from gateway.services.bulk import BulkReport
    from gateway.services.label_files import Line, Refused

__all__ = ["labels"]

labels = typer.Typer(
    help="Labels, signals and outcomes as files: CSV, or Parquet by the ending .parquet.",
    no_args_is_help=True,
)


@labels.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="The settings file: whose receipts, classes and ledger.")],
    path: Annotated[Path, typer.Option("--labels", metavar="FILE", help="What to import.")],
    source: Annotated[
        str, typer.Option("--source", metavar="NAME", help="Who says so, for lines without a source.")
    ] = "import",
    refused: Annotated[
        Path | None,
        typer.Option("--refused", metavar="FILE", help="Where refused lines go, as CSV: mend and import it."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge every line, keep nothing.")] = False,
    overrides: SetOption = [],  # noqa: B006  typer copies it
    json: JsonOption = False,
) -> None:
    """Take labels in, beside a running gateway or without one.

    Columns: receipt or decision_id; row; one of label, positive, value, or signal (with value); time; source. What was
    there before is a duplicate, so a file may be imported again, or after an import that was broken off. Exit 1: some
    lines were refused.
    """
    from contextlib import ExitStack

    from gateway.cli.printing import FOUND, print_json, wrong_use
    from gateway.errors import LabelError
    from gateway.services import label_files

    if not file.is_file():
        raise wrong_use(f"{file}: found no such file, wanted the settings: they say whose receipts are good")
    with ExitStack() as stack:
        try:
            lines = label_files.read(path, source)
            to = label_files.Refused(refused) if refused is not None else None
        except LabelError as error:
            raise wrong_use(str(error)) from None
        except OSError as error:
            raise wrong_use(f"{error.filename}: {error.strerror}") from None
        if to is not None:
            stack.callback(to.close)
        report = _take_in(stack, file, overrides, lines, path, to, dry_run)
    if json:
        print_json({"dry_run": dry_run, **report.as_dict()})
    else:
        _show(path, report, dry_run)
    if report.refused:
        raise typer.Exit(FOUND)


def _take_in(
    stack: ExitStack,
    file: Path,
    overrides: list[str],
    lines: Iterator[Line],
    path: Path,
    to: Refused | None,
    dry_run: bool,
) -> BulkReport:
    from gateway.cli.feedback import feedback_rules
    from gateway.cli.ledgers import find_ledger, logged_in
    from gateway.ledger import Ledger, Reader, RouteClasses
    from gateway.runtime import kept_secrets, verify_receipt
    from gateway.services import Intake, bulk

    url, settings = find_ledger(file, overrides)
    assert settings is not None
    Reader.open(url).close()  # an older or newer schema is told, and not brought up to date under a gateway
    secrets = kept_secrets(settings, make=False)

    def classes(route: str) -> RouteClasses | None:
        of = settings.routes.get(route)
        if of is None:
            return None
        said = of.prediction
        return RouteClasses() if said is None else RouteClasses(tuple(said.classes or ()), said.positive)

    ledger = Ledger(url)
    ledger.open()
    stack.callback(ledger.close)
    intake = Intake(
        ledger,
        lambda receipt: verify_receipt(receipt, secrets.receipt_keys),
        classes,
        lambda: feedback_rules(settings),
    )
    user = logged_in()
    report = bulk.take_in(
        ledger,
        intake,
        lines,
        author=user,
        dry_run=dry_run,
        refused=to.write if to is not None else lambda _line, _code, _message: None,
    )
    if not dry_run:
        counts = {key: value for key, value in report.as_dict().items() if isinstance(value, int)}
        ledger.audit(user, "labels.import", path.name, refused=report.refused.total(), **counts).result()
    return report


def _show(path: Path, report: BulkReport, dry_run: bool) -> None:
    from gateway.cli.printing import console, count

    out = console()
    found = report.as_dict()
    out.print(f"{path}: {count(report.lines, 'line')}{', nothing is kept (--dry-run)' if dry_run else ''}")
    words = {
        "accepted": "new",
        "duplicate": "there before, nothing changed",
        "corrected": "instead of what the same source said before",
        "superseded": "left out: what the same source said before happened later",
        "pending": "wait for the record of their decision",
    }
    for status, meaning in words.items():
        if found[status] or status in ("accepted", "duplicate"):
            out.print(f"  {status:<11}{found[status]:>10,}  {meaning}")
    if report.refused:
        out.print(f"  {'refused':<11}{report.refused.total():>10,}")
    for code, number in report.refused.most_common():
        out.print(f"    {code:<21}{number:>8,}")
    for line, code, message in report.examples:
        out.print(f"  line {line}: {code}: {message}")
    if report.refused.total() > len(report.examples):
        out.print(
            f"  and {report.refused.total() - len(report.examples):,} more; --refused FILE has all of them"
        )


@labels.command("export")
def export(
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Where to: .csv or .parquet.")],
    where: WhereArgument = Path("gateway.yaml"),
    hours: Annotated[
        float, typer.Option("--hours", metavar="H", help="Of predictions of the last H hours; 0: of all.")
    ] = 0.0,
    review: Annotated[
        bool, typer.Option("--review", help="Reviewers' answers too; an import refuses them.")
    ] = False,
    overrides: SetOption = [],  # noqa: B006  typer copies it
    json: JsonOption = False,
) -> None:
    """Write what counts of every statement, in the form that `gateway labels import` reads."""
    import time

    from gateway.cli.ledgers import find_ledger
    from gateway.cli.printing import count, print_json, wrong_use
    from gateway.errors import LabelError
    from gateway.ledger import Reader
    from gateway.ledger.label_rows import said_rows
    from gateway.services import label_export

    if not 0 <= hours < 1e6:
        raise wrong_use(f"--hours: found {hours:g}, wanted a number of hours, such as 24")
    since_us = time.time_ns() // 1000 - round(hours * 3.6e9) if hours else None
    url, _ = find_ledger(where, overrides)
    reader = Reader.open(url)
    try:
        written = label_export.write(to, said_rows(reader, since_us, review=review))
    except LabelError as error:
        raise wrong_use(str(error)) from None
    except OSError as error:
        raise wrong_use(f"{error.filename or to}: {error.strerror}") from None
    finally:
        reader.close()
    if json:
        print_json({"file": str(to), "statements": written})
    else:
        print(f"{to}: {count(written, 'statement')}")
