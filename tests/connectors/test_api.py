"""What Label Studio may answer when it is not well; a stand-in says it, as the real one cannot be made to."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import tenacity

from gateway.connectors.label_studio import Api
from gateway.connectors.label_studio.api import MOST_BYTES
from gateway.errors import LabelToolError

Handler = Callable[[httpx.Request], httpx.Response]
PROJECT = {"parsed_label_config": {"label": {"type": "Choices", "labels": ["ham", "spam"]}}}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenacity, "sleep_using_event", lambda event: lambda seconds: None)


@contextmanager
def api(answers: dict[str, Any], seen: list[str] | None = None, **more: Any) -> Iterator[Api]:
    """By path: a JSON value, a response, an exception, or a deque of these, of which the last one stays."""

    def handle(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if seen is not None:
            seen.append(path)
        told = answers.get(path, {"access": "a"} if path == "/api/token/refresh/" else httpx.Response(404))
        if isinstance(told, deque):
            told = told.popleft() if len(told) > 1 else told[0]
        if isinstance(told, Exception):
            raise told
        return told if isinstance(told, httpx.Response) else httpx.Response(200, json=told)

    made = Api("http://studio", "a.b.c", transport=httpx.MockTransport(handle), **more)
    yield made
    made.close()


def fails(answers: dict[str, Any], *, project: int = 3) -> LabelToolError:
    with (
        api({"/api/version": {"release": "1.23.2"}, "/api/projects/3/": PROJECT, **answers}) as made,
        pytest.raises(LabelToolError) as error,
    ):
        made.check(project, ["ham", "spam"])
    return error.value


@pytest.mark.parametrize(
    ("answers", "kind", "words"),
    [
        ({"/api/version": {"release": "1.11.0"}}, "old_version", "is 1.11.0, wanted 1.20 or newer"),
        ({"/api/version": {}}, "old_version", "of no version"),
        ({"/api/version": ["1.23"]}, "old_version", "of no version"),
        ({"/api/token/refresh/": httpx.Response(404)}, "old_version", "has no /api/token/refresh/"),
        (
            {"/api/token/refresh/": httpx.Response(401, json={"detail": "Token is invalid"})},
            "denied",
            "does not take the token (401: Token is invalid); wanted a personal access token",
        ),
        ({"/api/token/refresh/": {"access": None}}, "denied", "does not take the token"),
        ({"/api/projects/3/": httpx.Response(403)}, "denied", "may change it"),
        (
            {"/api/projects/3/": httpx.Response(404, json={"detail": "No Project matches"})},
            "not_found",
            "has no project 3 that the token's user may see",
        ),
        ({"/api/projects/3/": httpx.Response(500)}, "unreachable", "answered with 500"),
        ({"/api/projects/3/": httpx.Response(429)}, "unreachable", "answered with 429"),
        ({"/api/projects/3/": httpx.ReadTimeout("slow")}, "unreachable", "ReadTimeout slow"),
        ({"/api/version": httpx.ConnectError("refused")}, "unreachable", "ConnectError refused"),
        ({"/api/version": httpx.Response(200, text="<html>")}, "garbage", "'<html>'..., wanted JSON"),
        ({"/api/version": httpx.Response(200, content=b"[" * 100_000)}, "garbage", "wanted JSON"),
        (
            {"/api/version": httpx.Response(302, headers={"location": "https://login"})},
            "refused",
            "sends on to https://login",
        ),
        ({"/api/projects/3/": {"parsed_label_config": None}}, "wrong_choices", "choose from nothing"),
        (
            {"/api/projects/3/": {"parsed_label_config": {"l": {"type": "Choices", "labels": ["ham"]}}}},
            "wrong_choices",
            "choose from ham, wanted a <Choices> with ham, spam",
        ),
        (
            {"/api/version": httpx.Response(200, content=b" " * (MOST_BYTES + 1))},
            "garbage",
            f"with over {MOST_BYTES} bytes",
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_mend(answers: dict[str, Any], kind: str, words: str) -> None:
    """An operator reads one line and knows what to do."""
    error = fails(answers)
    assert error.kind == kind
    assert words in str(error)
    assert "a.b.c" not in str(error), "the token is nobody's to read"


def test_what_passes_by_itself_is_tried_again() -> None:
    """A restart of Label Studio is no outage; one that lasts is counted once."""
    answers = {
        "/api/version": deque([httpx.Response(502), httpx.ConnectError("not yet"), {"release": "1.23.2"}]),
        "/api/projects/3/": PROJECT,
    }
    with api(answers) as made:
        made.check(3, ["ham"])
        assert made.requests == {"ok": 2}
    with api({"/api/version": httpx.Response(503)}) as made:
        with pytest.raises(LabelToolError):
            made.check(3, ["ham"])
        assert made.requests == {"unreachable": 1}


def test_an_import_is_never_tried_again_by_itself() -> None:
    """It may have arrived; whoever knows the tasks must look for them first."""
    seen: list[str] = []
    with (
        api({"/api/projects/3/import": httpx.ReadTimeout("slow")}, seen) as made,
        pytest.raises(LabelToolError),
    ):
        made.send(3, [{"data": {}}])
    assert seen.count("/api/projects/3/import") == 1


@pytest.mark.parametrize("told", [{"import": 5}, {"task_ids": [1]}, {"task_ids": ["1", "2"]}, []])
def test_an_import_that_does_not_say_which_tasks_it_made_is_refused(told: Any) -> None:
    """Other editions import later; guessing numbers would mix tasks up."""
    with (
        api({"/api/projects/3/import": told}) as made,
        pytest.raises(LabelToolError, match="did not say which tasks it made of 2"),
    ):
        made.send(3, [{"data": {}}, {"data": {}}])


def test_a_new_access_token_is_fetched_before_the_old_one_ends_and_when_it_is_refused() -> None:
    """They live for five minutes; a revoked one is refused earlier."""
    now, seen = [0.0], list[str]()
    answers = {"/api/users/": deque([[], httpx.Response(401), []])}
    with api(answers, seen, clock=lambda: now[0]) as made:
        made.author(1)
        now[0] = 200.0
        made.author(2)
        assert seen.count("/api/token/refresh/") == 2, "the second list was refused first"
        now[0] = 500.0
        made.author(3)
        assert seen.count("/api/token/refresh/") == 3
        assert made.requests == {"ok": 3}


@pytest.mark.parametrize(
    "listed",
    [
        None,
        {"tasks": None},
        {"tasks": 5},
        [],
    ],
)
def test_a_list_that_is_none_takes_no_task_for_deleted(listed: Any) -> None:
    """A proxy's page instead of tasks must not give them all back."""
    told = httpx.Response(200, content=json.dumps(listed))
    with api({"/api/tasks/": told}) as made, pytest.raises(LabelToolError, match="listed no tasks"):
        made.tasks(3, [1])


def test_strange_tasks_and_annotations_are_left_out() -> None:
    """Whatever plugins add, one odd entry must not stop the others."""
    good = {
        "id": 4,
        "result": [{"type": "choices", "value": {"choices": ["ham"]}}],
        "completed_by": {"id": 7, "email": "a@b"},
    }
    odd = [
        5,
        {"id": "x"},
        {"id": True},
        {"id": 1, "data": [], "annotations": {}},
        {
            "id": 2,
            "data": {"gateway": 5},
            "annotations": [
                None,
                {"id": 1, "result": "x"},
                {
                    "id": 2,
                    "result": [
                        3,
                        {"type": "choices", "value": 5},
                        {"type": "choices", "value": {"choices": 5}},
                    ],
                },
                {"id": 3, "result": [{"type": "choices", "value": {"choices": ["ham", "spam", 3]}}]},
                good,
            ],
        },
    ]
    with api({"/api/tasks/": {"tasks": odd}}) as made:
        first, second = made.tasks(3, [1])
    assert (first.id, first.key, first.answers) == (1, "", ())
    assert [(answer.label, answer.fault) for answer in second.answers] == [
        (None, "no_choice"),
        (None, "no_choice"),
        (None, "several_choices"),
        ("ham", ""),
    ]
    assert second.answers[-1].email == "a@b"


def test_a_user_who_is_not_told_is_a_number() -> None:
    """The list of users may be closed to the token's user."""
    with api({"/api/users/": httpx.Response(403)}) as made:
        assert made.author(7) == "label-studio user 7"
        assert made.author(None) == "label-studio"
    with api({"/api/users/": [{"id": 7, "email": "ann@example.org"}, {"id": 8}, 9]}) as made:
        assert made.author(7) == "ann@example.org"
        assert made.author(8) == "label-studio user 8"
