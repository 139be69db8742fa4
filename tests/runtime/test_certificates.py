"""Certificates are judged before they are used, at the settings that name them, and again when they change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Loaded
from gateway.runtime import CertificateWatch
from gateway.runtime.certificates import expires_soon
from gateway.runtime.check import check
from tests.wire.certificates import Authority, Pair, swap

DAY = 86_400
Change = Callable[[Path, Authority], None]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def checked(folder: Path, *, offline: bool = False) -> Loaded:
    """Settings that name every file there can be, checked as `gateway check` does."""
    file = folder / "gateway.yaml"
    file.write_text("""\
listen:
  inference: "127.0.0.1:0"
  admin: null
  tls:
    cert: tls.crt
    key: tls.key
    client_ca: ca.crt
backends:
  spam:
    grpc: "spam:8001"
    tls: {ca: ca.crt, cert: tls.crt, key: tls.key}
default_backend: spam
""")
    return check(file, env={}, machine=not offline)


def prepare(folder: Path, authority: Authority) -> Pair:
    pair = authority.issue("localhost")
    pair.write(folder)
    authority.write(folder)
    return pair


def test_good_files_are_good(authority: Authority, tmp_path: Path) -> None:
    """No fault, no warning, and paths start at the folder of the settings."""
    prepare(tmp_path, authority)
    loaded = checked(tmp_path)
    assert loaded.faults + loaded.warnings == []
    assert loaded.settings is not None
    assert loaded.settings.listen.tls is not None
    assert loaded.settings.listen.tls.cert == str(tmp_path / "tls.crt")


def test_a_missing_file_is_a_fault_at_each_setting_that_names_it(
    authority: Authority, tmp_path: Path
) -> None:
    """With line, column and mend; a look at the settings alone does not mind."""
    prepare(tmp_path, authority)
    (tmp_path / "tls.crt").unlink()
    words = f"{tmp_path / 'tls.crt'}: there is no such file (write where it stands)"
    file = tmp_path / "gateway.yaml"
    assert [str(fault) for fault in checked(tmp_path).faults] == [
        f"{file}:5:11: listen.tls.cert: {words}",
        f"{file}:11:29: backends.spam.tls.cert: {words}",
    ]
    assert checked(tmp_path, offline=True).faults == []


def _expired(folder: Path, authority: Authority) -> None:
    authority.issue("localhost", start_days=-90, end_days=-5).write(folder)


def _too_early(folder: Path, authority: Authority) -> None:
    authority.issue("localhost", start_days=1).write(folder)


def _mismatch(folder: Path, authority: Authority) -> None:
    (folder / "tls.key").write_bytes(authority.issue("localhost").key)


def _der(folder: Path, authority: Authority) -> None:
    (folder / "tls.crt").write_bytes(authority.issue("localhost").der)


def _folder(folder: Path, authority: Authority) -> None:
    (folder / "tls.crt").unlink()
    (folder / "tls.crt").mkdir()


def _encrypted(folder: Path, authority: Authority) -> None:
    text = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
    (folder / "tls.key").write_text(text)


def _broken(folder: Path, authority: Authority) -> None:
    (folder / "tls.crt").write_text("-----BEGIN CERTIFICATE-----\nMIIBAAAA\n-----END CERTIFICATE-----\n")


def _no_authority(folder: Path, authority: Authority) -> None:
    (folder / "ca.crt").write_text("hello")


@pytest.mark.parametrize(
    ("change", "setting", "words"),
    [
        (_expired, "cert", "expired 5 days ago (renew it)"),
        (_too_early, "cert", "is not valid yet"),
        (_mismatch, "key", "it is not the key of the certificate in"),
        (_der, "cert", "it seems to be DER (openssl x509 -inform der"),
        (_folder, "cert", "this is no file"),
        (_encrypted, "key", "this key is encrypted (openssl pkey"),
        (_broken, "cert", "cannot be parsed"),
        (_no_authority, "client_ca", "there is no -----BEGIN CERTIFICATE----- in it"),
    ],
)
def test_each_fault_has_its_words(
    authority: Authority, tmp_path: Path, change: Change, setting: str, words: str
) -> None:
    """One mistake, one line at the listener and one at the backend."""
    prepare(tmp_path, authority)
    change(tmp_path, authority)
    faults = checked(tmp_path).faults
    assert [fault.path[-1] for fault in faults] == [setting, "ca" if setting == "client_ca" else setting]
    assert words in faults[0].text


def test_a_key_that_everybody_may_read_is_a_warning(authority: Authority, tmp_path: Path) -> None:
    """It works, and should not."""
    prepare(tmp_path, authority)
    (tmp_path / "tls.key").chmod(0o644)
    loaded = checked(tmp_path)
    assert loaded.faults == []
    assert [warning.path for warning in loaded.warnings] == [
        ("listen", "tls", "key"),
        ("backends", "spam", "tls", "key"),
    ]
    assert "everybody on this machine may read this private key" in loaded.warnings[0].text


def test_a_certificate_near_its_end_is_a_warning(authority: Authority, tmp_path: Path) -> None:
    """Before callers meet it."""
    prepare(tmp_path, authority)
    authority.issue("localhost", start_days=-80, end_days=10).write(tmp_path)
    (warning, _) = checked(tmp_path).warnings
    assert warning.path == ("listen", "tls", "cert")
    assert "expires in 10 days" in warning.text


@pytest.mark.parametrize(
    ("life_days", "left_days", "soon"),
    [(90, 15, False), (90, 13, True), (3650, 15, False), (1 / 24, 0.5 / 24, False), (1 / 24, 0.1 / 24, True)],
)
def test_soon_goes_by_a_certificates_own_life(life_days: float, left_days: float, soon: bool) -> None:
    """Certificates of an hour are renewed at half of it: two weeks of warning would be all of their life."""
    one = {"not_before": 0, "not_after": int(life_days * DAY)}
    assert expires_soon(one, (life_days - left_days) * DAY) is soon


class Reloads:
    """Stands for the data plane: counts, and is faulty where a test wants it."""

    def __init__(self) -> None:
        self.count = 0
        self.warned_at = 0
        """How often the files had been read when the certificates in use were looked at last."""
        self.looked = asyncio.Event()
        self.faults: list[dict[str, Any]] = []
        self.in_use: list[dict[str, Any]] = []

    def reload_certificates(self) -> dict[str, list[Any]]:
        self.count += 1
        return {"taken": [], "faults": self.faults}

    def certificates(self) -> list[dict[str, Any]]:
        self.looked.set()
        self.warned_at = self.count
        return self.in_use


async def until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not look():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_swapped_link_is_seen(tmp_path: Path) -> None:
    """Kubernetes changes nothing but the link `..data` beside the files."""
    volume = tmp_path / "volume"
    swap(volume, {"tls.crt": b"one"})
    plane = Reloads()
    watch = CertificateWatch(plane)
    watch.follow([volume / "tls.crt"])
    task = asyncio.create_task(watch.run())
    try:
        await until(plane.looked.is_set)
        before = plane.count
        swap(volume, {"tls.crt": b"two"})
        await until(lambda: plane.count > before)
    finally:
        task.cancel()


async def test_other_files_are_followed_after_a_reload(tmp_path: Path) -> None:
    """The first policy had no certificates; a later one names some, in a folder that comes even later."""
    plane = Reloads()
    watch = CertificateWatch(plane)
    task = asyncio.create_task(watch.run())
    try:
        await asyncio.sleep(0)
        watch.follow([tmp_path / "late" / "tls.crt"])
        await until(lambda: plane.count > 0)
        (tmp_path / "late").mkdir()
        (tmp_path / "late" / "tls.crt").write_text("one")
        before = plane.count
        watch.follow([tmp_path / "late" / "tls.crt", tmp_path / "late" / "tls.key"])
        await until(lambda: plane.count > before)
    finally:
        task.cancel()


async def test_the_end_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once when it is near, and once when it has come: not every few seconds."""
    now = [100.0]
    file = tmp_path / "tls.crt"
    plane = Reloads()
    plane.in_use = [
        {"place": ["listen", "tls"], "setting": "cert", "file": str(file), "not_before": 0, "not_after": 1000}
    ]
    watch = CertificateWatch(plane, clock=lambda: now[0])
    watch.follow([file])
    task = asyncio.create_task(watch.run())
    try:
        for at, text in (
            (100.0, "one"),
            (900.0, "two"),
            (901.0, "three"),
            (1000.0, "four"),
            (1001.0, "five"),
        ):
            now[0] = at
            before = plane.count
            file.write_text(text)
            await until(lambda before=before: plane.warned_at > before)  # type: ignore[misc]
    finally:
        task.cancel()
    warned = [record.message for record in caplog.records if record.name == "gateway.runtime.certificates"]
    assert warned == [
        f"the certificate of listen.tls.cert expires in 100 seconds ({file})",
        f"the certificate of listen.tls.cert has expired ({file})",
    ]
