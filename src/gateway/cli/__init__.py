"""The commands.

In: arguments. Out: text for people, or JSON for programs with `--json`; exit 0 good, 1 found what it looks for, 2 wrong
use, 78 faulty settings. Never: work of its own; a command calls the rooms and prints.

One file per command: `gateway/cli/<name>.py` has a function `<name>`, whose parameters are typer's and whose docstring
is the help; the name stands in `COMMANDS`. A group of commands is a `typer.Typer` of that name. Such a module imports
nothing heavy at its top (typer, and `gateway.cli.printing` for what is printed): the rooms are imported inside the
function, so that `gateway --help` answers at once. A command whose file is not installed is left out. `GatewayError`s
may leave the function: `main` prints them.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

__all__ = ["COMMANDS", "main"]

COMMANDS = (
    "init",
    "check",
    "schema",
    "descriptors",
    "explain",
    "test",
    "diff",
    "serve",
    "sidecar",
    "control",
    "policy",
    "kill",
    "gates",
    "acts",
    "report",
    "threshold",
    "replay",
    "plan",
    "export",
    "audit",
    "forget",
    "labels",
    "label-studio",
    "reviews",
    "gold",
)
"""In the order of the help."""


def main() -> None:
    """Run the command of `sys.argv` and exit with its code."""
    if sys.argv[1:2] == ["sidecar"]:
        from gateway.cli.sidecar import run

        run(sys.argv[2:])
        return
    import typer

    from gateway import __version__
    from gateway.errors import GatewayError, SettingsError

    app = typer.Typer(
        name="gateway",
        help="The gRPC gateway in front of a model that can be wrong.",
        no_args_is_help=True,
        add_completion=False,
        # boxes and colour on a terminal only
        rich_markup_mode="rich" if sys.stdout.isatty() else None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def version(wanted: bool) -> None:
        if wanted:
            print(f"gateway {__version__}")
            raise typer.Exit

    @app.callback()
    def root(
        version: bool = typer.Option(
            False, "--version", callback=version, is_eager=True, help="Show the version."
        ),
    ) -> None:
        pass

    named = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None)
    for name in [named] if named in COMMANDS else COMMANDS:
        module = (name or "").replace("-", "_")
        if name is not None and importlib.util.find_spec(f"gateway.cli.{module}") is not None:
            made = getattr(importlib.import_module(f"gateway.cli.{module}"), module)
            if isinstance(made, typer.Typer):
                app.add_typer(made, name=name)
            else:
                app.command(name)(made)
    try:
        app()
    except SettingsError as error:
        from gateway.cli.printing import FAULTY, print_faults

        print_faults(error.faults, to_stderr=True)
        sys.exit(FAULTY)
    except GatewayError as error:
        print(f"gateway: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # `gateway schema | head`: whoever read has enough
        sys.stderr.close()
        sys.exit(0)
