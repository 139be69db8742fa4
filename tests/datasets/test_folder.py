"""The folder is there whole or not at all, and nothing of anybody's is taken away for it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.datasets import Plan, parse_split
from gateway.datasets.folder import place
from gateway.errors import DataSetError
from tests.datasets.making import SALT, made
from tests.docs.test_readme import ENVIRONMENT, ROOT

SETTINGS = """
state_dir: {state}
backends:
  spam-v3: {{grpc: "127.0.0.1:8001", model: spam}}
routes:
  spam: {{chain: [spam-v3]}}
"""


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_nothing_is_there_before_all_is_written(tmp_path: Path) -> None:
    """Whoever looks for the folder finds it finished."""
    out = tmp_path / "sets" / "out"
    with place(out, force=False) as folder:
        (folder / "card.json").write_text("{}")
        assert not out.exists()
    assert left(out.parent) == ["out"]
    assert left(out) == ["card.json"]


def begin(out: Path, error: BaseException) -> None:
    """Work that ends in the middle."""
    with place(out, force=True) as folder:
        (folder / "train.parquet").write_text("half")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_whatever_ends_the_work_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    """Ctrl-C, SIGTERM, a fault."""
    with pytest.raises(error):
        begin(tmp_path / "out", error())
    assert left(tmp_path) == []


def test_what_stands_there_is_never_overwritten(tmp_path: Path) -> None:
    """A data set only with --force; anything else not even then."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with (
            pytest.raises(DataSetError, match="holds something else than a data set"),
            place(out, force=force),
        ):
            pytest.fail("it must be refused before anything is written")
    (out / "card.json").write_text("{}")
    words = r"holds a data set already; .* or replace it with --force"
    with pytest.raises(DataSetError, match=words), place(out, force=False):
        pytest.fail("it must be refused before anything is written")
    file = tmp_path / "file"
    file.write_text("text")
    with pytest.raises(DataSetError, match="is no folder"), place(file, force=True):
        pytest.fail("it must be refused before anything is written")
    assert left(out) == ["card.json", "thesis.txt"]
    assert left(tmp_path) == ["file", "out"]


def test_a_data_set_is_replaced_whole(tmp_path: Path) -> None:
    """With --force, and only when the new one is there; one that fails leaves the old one."""
    out = tmp_path / "out"
    for text in ("old", "new"):
        with place(out, force=True) as folder:
            (folder / "card.json").write_text(text)
            (folder / f"{text}.parquet").write_text(text)
    assert left(out) == ["card.json", "new.parquet"]
    with pytest.raises(ValueError):
        begin(out, ValueError())
    assert (out / "card.json").read_text() == "new"
    assert left(tmp_path) == ["out"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    """Somebody made it beforehand."""
    (tmp_path / "out").mkdir()
    with place(tmp_path / "out", force=False) as folder:
        (folder / "card.json").write_text("{}")
    assert left(tmp_path / "out") == ["card.json"]


def test_what_came_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    """Two exports to one place: the second to end is refused."""
    out = tmp_path / "out"

    def race() -> None:
        with place(out, force=False) as folder:
            (folder / "card.json").write_text("mine")
            out.mkdir()
            (out / "card.json").write_text("theirs")

    with pytest.raises(DataSetError, match="holds a data set already"):
        race()
    assert (out / "card.json").read_text() == "theirs"
    assert left(tmp_path) == ["out"]


def test_what_a_killed_process_left_is_swept_and_what_another_writes_is_not(tmp_path: Path) -> None:
    """By a lock, which the kernel takes from the dead."""
    script = f"""
        import os, signal, sys
        from pathlib import Path
        from gateway.datasets.folder import place
        with place(Path({str(tmp_path / "out")!r}), force=False) as folder:
            (folder / "train.parquet").write_text("half")
            print("there", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
    with subprocess.Popen(command, **pipes) as other:  # type: ignore[call-overload]
        assert other.stdout is not None
        assert other.stdout.readline() == "there\n"
        (draft,) = tmp_path.iterdir()
        with place(tmp_path / "out", force=False) as folder:
            (folder / "card.json").write_text("{}")
        assert draft.exists(), "another process was still at work on it"
        other.kill()
    assert left(tmp_path) == sorted([draft.name, "out"])
    with place(tmp_path / "out", force=True) as folder:
        (folder / "card.json").write_text("{}")
    assert left(tmp_path) == ["out"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 48 kB. Needs to be root, as in CI and in containers; the test after it stands for others."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("nobody but root may mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("full", [48, 36, 12, 4])
def test_a_full_disk_leaves_nothing(filled: str, small_disk: Path, full: int) -> None:
    """Wherever it gets full: in a file's head, its rows, its foot, or the card. And it is said what was missing."""
    filler = small_disk / "filler"
    filler.write_bytes(b"\0" * 1024 * full)
    with pytest.raises(
        DataSetError, match=r"could not be written: No space left on device; nothing of it is left"
    ):
        made(filled, small_disk / "out", Plan(split=parse_split("unit:0.5"), unknown_units="call"))
    assert left(small_disk) == ["filler"]


@pytest.mark.parametrize("bytes_free", [0, 10_000])
def test_failing_writes_leave_nothing(filled: str, tmp_path: Path, bytes_free: int) -> None:
    """The same by a limit of file size, which needs no root."""
    script = f"""
        import resource
        from pathlib import Path
        from gateway.datasets import Plan, export
        from gateway.errors import DataSetError
        from gateway.ledger import Reader
        reader = Reader.open({filled!r})
        reader.routes()  # now it has the files that it needs itself
        resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes_free}, {bytes_free}))
        try:
            export(reader, Path({str(tmp_path / "out")!r}), Plan(), salt_hex={SALT!r})
        except DataSetError as error:
            assert "File too large" in str(error), error
        else:
            raise SystemExit("it was written")
    """
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert left(tmp_path) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_leaves_nothing(filled: str, tmp_path: Path, number: signal.Signals) -> None:
    """The command, stopped while it writes rows."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "salt").write_text(SALT)
    (state / "ledger.db").write_bytes(Path(filled.removeprefix("sqlite:///")).read_bytes())
    (tmp_path / "gateway.yaml").write_text(SETTINGS.format(state=state))
    script = """
        import sys
        from gateway.cli import main
        from gateway.datasets import writing

        def wait(*arguments):
            print("writing", flush=True)
            sys.stdin.read()

        writing._parted = wait
        sys.argv = ["gateway", "export", "gateway.yaml", "--out", "sets/out"]
        main()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "writing\n", process.communicate()[1]
        assert len(left(tmp_path / "sets")) == 1
        os.kill(process.pid, number)
        assert process.wait(30) != 0
    assert left(tmp_path / "sets") == []
