"""The checks of settings that need more than the file: the data plane's own compiler, and this machine.

`gateway.config` knows neither, so that it can be imported anywhere; `gateway check`, `serve` and a reload come here,
and show one report.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as FilePath

from gateway.config import Fault, Loaded, Settings, read, read_text
from gateway.config.faults import Path
from gateway.config.source import Source
from gateway.runtime.certificates import certificate_faults
from gateway.runtime.document import document, settings_path
from gateway.runtime.rules import rule_faults

__all__ = ["check", "check_text", "compile_faults", "preflight"]


def check(
    path: str | FilePath,
    overrides: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    *,
    machine: bool = True,
    files: bool | None = None,
    code: bool = True,
) -> Loaded:
    """Read a file and try everything that can be tried before it is used.

    With `machine=False` (a reload, or a look at the file alone) ports and folders are left out: the running gateway has
    them already. `files`: whether certificates are looked at; as `machine` says if None. `code`: whether the functions
    of rules in Python are loaded, which runs their modules' code in a process of its own. `settings` of what is
    returned is None if there is any fault.
    """
    loaded = read(path, overrides, env)
    folder = FilePath(path).absolute().parent
    return _judged(loaded, folder, machine=machine, files=machine if files is None else files, code=code)


def check_text(
    text: str,
    *,
    name: str,
    folder: FilePath,
    overrides: Sequence[str] = (),
    code: bool = False,
    env: Mapping[str, str] | None = None,
) -> Loaded:
    """As `check` without this machine, of a text that somebody sent; relative paths in it start at `folder`."""
    loaded = read_text(text, name=name, folder=folder, overrides=overrides, env=env)
    return _judged(loaded, folder, machine=False, files=False, code=code)


def _judged(loaded: Loaded, folder: FilePath, *, machine: bool, files: bool, code: bool) -> Loaded:
    known = {fault.path for fault in loaded.faults}
    faults = [fault for fault in compile_faults(loaded) if fault.path not in known]
    if machine and loaded.rest.settings is not None:
        settings = loaded.settings or loaded.rest.settings
        known_now = known | {fault.path for fault in faults}
        faults += [fault for fault in preflight(settings, loaded) if fault.path not in known_now]
    if files and loaded.rest.settings is not None:
        found, warnings = certificate_faults(loaded.settings or loaded.rest.settings, loaded.source)
        faults += [fault for fault in found if fault.path not in known]
        loaded.warnings += warnings if loaded.settings is not None else []
    if code and loaded.settings is not None and not faults:
        unloadable = rule_faults(loaded.settings, folder)
        faults = [loaded.fault(fault.path, fault.found, fault.wanted, fault.mend) for fault in unloadable]
    if faults:
        loaded.settings = None
        loaded.faults = sorted(
            loaded.faults + faults, key=lambda fault: (fault.line is None, fault.line or 0, fault.column or 0)
        )
    return loaded


def compile_faults(loaded: Loaded) -> list[Fault]:
    """What the data plane's compiler refuses.

    Where the file has faults already, only those inside expressions are taken: others may follow from what was left
    out.
    """
    from gateway._dataplane import Policy, PolicyError

    settings = loaded.settings or loaded.rest.settings
    if settings is None:
        return []
    policy = document(settings, version=1, salt_hex="00" * 32, receipt_keys=[bytes(32)])
    try:
        Policy(json.dumps(policy))
    except PolicyError as error:
        made = []
        for fault in error.args[0]:
            path = loaded.rest.original(settings_path(policy, fault["path"]))
            inside = fault["line"] is not None and path[-1:] == ("when",)
            if inside or (fault["line"] is not None and _is_path(loaded, path)):
                text = _text_at(policy, fault["path"])
                made.append(
                    loaded.fault_inside(path, text, fault["line"], fault["column"] or 1, fault["message"])
                )
            elif loaded.settings is not None:
                made.append(loaded.fault(path, fault["message"]))
        return made
    return []


def _is_path(loaded: Loaded, path: Path) -> bool:
    """Whether a text of the file stands there, within which a place can be shown."""
    return loaded.settings is not None and path in loaded.source.places


def _text_at(policy: object, path: Sequence[str | int]) -> str:
    for part in path:
        policy = policy[part]  # type: ignore[index]
    return str(policy)


def preflight(settings: Settings, loaded: Loaded | None = None) -> list[Fault]:
    """What this machine would refuse.

    Addresses that cannot be bound, a `state_dir` that cannot be written, secrets kept there that cannot be read.
    Nothing is left behind; `loaded` gives the faults their lines.
    """
    source = loaded.source if loaded is not None else Source("settings")
    addresses = [(("listen", "inference"), settings.listen.inference)]
    if settings.listen.admin is not None:
        addresses.append((("listen", "admin"), settings.listen.admin))
    faults = []
    for path, address in addresses:
        found = _unbindable(address)
        if found is not None:
            faults.append(source.fault(path, f"cannot listen on {address}: {found[0]}", mend=found[1]))
    faults.extend(_state_faults(settings, source))
    return faults


def _unbindable(address: str) -> tuple[str, str] | None:
    if address.startswith("unix:"):
        return _unbindable_path(FilePath(address.removeprefix("unix:")))
    host, _, port = address.rpartition(":")
    try:
        entries = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, target = entries[0]
        with socket.socket(family, kind, protocol) as probe:
            # as the data plane does it, so that connections of a gateway just stopped are no obstacle
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            probe.listen(1)
    except OSError as error:
        mends = {
            errno.EADDRINUSE: "another process has the port: stop it, or choose another port",
            errno.EACCES: "ports below 1024 need a privilege: choose a higher one",
            errno.EADDRNOTAVAIL: "this machine has no such address: 0.0.0.0 listens on all",
        }
        return error.strerror or str(error), mends.get(error.errno or 0, "")
    return None


def _unbindable_path(path: FilePath) -> tuple[str, str] | None:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}", "make it, or choose another path"
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return f"the folder {path.parent} cannot be written", "choose a folder of the gateway's own"
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return "a file that is no socket stands there", "take it away, or choose another path"
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError):
            probe.connect(str(path))
            return "another process listens there", "stop it, or choose another path"
    return None


def _state_faults(settings: Settings, source: Source) -> Iterator[Fault]:
    folder = settings.state_dir
    path: Path = ("state_dir",)
    try:
        there = folder
        while not there.exists() and there != there.parent:
            there = there.parent
        if not there.is_dir():
            yield source.fault(path, f"{there} is a file", "a folder")
            return
        if not os.access(there, os.W_OK | os.X_OK):
            yield source.fault(
                path,
                f"the folder {there} cannot be written",
                "a folder that the gateway may write",
            )
            return
    except OSError as error:
        yield source.fault(
            path, f"cannot look at {folder}: {error.strerror}", "a folder that the gateway may write"
        )
        return
    kept = [("salt", ("secrets", "salt"))] if settings.secrets.salt is None else []
    kept += [] if settings.secrets.receipt_keys else [("receipt-key", ("secrets", "receipt_keys"))]
    for name, setting in kept:
        try:
            with contextlib.suppress(FileNotFoundError):
                (folder / name).read_bytes()
        except OSError as error:
            yield source.fault(
                setting,
                f"cannot read {folder / name}, where it is kept: {error.strerror}",
                "a file that can be read",
                "it belongs to the user that runs the gateway",
            )
