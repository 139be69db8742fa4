"""A real Label Studio from PyPI on SQLite, as a process in a virtual environment of its own, and people who use it.

Its environment is made once under `.venvs/label-studio` and made again when the pinned requirements change. Its first
start takes over a minute, mostly for its database, so a copy of that with two users is kept beside it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from http.cookiejar import CookieJar
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

from tests.wire.gateway_process import ROOT, free_ports

__all__ = ["ANNOTATOR", "OWNER", "LabelStudioProcess", "Unavailable", "environment"]

REQUIREMENTS = Path(__file__).with_name("label-studio-requirements.txt")
HOME = ROOT / ".venvs" / "label-studio"
FRESH = HOME / "fresh"
START_S = 240.0  # 35 s with a database on an idle machine, 90 s without
OWNER, ANNOTATOR = "owner@example.org", "ann@example.org"
PASSWORD = "a-Password-9"


class Unavailable(Exception):
    """The environment cannot be made here."""


def environment() -> Path:
    """The environment's folder of programs; made when absent or when the requirements changed.

    Raises: Unavailable, with what uv said.
    """
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    stamp = HOME / "made-from"
    HOME.parent.mkdir(exist_ok=True)
    with (HOME.parent / "label-studio.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs in one tree make it once
        if not stamp.exists() or stamp.read_text() != wanted:
            _uv("venv", "--clear", "--python", sys.executable, str(HOME))
            _uv("pip", "install", "--python", str(HOME / "bin" / "python"), "-r", str(REQUIREMENTS))
            stamp.write_text(wanted)
    return HOME / "bin"


def _uv(*arguments: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "uv", "--quiet", *arguments], capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise Unavailable(f"uv {arguments[0]} failed: {result.stderr.strip()[-400:]}")


class LabelStudioProcess:
    """Label Studio with two users, who have personal access tokens."""

    def __init__(self, directory: Path) -> None:
        [self._port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}"
        self.tokens: dict[str, str] = {}
        self._data = directory / "label-studio"
        self._log = directory / "label-studio.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._access: dict[str, tuple[str, float]] = {}

    # --- its life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Return when it answers.

        Raises: Unavailable, when its environment cannot be made; RuntimeError, with the log, when it does not start.
        """
        programs = environment()
        if not self._data.exists() and (FRESH / "tokens.json").exists():
            shutil.copytree(FRESH, self._data)
        self._data.mkdir(exist_ok=True)
        outside = {
            key: value for key, value in os.environ.items() if not key.startswith(("LABEL_STUDIO", "DJANGO"))
        }
        environ = {
            **outside,
            "LABEL_STUDIO_BASE_DATA_DIR": str(self._data),
            "DJANGO_DB": "sqlite",
            "LATEST_VERSION_CHECK": "false",
            "COLLECT_ANALYTICS": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
            "SSRF_PROTECTION_ENABLED": "false",  # or it sends no webhooks to loopback
            "LABEL_STUDIO_USERNAME": OWNER,
            "LABEL_STUDIO_PASSWORD": PASSWORD,
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(programs / "label-studio"),
                    "start",
                    "--no-browser",
                    "--internal-host=127.0.0.1",
                    f"--port={self._port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._data,
                env=environ,
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"Label Studio did not start:\n{self._log.read_text()[-4000:]}")
            time.sleep(0.25)
        tokens = self._data / "tokens.json"
        if not tokens.exists():
            self._add_users(tokens)
            self._keep()
        self.tokens = json.loads(tokens.read_text())

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> LabelStudioProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- its users ----------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: Any = None, *, user: str = OWNER) -> Any:
        """The JSON that the API answers a user with.

        Raises: AssertionError, with status and text, for anything but success.
        """
        access, since = self._access.get(user, ("", 0.0))
        if time.monotonic() - since > 200:
            answer = self._ask("POST", "/api/token/refresh/", {"refresh": self.tokens[user]}, {})
            access = answer["access"]
            self._access[user] = (access, time.monotonic())
        return self._ask(method, path, body, {"authorization": f"Bearer {access}"})

    def project(self, label_config: str, **settings: Any) -> int:
        """A new project's number."""
        made = self.call(
            "POST", "/api/projects/", {"title": "gateway", "label_config": label_config, **settings}
        )
        return int(made["id"])

    def tasks(self, project: int) -> list[dict[str, Any]]:
        """All tasks of a project, with their annotations, oldest first."""
        listed = self.call("GET", f"/api/tasks/?project={project}&fields=all&page_size=500")
        return sorted(listed["tasks"], key=lambda task: int(task["id"]))

    def annotate(self, task: int, label: str | None, *, user: str = ANNOTATOR, **more: Any) -> int:
        """Answer a task as a user does; None skips it. Returns: the annotation's number."""
        result = [] if label is None else [chosen(label)]
        body = {"result": result, "was_cancelled": label is None, **more}
        return int(self.call("POST", f"/api/tasks/{task}/annotations/", body, user=user)["id"])

    def _ask(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(
            self.url + path, data, {"content-type": "application/json", **headers}, method=method
        )
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                text = answer.read()
        except HTTPError as error:
            with error:
                raise AssertionError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from None
        return json.loads(text) if text.strip() else None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _add_users(self, tokens: Path) -> None:
        """The owner invites the annotator; both make themselves a token, as their pages would."""
        owner = _Browser(self.url)
        owner.post("/user/login/", email=OWNER, password=PASSWORD)
        invite = owner.json("GET", "/api/invite")["invite_url"]
        annotator = _Browser(self.url)
        annotator.post(invite.removeprefix(self.url), email=ANNOTATOR, password=PASSWORD)
        made = {
            name: one.json("POST", "/api/token/")["token"]
            for name, one in ((OWNER, owner), (ANNOTATOR, annotator))
        }
        tokens.write_text(json.dumps(made))

    def _keep(self) -> None:
        """A copy for the next start."""
        draft = HOME / "fresh.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        for name in (".env", "tokens.json"):
            shutil.copy(self._data / name, draft / name)
        with (
            closing(sqlite3.connect(self._data / "label_studio.sqlite3")) as live,
            closing(sqlite3.connect(draft / "label_studio.sqlite3")) as kept,
        ):
            live.backup(kept)
        shutil.rmtree(FRESH, ignore_errors=True)
        draft.rename(FRESH)


class _Browser:
    """A session with its cookies."""

    def __init__(self, url: str) -> None:
        self._url, self._jar = url, CookieJar()
        self._open = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._jar)).open

    def post(self, path: str, **fields: str) -> None:
        with self._open(self._url + path) as page:
            found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.read().decode())
        assert found is not None, path
        form = urlencode({"csrfmiddlewaretoken": found[1], **fields}).encode()
        with self._open(
            urllib.request.Request(self._url + path, form, {"referer": self._url + path})
        ) as page:
            assert "sessionid" in {cookie.name for cookie in self._jar}, page.read()[-2000:]

    def json(self, method: str, path: str) -> Any:
        csrf = next(cookie.value for cookie in self._jar if cookie.name == "csrftoken") or ""
        headers = {"content-type": "application/json", "x-csrftoken": csrf, "referer": self._url}
        data = b"{}" if method == "POST" else None
        with self._open(urllib.request.Request(self._url + path, data, headers, method=method)) as answer:
            return json.loads(answer.read())


def chosen(label: str) -> dict[str, Any]:
    """One choice, as the labelling interface writes it."""
    return {"from_name": "label", "to_name": "request", "type": "choices", "value": {"choices": [label]}}
