"""Label Studio's HTTP API, as much of it as is needed, tried with 1.23.

What it sends is bounded before it is read, and checked before it is believed. Of its answers only those are raised that
an operator can mend, as LabelToolError with what was wanted; what passes by itself is tried again (tenacity).
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
import tenacity

from gateway.errors import LabelToolError

__all__ = ["LEAST_VERSION", "PAGE", "Api", "LabelStudioAnswer", "Task"]

log = logging.getLogger(__name__)

LEAST_VERSION: Final = (1, 20)
"""Older ones have other tokens, or none of the lists used here."""

PAGE: Final = 50
"""Tasks in one request or answer."""

MOST_BYTES: Final = 64 * 1024 * 1024
"""An answer may be this long."""

MOST_USERS: Final = 10_000

ATTEMPTS: Final = 3
RENEW_S: Final = 240.0
"""Access tokens live for 300 s."""


@dataclass(frozen=True, slots=True)
class LabelStudioAnswer:
    """An annotation. `label`: None where it was skipped; `fault`: why there is no label in it.

    `completed_by`, `updated_by`: numbers of users.
    """

    id: int
    version: str
    skipped: bool
    label: str | None
    fault: str
    completed_by: int | None
    updated_by: int | None
    email: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it lies there. `key`: `<decision id>:<row>`, empty where it is none of ours."""

    id: int
    key: str
    answers: tuple[LabelStudioAnswer, ...]


class _Passing(Exception):
    """Something that may be over in a moment."""


class Api:
    """One thread's connection to a Label Studio.

    Args:
        token: personal access token.
        stop: when set, waiting ends and nothing more is tried.
        transport: for tests.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_s: float = 20.0,
        stop: threading.Event | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url
        self._token = token
        self._stop = stop or threading.Event()
        self._clock = clock
        self._client = httpx.Client(
            base_url=url, timeout=timeout_s, transport=transport, headers={"user-agent": "model-gateway"}
        )
        self._access = ""
        self._access_until = 0.0
        self._users: dict[int, str] = {}
        self.requests: Counter[str] = Counter()
        """By how they ended: `ok`, `error`, `unreachable`."""

    def close(self) -> None:
        """Let go of its connections."""
        self._client.close()

    def check(self, project: int, classes: Sequence[str]) -> None:
        """Whether the tasks of a queue can go into a project, and answers come out of it.

        Raises: LabelToolError: old version, no such project, no choices, or not those of the classes.
        """
        release = str(_mapping(self._get("/api/version")).get("release", ""))
        parts = release.split(".")
        if not all(part.isdecimal() for part in parts[:2]) or tuple(map(int, parts[:2])) < LEAST_VERSION:
            wanted = ".".join(map(str, LEAST_VERSION))
            raise LabelToolError(
                "old_version",
                f"Label Studio at {self.url} is {release or 'of no version'}, wanted {wanted} or newer",
            )
        found = _mapping(self._of_project(project, "GET", f"/api/projects/{project}/"))
        controls = found.get("parsed_label_config")
        choices = [
            set(control.get("labels") or ())
            for control in (controls.values() if isinstance(controls, dict) else ())
            if isinstance(control, dict) and str(control.get("type", "")).lower() == "choices"
        ]
        if not any(set(classes) <= offered for offered in choices):
            offered = ", ".join(sorted(set().union(*choices))) or "nothing"
            raise LabelToolError(
                "wrong_choices",
                f"project {project} lets people choose from {offered}, wanted a <Choices> with {', '.join(classes)}; "
                "`gateway label-studio config` prints the labelling interface",
            )

    def send(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        """Put tasks into a project. Not tried again by itself: what may have arrived must be looked for first.

        Returns: their numbers there, in order.
        """
        path = f"/api/projects/{project}/import?return_task_ids=true&commit_to_project=true"
        made = _mapping(self._of_project(project, "POST", path, list(tasks), again=False))
        ids = made.get("task_ids")
        if not isinstance(ids, list) or len(ids) != len(tasks) or not all(type(one) is int for one in ids):
            raise LabelToolError(
                "no_task_ids",
                f"Label Studio at {self.url} did not say which tasks it made of {len(tasks)}; wanted the Community "
                "edition, which imports at once",
            )
        return ids

    def tasks(self, project: int, ids: Sequence[int]) -> list[Task]:
        """Those of at most PAGE tasks that are there, with their annotations."""
        return self._list(project, {"selectedItems": {"all": False, "included": list(ids)}})

    def find(self, project: int, keys: Sequence[str]) -> list[Task]:
        """The tasks of at most PAGE keys that are there; there may be two of one."""
        items = [
            {"filter": "filter:tasks:data.gateway", "operator": "equal", "type": "String", "value": key}
            for key in keys
        ]
        return self._list(project, {"filters": {"conjunction": "or", "items": items}})

    def delete(self, task: int) -> None:
        """Take a task away; no matter if it is gone already."""
        try:
            self._call("DELETE", f"/api/tasks/{task}/")
        except LabelToolError as error:
            if error.kind != "not_found":
                raise

    def author(self, user: int | None) -> str:
        """A user's e-mail address; a number where it is not told."""
        if user is None:
            return "label-studio"
        if user not in self._users:
            try:
                listed = self._get("/api/users/")
            except LabelToolError:
                listed = []
            for one in listed[:MOST_USERS] if isinstance(listed, list) else []:
                if isinstance(one, dict) and type(one.get("id")) is int:
                    self._users[one["id"]] = str(one.get("email") or "")[:128]
            if len(self._users) > MOST_USERS:
                self._users.clear()
            self._users.setdefault(user, "")
        return self._users.get(user) or f"label-studio user {user}"

    def _list(self, project: int, query: Mapping[str, Any]) -> list[Task]:
        params = {
            "project": str(project),
            "fields": "all",
            "page_size": str(2 * PAGE),
            "query": json.dumps(query, separators=(",", ":")),
        }
        path = f"/api/tasks/?{httpx.QueryParams(params)}"
        listed = _mapping(self._of_project(project, "GET", path)).get("tasks")
        if not isinstance(listed, list):
            raise LabelToolError(
                "garbage", f"Label Studio at {self.url} listed no tasks where it was asked for them"
            )
        return [made for one in listed if (made := task_of(one)) is not None]

    def _of_project(
        self, project: int, method: str, path: str, body: Any = None, *, again: bool = True
    ) -> Any:
        """As `_call`, where nothing but the project may be missing."""
        try:
            return self._call(method, path, body, again=again)
        except LabelToolError as error:
            if error.kind != "not_found":
                raise
            words = f"Label Studio at {self.url} has no project {project} that the token's user may see"
            raise LabelToolError("not_found", words) from error

    def _get(self, path: str) -> Any:
        return self._call("GET", path)

    def _call(self, method: str, path: str, body: Any = None, *, again: bool = True) -> Any:
        """The answer's JSON; None where it has none.

        Raises: LabelToolError, kinds `unreachable` (later is better), `denied`, `not_found`, `refused`, `garbage`.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Passing),
            wait=tenacity.wait_exponential(multiplier=0.5, max=5.0) + tenacity.wait_random(0, 0.5),
            stop=tenacity.stop_after_attempt(ATTEMPTS if again else 1)
            | tenacity.stop_when_event_set(self._stop),
            sleep=tenacity.sleep_using_event(self._stop),
            reraise=True,
        )
        try:
            found = retrying(self._once, method, path, body)
        except _Passing as error:
            self.requests["unreachable"] += 1
            raise LabelToolError("unreachable", f"Label Studio at {self.url}: {error}") from error
        except LabelToolError:
            self.requests["error"] += 1
            raise
        self.requests["ok"] += 1
        return found

    def _once(self, method: str, path: str, body: Any) -> Any:
        fresh = self._clock() >= self._access_until
        status, text = self._send(method, path, body, self._renewed() if fresh else self._access)
        if status == 401 and not fresh:  # the token may have been revoked, or its clock runs differently
            status, text = self._send(method, path, body, self._renewed())
        if status in (401, 403):
            raise LabelToolError(
                "denied",
                f"Label Studio at {self.url} refuses {method} {path.partition('?')[0]} ({status}: {_detail(text)}); "
                "the token's user must see the project and may change it",
            )
        if status == 404:
            raise LabelToolError(
                "not_found", f"Label Studio at {self.url} has no {path.partition('?')[0]}: {_detail(text)}"
            )
        if not 200 <= status < 300:
            raise LabelToolError(
                "refused",
                f"Label Studio at {self.url} answers {status} to {method} {path.partition('?')[0]}: {_detail(text)}",
            )
        return _json(self.url, text) if text else None

    def _renewed(self) -> str:
        status, text = self._send("POST", "/api/token/refresh/", {"refresh": self._token}, "")
        if status == 404:
            raise LabelToolError(
                "old_version",
                f"{self.url} has no /api/token/refresh/; wanted a Label Studio of {'.'.join(map(str, LEAST_VERSION))} "
                "or newer, with its path in url if it has one",
            )
        access = _mapping(_json(self.url, text)).get("access") if status == 200 else None
        if not isinstance(access, str) or not access:
            raise LabelToolError(
                "denied",
                f"Label Studio at {self.url} does not take the token ({status}: {_detail(text)}); wanted a "
                "personal access token (Account & Settings), not a legacy one",
            )
        self._access, self._access_until = access, self._clock() + RENEW_S
        return access

    def _send(self, method: str, path: str, body: Any, access: str) -> tuple[int, bytes]:
        headers = {"authorization": f"Bearer {access}"} if access else {}
        try:
            with self._client.stream(method, path, json=body, headers=headers) as answer:
                if answer.status_code in (429, 502, 503, 504) or answer.status_code >= 500:
                    raise _Passing(f"{method} {path.partition('?')[0]} is answered with {answer.status_code}")
                if answer.is_redirect:
                    raise LabelToolError(
                        "refused",
                        f"{self.url} sends on to {answer.headers.get('location', '')[:200]}; write that as url",
                    )
                held = bytearray()
                for part in answer.iter_bytes():
                    held += part
                    if len(held) > MOST_BYTES:
                        raise LabelToolError(
                            "garbage",
                            f"{self.url}{path.partition('?')[0]} answers with over {MOST_BYTES} bytes",
                        )
                return answer.status_code, bytes(held)
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _Passing(f"{method} {path.partition('?')[0]}: {type(error).__name__} {error}") from error


def task_of(found: Any) -> Task | None:
    """A task as the API and the JSON export have it; None where it is none."""
    if not isinstance(found, dict) or type(found.get("id")) is not int:
        return None
    data = found.get("data")
    key = data.get("gateway") if isinstance(data, dict) else None
    answers = [made for one in _list_of(found.get("annotations")) if (made := _answer(one))]
    return Task(found["id"], key if isinstance(key, str) else "", tuple(answers))


def _answer(found: Any) -> LabelStudioAnswer | None:
    if not isinstance(found, dict) or type(found.get("id")) is not int:
        return None
    chosen = [
        choice
        for part in _list_of(found.get("result"))
        if isinstance(part, dict) and part.get("type") == "choices" and isinstance(part.get("value"), dict)
        for choice in _list_of(part["value"].get("choices"))
        if isinstance(choice, str)
    ]
    skipped = bool(found.get("was_cancelled"))
    fault = "" if skipped or len(chosen) == 1 else "no_choice" if not chosen else "several_choices"
    by = found.get("completed_by")
    email = str(by.get("email") or "") if isinstance(by, dict) else ""
    return LabelStudioAnswer(
        id=found["id"],
        # What it says decides with its time: a bulk change need not touch the time.
        version=f"{found.get('updated_at')} {'skipped' if skipped else ','.join(chosen)}"[:400],
        skipped=skipped,
        label=chosen[0] if len(chosen) == 1 and not skipped else None,
        fault=fault,
        completed_by=_number(by.get("id") if isinstance(by, dict) else by),
        updated_by=_number(found.get("updated_by")),
        email=email[:128],
    )


def _list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> int | None:
    return value if type(value) is int else None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _json(url: str, text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        start = text[:80].decode("utf-8", "replace")
        raise LabelToolError(
            "garbage", f"{url} answers with {start!r}..., wanted JSON; is that the address of a Label Studio?"
        ) from None


def _detail(text: bytes) -> str:
    """What Label Studio says for people."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return "no details"
    if not isinstance(found, dict):
        return "no details"
    errors = found.get("validation_errors")
    return f"{found.get('detail', 'no details')}{f' {json.dumps(errors)}' if errors else ''}"[:500]
