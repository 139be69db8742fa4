"""A real PostgreSQL for tests: one server a session in a temporary folder, a fresh database a test.

Tests take the fixtures of `tests/conftest.py`: `postgres_url` (an empty database of the test's own), `ledger_url` (the
same test on SQLite and on PostgreSQL, with the ledger's tables), `postgres` (the server that the session shares). What
kills or stops a server starts its own: `wanted()`, then `with Postgres.start() as server, server.database() as url`.

A database is a copy of one that is there, file by file: 45 ms, where PostgreSQL's usual way takes 260 ms, and making
the ledger's tables in it another 540 ms.

PostgreSQL refuses to run as root; there it runs as Debian's user `postgres`. It listens on a socket in its folder
(nobody is asked for a password) and on a free port of the loopback (everybody is). It does not wait for the disk:
SIGKILL of a server loses nothing of what the kernel has, and a test pulls no plug; benchmarks set `fsync=True`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import psycopg
import pytest

from gateway.ledger import migrations
from gateway.ledger.database import writer_engine
from tests.wire.gateway_process import free_ports

__all__ = ["PASSWORD", "USER", "Postgres", "give", "missing", "required", "wanted"]

USER = "gateway"
PASSWORD = "not-for-logs-8071"  # whoever greps a log for it finds a leak
START_S = 60.0
_OLDEST = 15
_DEBIAN = Path("/usr/lib/postgresql")
_SERVER_USER = "postgres"
_WITH_LEDGER = "with_ledger"


def binaries() -> Path | None:
    """The folder of the newest server's programs, of version 15 or later; None where there is none."""
    found: dict[int, Path] = {}
    folders = list(_DEBIAN.glob("*/bin"))
    if on_path := shutil.which("postgres"):
        folders.append(Path(on_path).resolve().parent)
    for folder in folders:
        if not (folder / "initdb").exists() or not (folder / "postgres").exists():
            continue
        said = subprocess.run([folder / "postgres", "-V"], capture_output=True, text=True, check=False).stdout
        if version := re.search(r"\b(\d+)", said):
            found[int(version[1])] = folder
    newest = max(found, default=0)
    return found[newest] if newest >= _OLDEST else None


def missing() -> str | None:
    """Why no server can be started here, and the mend; None when one can."""
    if binaries() is None:
        return f"PostgreSQL {_OLDEST} or later is not installed (Debian: apt-get install postgresql)"
    if os.getuid() == 0:
        try:
            pwd.getpwnam(_SERVER_USER)
        except KeyError:
            return (
                f"PostgreSQL does not run as root, and there is no user {_SERVER_USER!r} that it could run as"
            )
    return None


def required() -> bool:
    """Whether a run without PostgreSQL is a failed one, as in CI."""
    return os.environ.get("POSTGRES") == "required"


def wanted() -> None:
    """Skip the test where no server can be had; fail it where that is `required`."""
    if why := missing():
        if required():
            pytest.fail(f"POSTGRES=required, but {why}")
        pytest.skip(why)


class Postgres:
    """One server process and its folder.

    The server ends when the thread that started it does (the kernel sees to it), so that no test run, however it
    ends, leaves one behind: start it in the main thread.
    """

    def __init__(self, folder: Path, port: int, *, fsync: bool, settings: dict[str, str]) -> None:
        self.folder = folder
        self.port = port
        self._settings = {
            "fsync": "on" if fsync else "off",
            "full_page_writes": "on" if fsync else "off",
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(folder),
            "max_connections": "200",
            "shared_buffers": "64MB",
            "log_min_messages": "warning",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        self._has_ledger = False

    @classmethod
    def start(
        cls, *, fsync: bool = False, settings: dict[str, str] | None = None, wal: Path | None = None
    ) -> Self:
        """Make a server in a new folder and wait until it answers; `settings` are postgresql.conf's.

        Args: wal: an empty folder for its log of changes, such as a disk of its own, in files of 1 MB; else it stands
            with the data.
        Raises: RuntimeError, with the server's own words.
        """
        folder = Path(tempfile.mkdtemp(prefix="gateway-postgres-"))  # short: a socket's path has 107 bytes
        server = cls(folder, free_ports(1)[0], fsync=fsync, settings=settings or {})
        try:
            password = folder / "password"
            password.write_text(PASSWORD)
            for path in (folder, password, *([wal] if wal else [])):
                give(path)
            server._run(
                *("initdb", "--pgdata", str(folder / "data"), "--username", USER, "--pwfile", str(password)),
                *("--auth-local", "trust", "--auth-host", "scram-sha-256"),
                *("--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"),
                *([] if wal is None else ["--waldir", str(wal), "--wal-segsize", "1"]),
            )
            server.resume()
        except BaseException:
            server.close()
            raise
        return server

    @property
    def pid(self) -> int:
        """Of the process that all others descend from."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    def resume(self) -> None:
        """Start the process (again) over what it left, and wait until it answers."""
        assert self._process is None, "it runs already"
        given = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_server(), _program("postgres"), "-D", str(self.folder / "data"), *given],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # else Ctrl-C would end the server before the tests
            )
        until = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL does not start:\n{self.log()}")
            time.sleep(0.02)

    def revive(self) -> None:
        """Start it again if it has ended by itself, as a service manager would; wait until it answers."""
        assert self._process is not None, "it was stopped"
        until = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None:
                self._process = None
                self.resume()
                return
            assert time.monotonic() < until, f"PostgreSQL does not answer:\n{self.log()}"
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL to the server and to all that it started: as a machine that loses its power, but for the disk."""
        self._signal_all(signal.SIGKILL)
        self._ended().wait()

    def stop(self) -> None:
        """Stop it in order, without waiting for who is connected."""
        process = self._ended()
        process.send_signal(signal.SIGINT)
        try:
            process.wait(START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """Freeze every process of it: connections stay open, and nothing answers. `unpause` ends it."""
        self._signal_all(signal.SIGSTOP)

    def unpause(self) -> None:
        """Let it go on where it was."""
        self._signal_all(signal.SIGCONT)

    def close(self) -> None:
        """Stop it if it runs, and remove its folder."""
        if self._process is not None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ledger(self) -> AbstractContextManager[str]:
        """A fresh database with the ledger's tables at head, as `database`; they are made once, then copied."""
        if not self._has_ledger:
            self.execute(f"CREATE DATABASE {_WITH_LEDGER}")
            engine = writer_engine(self.url(_WITH_LEDGER))
            migrations.make(engine)
            engine.dispose()
            self._has_ledger = True
        return self.database(_WITH_LEDGER)

    @contextmanager
    def database(self, of: str = "template1") -> Iterator[str]:
        """A fresh database, empty or a copy of another; its URL. It is dropped afterwards, whoever is connected."""
        self._made += 1
        name = f"test_{self._made}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {of} STRATEGY FILE_COPY")
        try:
            yield self.url(name)
        finally:
            if self._process is not None:
                self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def url(self, database: str) -> str:
        """By the socket, without a password: the form of `ledger:` in settings."""
        return f"postgresql://{USER}@/{database}?host={self.folder}&port={self.port}"

    def tcp_url(self, database: str, password: str | None = PASSWORD) -> str:
        """By the loopback, where a password is asked for."""
        who = USER if password is None else f"{USER}:{password}"
        return f"postgresql://{who}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement of a test's own; its rows."""
        with psycopg.connect(self._where(database), autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return list(cursor.fetchall()) if cursor.description else []

    def log(self) -> str:
        """What the server has said."""
        file = self.folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def _where(self, database: str) -> str:
        return f"host={self.folder} port={self.port} user={USER} dbname={database} connect_timeout=5"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._where("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def _signal_all(self, number: signal.Signals) -> None:
        """The server first, or it would start new processes for those that are gone; each of them is its own group."""
        assert self._process is not None, "it does not run"
        server = psutil.Process(self._process.pid)
        server.send_signal(signal.SIGSTOP)
        family = [server, *server.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        if number == signal.SIGKILL:
            psutil.wait_procs(family[1:], timeout=START_S)

    def _ended(self) -> subprocess.Popen[bytes]:
        process, self._process = self._process, None
        assert process is not None, "it does not run"
        return process

    def _run(self, program: str, *given: str) -> None:
        result = subprocess.run(
            [*_as_server(), _program(program), *given],
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=START_S,
            check=False,
        )
        if result.returncode != 0:
            raise RuntimeError(f"{program} ended with {result.returncode}:\n{result.stdout}{result.stderr}")


def give(path: Path) -> None:
    """Let a server have a file or a folder; it does not run as root."""
    if os.getuid() == 0:
        shutil.chown(path, _SERVER_USER)


def _program(name: str) -> str:
    folder = binaries()
    assert folder is not None, missing()
    return str(folder / name)


def _as_server() -> list[str]:
    """What goes before a server's command: no root, and SIGQUIT (stop at once) when we are no more."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        assert os.getuid() != 0, "setpriv (util-linux) is missing: PostgreSQL does not run as root"
        return []
    user = pwd.getpwnam(_SERVER_USER) if os.getuid() == 0 else None
    other = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"] if user else []
    return [setpriv, "--pdeathsig", "QUIT", *other, "--"]
