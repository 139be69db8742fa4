"""The audit trail: what is done and that it was done are on disk together, or neither is."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
import typer

from gateway.cli.audit import audit as command
from gateway.ledger import Ledger, audit
from tests.ledger.making import NOW_US, Clock


def trail(ledger: Ledger, **which: object) -> list[tuple[str, str, str]]:
    found = ledger.reader.snapshot(partial(audit.entries, **which))  # type: ignore[arg-type]
    return [(one.actor, one.action, one.subject) for one in found]


def test_an_entry_is_read_as_it_was_written(ledger: Ledger, clock: Clock) -> None:
    """Details come back as the JSON values they were."""
    clock.pass_s(1)
    ledger.audit("ann", "review.answer", "task 17", label="spam", seconds=3.5, again=False).result()
    [found] = ledger.reader.snapshot(audit.entries)
    assert (found.time_us, found.actor, found.action) == (NOW_US + 1_000_000, "ann", "review.answer")
    assert (found.subject, found.details) == ("task 17", {"label": "spam", "seconds": 3.5, "again": False})


def test_a_new_policy_is_noted_and_a_known_one_is_not(ledger: Ledger) -> None:
    """A restart with the same settings changed nothing."""
    for document, author in (({"a": 1}, "serve"), ({"a": 1}, "serve"), ({"a": 2}, "autopilot")):
        ledger.keep_policy(document, author=author, reason="because")
    assert trail(ledger) == [("serve", "policy.keep", "policy 1"), ("autopilot", "policy.keep", "policy 2")]
    assert ledger.reader.snapshot(audit.entries)[1].details["reason"] == "because"


def test_what_is_undone_was_never_noted(ledger: Ledger) -> None:
    """The trail tells of nothing that did not happen."""

    def work(connection: sa.Connection) -> None:
        audit.note(connection, time_us=1, actor="ann", action="forget.unit", subject="a unit")
        raise OverflowError("and then it failed")

    with pytest.raises(OverflowError):
        ledger._writer.submit(work).result()
    assert trail(ledger) == []


def test_entries_are_found_by_time_and_action(ledger: Ledger, clock: Clock) -> None:
    """A noun stands for all that was done to it, but not for longer nouns."""
    for action in ("policy.keep", "policy.kill", "policyholder.add", "export"):
        ledger.audit("ann", action, action).result()
        clock.pass_s(1)
    assert [one[1] for one in trail(ledger, action="policy")] == ["policy.keep", "policy.kill"]
    assert [one[1] for one in trail(ledger, action="policy.kill")] == ["policy.kill"]
    assert [one[1] for one in trail(ledger, since_us=NOW_US + 2_000_000)] == ["policyholder.add", "export"]
    assert [one[1] for one in trail(ledger, limit=1)] == ["export"]
    assert trail(ledger, action="polic%") == []


@pytest.mark.parametrize("action", ["", "Policy.keep", "policy.", "policy keep", "a.b.c"])
def test_an_action_of_another_form_is_refused(ledger: Ledger, action: str) -> None:
    """People search by these words."""
    with pytest.raises(ValueError, match=r"wanted `noun\.verb`"):
        ledger.audit("ann", action, "x").result()


def test_long_texts_are_cut_and_say_so(ledger: Ledger) -> None:
    """What a caller chose must not fill the disk, nor look whole where it is not."""
    ledger.audit("a" * 5_000, "review.skip", "a\0b", reason="b" * 5_000).result()
    [found] = ledger.reader.snapshot(audit.entries)
    assert found.actor == "a" * 1_000 + "... (5,000 characters)"
    assert found.details["reason"].endswith("... (5,000 characters)")
    assert found.subject == "a\N{REPLACEMENT CHARACTER}b"


def shown(capsys: pytest.CaptureFixture[str], folder: Path, **options: object) -> str:
    usual: dict[str, object] = {"overrides": [], "since": None, "action": None, "limit": 1_000, "json": False}
    command(folder, **{**usual, **options})  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_the_command_prints_lines_and_json(
    sqlite_ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same entries for people and for programs; nobody's text moves the cursor."""
    sqlite_ledger.audit("ann", "review.skip", "task 1", reason="\x1b[2Jgone").result()
    sqlite_ledger.audit("bob", "export", "spam.parquet", rows=5).result()
    text = shown(capsys, tmp_path)
    assert text.splitlines()[1] == "2026-09-21T14:13:20.000Z  bob  export  spam.parquet rows=5"
    assert "\x1b" not in text
    found = json.loads(shown(capsys, tmp_path, json=True, action="export"))
    assert found == {
        "entries": [
            {
                "time": "2026-09-21T14:13:20.000Z",
                "actor": "bob",
                "action": "export",
                "subject": "spam.parquet",
                "details": {"rows": 5},
            }
        ],
        "older_left_out": False,
    }
    assert json.loads(shown(capsys, tmp_path, json=True, limit=1))["older_left_out"] is True
    assert shown(capsys, tmp_path, since="2026-09-21T14:13:21") == "No entry.\n"
    assert shown(capsys, tmp_path, since="2026-09-21T16:13:20+02:00") != "No entry.\n"
    assert shown(capsys, tmp_path, since="999999d") == text


def test_a_time_that_is_none_is_wrong_use(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    """Exit 2, and what was wanted."""
    with pytest.raises(typer.BadParameter, match="found 'yesterday', wanted 24h, 7d"):
        command(tmp_path, overrides=[], since="yesterday")
