"""Checks that need the data plane or the machine join the same report."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from gateway.config import expressions
from gateway.runtime.check import check
from tests.config.examples import EVERYTHING, TEN_LINES


def written(folder: Path, text: str) -> Path:
    file = folder / "gateway.yaml"
    file.write_text(text)
    return file


def test_good_file_is_good(tmp_path: Path) -> None:
    """Everything at once: file, compiler, ports, folders; and nothing is left behind."""
    more = "listen: {inference: '127.0.0.1:0', admin: null}\n"
    loaded = check(written(tmp_path, TEN_LINES + more), env={})
    assert loaded.faults == []
    assert loaded.settings is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gateway.yaml"]


def test_port_in_use_stands_in_the_one_report(tmp_path: Path) -> None:
    """Beside the faults of the file, in its lines."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        text = TEN_LINES.replace("spam-v3, ham]", "spam-v3, hamm]")
        file = written(tmp_path, f"listen: {{inference: '127.0.0.1:{port}', admin: null}}\n{text}")
        found = [str(fault) for fault in check(file, env={}).faults]
    mend = "another process has the port: stop it, or choose another port"
    assert found == [
        f"{file}:1:21: listen.inference: cannot listen on 127.0.0.1:{port}: Address already in use ({mend})",
        f'{file}:7:22: routes.spam.chain[1]: there is no backend "hamm"; wanted ham or spam-v3 (did you mean ham?)',
    ]
    assert check(written(tmp_path, TEN_LINES), env={}, machine=False).faults == []


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("unix:{folder}/none/s.sock", "there is no folder"),
        ("unix:{folder}/plain", "a file that is no socket stands there"),
        ("unix:{folder}/live.sock", "another process listens there"),
        ("192.0.2.1:0", "this machine has no such address"),
        ("no.such.host.invalid:80", "cannot listen on no.such.host.invalid:80"),
    ],
)
def test_addresses_that_cannot_be_listened_on_are_faults(tmp_path: Path, address: str, wanted: str) -> None:
    """Each with its own words, before anything is started."""
    (tmp_path / "plain").write_text("")
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(tmp_path / "live.sock"))
        live.listen(1)
        where = address.format(folder=tmp_path)
        file = written(tmp_path, f"listen: {{inference: '{where}', admin: null}}\n{TEN_LINES}")
        found = [str(fault) for fault in check(file, env={}).faults]
    assert len(found) == 1
    assert wanted in found[0]
    assert found[0].startswith(f"{file}:1:21: listen.inference: ")


def test_socket_left_by_a_killed_gateway_is_no_fault(tmp_path: Path) -> None:
    """After kill -9 the file stands there still, and nobody listens."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    file = written(tmp_path, f"listen: {{inference: 'unix:{tmp_path}/dead.sock', admin: null}}\n{TEN_LINES}")
    assert check(file, env={}).faults == []


def test_state_that_cannot_be_kept_is_a_fault(tmp_path: Path) -> None:
    """A gateway that cannot write its ledger must not start as if it could."""
    (tmp_path / "state").write_text("a file")
    file = written(tmp_path, f"listen: {{inference: '127.0.0.1:0', admin: null}}\n{TEN_LINES}")
    assert [fault.found for fault in check(file, env={}).faults] == [f"{tmp_path}/state is a file"]


def test_kept_secret_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    """An unreadable key is told before a call is taken."""
    (tmp_path / "state" / "receipt-key").mkdir(parents=True)
    file = written(tmp_path, f"listen: {{inference: '127.0.0.1:0', admin: null}}\n{TEN_LINES}")
    found = [str(fault) for fault in check(file, env={}).faults]
    assert len(found) == 1
    assert "secrets.receipt_keys: cannot read" in found[0]


def test_folder_without_permission_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container with a read-only file system has it."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    file = written(
        tmp_path, f"listen: {{inference: '127.0.0.1:0', admin: null}}\nstate_dir: kept\n{TEN_LINES}"
    )
    assert [str(fault) for fault in check(file, env={}).faults] == [
        f"{file}:2:12: state_dir: the folder {tmp_path} cannot be written; wanted a folder that the gateway may write"
    ]


def test_compiler_finds_what_no_checker_is_there_to_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sidecar has no cel-expr-python: the data plane's compiler refuses bad CEL, at the file's line and column."""
    monkeypatch.setattr(expressions, "checker_installed", lambda: False)
    text = EVERYTHING.replace(
        "'prediction.score > 0.9'", "|\n          prediction.score >\n            0.9 )"
    ).replace("- {on: prediction, when: |", "- on: prediction\n        when: |")
    text = text.replace("0.9 ), then: review}", "0.9 )\n        then: review")
    file = written(tmp_path, text.replace("floor: 0.80", "floor: 80"))
    found = check(file, env={}, machine=False).faults
    assert [fault.path[-1] for fault in found] == ["floor", "when"]
    line = found[1].line
    assert line is not None
    assert text.splitlines()[line - 1].strip() == "0.9 )"


def test_what_only_the_compiler_knows_has_its_line(tmp_path: Path) -> None:
    """Segments must fit into a receipt: the data plane says so, the file's line is shown."""
    long = "a-segment-whose-name-is-much-longer-than-what-a-receipt-can-hold"
    file = written(tmp_path, f"identity: {{segments: {{{long}: 'metadata:x'}}}}\n{TEN_LINES}")
    found = check(file, env={}, machine=False).faults
    assert [(fault.line, fault.path) for fault in found] == [(1, ("identity", "segments"))]
