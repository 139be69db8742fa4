"""`file:` in secrets, tokens and lists, and descriptors: what the file holds takes the place of its name, before
anything is checked."""

from __future__ import annotations

import base64
from pathlib import Path as FilePath
from typing import Any

from gateway.config.faults import Path
from gateway.config.source import UNREADABLE, Source

__all__ = ["MOST_BYTES", "read_files"]

MOST_BYTES = 16 * 1024 * 1024
"""A list may be this long; a longer one belongs into a model or a database."""


def read_files(source: Source, folder: FilePath) -> None:
    """Put in what `secrets`, `access`, `lists` and `descriptors` refer to; what cannot be read becomes a fault."""
    tree = source.tree
    if not isinstance(tree, dict):
        return
    secrets, lists, sets = tree.get("secrets"), tree.get("lists"), tree.get("descriptors")
    if isinstance(sets, str):
        tree["descriptors"] = _set(source, ("descriptors",), sets, folder)
    elif isinstance(sets, list):
        tree["descriptors"] = [
            _set(source, ("descriptors", index), name, folder) if isinstance(name, str) else name
            for index, name in enumerate(sets)
        ]
    if isinstance(secrets, dict):
        if _named(secrets.get("salt")):
            secrets["salt"] = _secret(source, ("secrets", "salt"), secrets["salt"], folder)
        keys = secrets.get("receipt_keys")
        if _named(keys):
            secrets["receipt_keys"] = _secret(source, ("secrets", "receipt_keys"), keys, folder)
        elif isinstance(keys, list):
            secrets["receipt_keys"] = [
                _secret(source, ("secrets", "receipt_keys", index), key, folder) if _named(key) else key
                for index, key in enumerate(keys)
            ]
    access = tree.get("access")
    for name, one in access.items() if isinstance(access, dict) else ():
        if isinstance(one, dict) and _named(one.get("token")):
            one["token"] = _secret(source, ("access", name, "token"), one["token"], folder)
    tool = tree.get("label_studio")
    if isinstance(tool, dict):
        for key in ("token", "webhook_secret"):
            if _named(tool.get(key)):
                tool[key] = _secret(source, ("label_studio", key), tool[key], folder)
    alerts = tree.get("alerts")
    if isinstance(alerts, dict) and _named(alerts.get("secret")):
        alerts["secret"] = _secret(source, ("alerts", "secret"), alerts["secret"], folder)
    telemetry = tree.get("telemetry")
    events = telemetry.get("events") if isinstance(telemetry, dict) else None
    if isinstance(events, dict) and _named(events.get("token")):
        events["token"] = _secret(source, ("telemetry", "events", "token"), events["token"], folder)
    if isinstance(lists, dict):
        for name, value in lists.items():
            if _named(value):
                lists[name] = _lines(source, ("lists", name), value, folder)
            elif isinstance(value, list) and any(map(_named, value)):
                lists[name] = _joined(source, ("lists", name), value, folder)


def _named(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("file:")


def _joined(source: Source, path: Path, values: list[Any], folder: FilePath) -> Any:
    made: list[Any] = []
    for index, value in enumerate(values):
        lines = _lines(source, (*path, index), value, folder) if _named(value) else [value]
        if lines is UNREADABLE:
            return UNREADABLE
        made.extend(lines)
    return made


def _bytes(source: Source, path: Path, value: str, folder: FilePath) -> bytes | None:
    name = value.removeprefix("file:")
    file = folder / name
    try:
        if file.stat().st_size > MOST_BYTES:
            source.faults.append(source.fault(path, f"{name} is longer than {MOST_BYTES} bytes"))
            return None
        return file.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        relative = not FilePath(name).is_absolute()
        mend = f"a relative path starts at {folder}" if relative else ""
        source.faults.append(
            source.fault(path, f"cannot read {name}: {reason}", "a file that can be read", mend)
        )
        return None


def _set(source: Source, path: Path, name: str, folder: FilePath) -> Any:
    held = _bytes(source, path, name, folder)
    return UNREADABLE if held is None else base64.b64encode(held).decode()


def _secret(source: Source, path: Path, value: Any, folder: FilePath) -> Any:
    held = _bytes(source, path, value, folder)
    if held is None:
        return UNREADABLE
    try:
        text = held.decode("ascii").strip()
    except UnicodeDecodeError:
        text = held.hex()
    if len(text) < 16:
        name = value.removeprefix("file:")
        found = f"{name} is empty" if not text else f"{name} holds {len(text)} characters"
        source.faults.append(source.fault(path, found, "a secret of at least 16 characters"))
        return UNREADABLE
    return text


def _lines(source: Source, path: Path, value: str, folder: FilePath) -> Any:
    held = _bytes(source, path, value, folder)
    if held is None:
        return UNREADABLE
    try:
        lines = [line.strip() for line in held.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        name = value.removeprefix("file:")
        source.faults.append(
            source.fault(path, f"{name} is no UTF-8 text (byte {error.start})", "one entry a line")
        )
        return UNREADABLE
    return [line for line in lines if line and not line.startswith("#")]
