"""A file -> checked settings, or every fault of it at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from gateway.config.excerpt import place_inside
from gateway.config.expressions import check_expression
from gateway.config.faults import Fault, Path
from gateway.config.files import read_files
from gateway.config.overrides import apply_overrides
from gateway.config.references import check_references
from gateway.config.settings import Settings
from gateway.config.source import Source, read_yaml
from gateway.config.tls import make_absolute
from gateway.config.validate import Checked, validate
from gateway.config.warnings import warnings_of
from gateway.errors import SettingsError

__all__ = ["MOST_BYTES", "Loaded", "file_text", "load", "read", "read_text"]

MOST_BYTES = 4 * 1024 * 1024
"""A settings file may be this long."""


@dataclass(slots=True)
class Loaded:
    """What came of a file: settings (None if there are faults), faults, warnings, and where everything stands."""

    source: Source
    settings: Settings | None = None
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    rest: Checked[Settings] = field(default_factory=Checked)
    """The settings without their faulty parts: for further checks in the same run, and for nothing else."""

    def fault(self, path: Path, found: str, wanted: str = "", mend: str = "") -> Fault:
        """A fault at a path, for checks that come after reading."""
        return self.source.fault(path, found, wanted, mend)

    def fault_inside(self, path: Path, text: str, line: int, column: int, found: str) -> Fault:
        """A fault inside a text, such as a CEL expression; line and column count from 1 in the text."""
        at = self.source.place(path)
        in_file = place_inside(self.source, at, text, line, column)
        return Fault(at.place, in_file[0], in_file[1], path, found)


def load(
    path: str | FilePath, overrides: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Settings:
    """Read and check a file.

    Args:
        path: the YAML file. overrides: `path=value` each, as `--set` gives them. env: for `${NAME}`; the process's own
            if None.
    Raises: SettingsError with every fault, in the order of the file.
    """
    loaded = read(path, overrides, env)
    if loaded.settings is None:
        raise SettingsError(list(loaded.faults))
    return loaded.settings


def read(path: str | FilePath, overrides: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Loaded:
    """As `load`, but faults and warnings come back beside the places of all settings; never raises."""
    text = file_text(path, "`gateway init` writes one to start with")
    if isinstance(text, Fault):
        return Loaded(Source(str(path)), faults=[text])
    folder = FilePath(path).absolute().parent
    return read_text(text, name=str(path), folder=folder, overrides=overrides, env=env)


def file_text(path: str | FilePath, if_absent: str = "") -> str | Fault:
    """A file's text, or why there is none; `if_absent` is the mend where there is no such file."""
    file, name = FilePath(path), str(path)
    try:
        with file.open("rb") as stream:
            held = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        mend = if_absent if not file.exists() else ""
        return Fault(name, None, None, (), f"cannot read this file: {reason}", mend=mend)
    if len(held) > MOST_BYTES:
        return Fault(
            name,
            None,
            None,
            (),
            f"this file is longer than {MOST_BYTES} bytes",
            mend="long lists belong into files of their own: file:trusted.txt",
        )
    try:
        return held.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = held.count(b"\n", 0, error.start) + 1
        column = error.start - (held.rfind(b"\n", 0, error.start) + 1) + 1
        return Fault(name, line, column, (), "this is not UTF-8", mend="save the file as UTF-8")


def read_text(
    text: str,
    *,
    name: str = "settings",
    folder: FilePath | None = None,
    overrides: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Loaded:
    """As `read`, from a text; `folder` is where relative paths start."""
    env = os.environ if env is None else env
    folder = FilePath.cwd() if folder is None else folder
    source = read_yaml(name, text, env)
    apply_overrides(source, overrides, env)
    read_files(source, folder)
    make_absolute(source, folder)
    checked = validate(source, Settings)
    faults = source.faults + checked.faults + check_references(source, checked) + _expressions(source)
    faults = sorted(
        dict.fromkeys(faults), key=lambda fault: (fault.line is None, fault.line or 0, fault.column or 0)
    )
    loaded = Loaded(source, faults=faults, rest=checked)
    if not faults and checked.settings is not None:
        state_dir = (folder / checked.settings.state_dir.expanduser()).resolve()
        loaded.settings = checked.settings.model_copy(update={"state_dir": state_dir})
        loaded.warnings = warnings_of(loaded.settings, source)
    return loaded


def _expressions(source: Source) -> list[Fault]:
    """Faults inside the rules' expressions, rules with other faults included; names are those of the file."""
    faults: list[Fault] = []
    lists = list(source.block("lists"))
    segments = list(source.block("identity", "segments"))
    for name, route in source.block("routes").items():
        rules = route.get("rules") if isinstance(route, dict) else None
        for index, rule in enumerate(rules if isinstance(rules, list) else []):
            when = rule.get("when") if isinstance(rule, dict) else None
            if not isinstance(when, str) or not when:
                continue
            path: Path = ("routes", name, "rules", index, "when")
            place = source.place(path)
            on = "request" if rule.get("on", "request") == "request" else "prediction"
            kept = list(source.block("routes", name, "session", "remember"))
            for fault in check_expression(when, on=on, lists=lists, segments=segments, remembered=kept):
                line, column = place_inside(source, place, when, fault.line, fault.column)
                faults.append(Fault(place.place, line, column, path, fault.found, fault.wanted, fault.mend))
    return faults
