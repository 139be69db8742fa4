"""What a good file becomes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.config import load, read_text
from gateway.config.load import Loaded
from gateway.errors import SettingsError
from tests.config.examples import EVERYTHING, TEN_LINES


def good(text: str, *overrides: str, **env: str) -> Loaded:
    loaded = read_text(text, name="gateway.yaml", folder=Path("/srv"), overrides=overrides, env=env)
    assert loaded.faults == [], [str(fault) for fault in loaded.faults]
    return loaded


def test_ten_lines_are_enough() -> None:
    """The first file anybody writes works as it is, with safe defaults for all the rest."""
    settings = good(TEN_LINES).settings
    assert settings is not None
    assert settings.listen.inference == "127.0.0.1:8080"
    assert settings.routes["spam"].chain == ("spam-v3", "ham")
    assert settings.routes["spam"].confidence is not None
    assert settings.routes["spam"].confidence.floor == 0.8
    assert settings.state_dir == Path("/srv/state")
    assert settings.ledger_url == "sqlite:////srv/state/ledger.db"
    assert settings.worker_count >= 1


def test_every_setting_of_this_version_is_read() -> None:
    """A setting that is documented is one that works."""
    settings = good(EVERYTHING).settings
    assert settings is not None
    route = settings.routes["spam"]
    assert settings.backends["spam-v3"].version == "3"
    assert settings.backends["spam-v4"].connect_timeout_ms == 50
    assert [route.rule_name(index) for index in range(5)] == [
        "allow-list",
        "too-many-rows",
        "new-account",
        "rule-4",
        "lite",
    ]
    assert route.review is not None
    assert route.review.wanted_per_hour == 60
    assert str(settings.identity.unit) == "metadata:x-user-id"
    assert settings.receipts.max_age_h == 24


def test_settings_cannot_be_changed() -> None:
    """A call sees one policy: nobody alters settings under way."""
    settings = good(TEN_LINES).settings
    assert settings is not None
    with pytest.raises(ValidationError):
        settings.workers = 3  # type: ignore[misc]


def test_texts_are_kept_as_they_were_written() -> None:
    """`version: 1.10` is not version 1.1, and a class may be called 0."""
    text = TEN_LINES.replace("model: spam}", "model: spam, version: 1.10}").replace("[ham, spam]", "[0, 007]")
    text = text.replace("positive: spam", "positive: 007").replace("label: ham", "label: 0")
    settings = good(text).settings
    assert settings is not None
    assert settings.backends["spam-v3"].version == "1.10"
    prediction = settings.routes["spam"].prediction
    assert prediction is not None
    assert prediction.classes == ("0", "007")


def test_environment_is_put_in_and_typed_afterwards() -> None:
    """The same file serves several places."""
    text = TEN_LINES.replace("0.8}", '"${FLOOR:-0.7}"}').replace("127.0.0.1:8001", "${HOST}:8001")
    settings = good(text, HOST="model").settings
    assert settings is not None
    assert settings.backends["spam-v3"].grpc == ("model:8001",)
    assert settings.routes["spam"].confidence is not None
    assert settings.routes["spam"].confidence.floor == 0.7
    assert good(text, HOST="model", FLOOR="0.9").settings.routes["spam"].confidence.floor == 0.9  # type: ignore[union-attr]


def test_set_goes_before_the_file() -> None:
    """What is given on the command line wins, also where the file says nothing."""
    settings = good(
        TEN_LINES,
        "routes.spam.confidence.floor=0.5",
        "listen.inference=127.0.0.1:0",
        "routes.spam.chain[1]=ham",
        'identity={unit: "metadata:x-user"}',
        "routes.spam.mirror[0].to=spam-v4",
        "backends.spam-v4.grpc=h:1",
    ).settings
    assert settings is not None
    assert settings.routes["spam"].confidence.floor == 0.5  # type: ignore[union-attr]
    assert settings.listen.inference == "127.0.0.1:0"
    assert settings.routes["spam"].mirror[0].to == "spam-v4"


def test_files_take_the_place_of_their_names(tmp_path: Path) -> None:
    """Secrets and long lists stand outside; their paths start at the settings file."""
    (tmp_path / "trusted.txt").write_text("# ours\na@example.org\n\n  b@example.org\n")
    (tmp_path / "key").write_text("0123456789abcdef0123456789abcdef\n")
    text = (
        TEN_LINES
        + "lists: {trusted: file:trusted.txt, both: [x, 'file:trusted.txt']}\nsecrets: {receipt_keys: file:key}\n"
    )
    (tmp_path / "gateway.yaml").write_text(text)
    settings = load(tmp_path / "gateway.yaml", env={})
    assert settings.lists["trusted"] == ("a@example.org", "b@example.org")
    assert settings.lists["both"] == ("x", "a@example.org", "b@example.org")
    assert settings.secrets.receipt_keys[0].get_secret_value() == "0123456789abcdef0123456789abcdef"
    assert "0123456789" not in repr(settings)


def test_merged_blocks_and_aliases_are_read() -> None:
    """YAML's own means against repetition work, and what stands in the block itself wins."""
    text = """
backends:
  a: &a {grpc: "h:1", timeout_ms: 80}
  b: {<<: *a, timeout_ms: 90}
routes: {r: {chain: [a, b]}}
"""
    settings = good(text).settings
    assert settings is not None
    assert settings.backends["b"].timeout_ms == 90
    assert settings.backends["b"].grpc == ("h:1",)


def test_load_raises_what_read_returns(tmp_path: Path) -> None:
    """The error carries every fault and its text shows them, a line each."""
    file = tmp_path / "gateway.yaml"
    file.write_text(TEN_LINES.replace("floor: 0.8", "floor: 8, flor: 1"))
    with pytest.raises(SettingsError) as raised:
        load(file, env={})
    assert len(raised.value.faults) == 2
    assert str(raised.value).count(f"{file}:8:") == 2


def test_importing_the_room_is_light() -> None:
    """A sidecar has no statistics and no database; settings must not bring them in."""
    heavy = {"scipy", "sqlalchemy", "grpc", "cel_expr_python", "numpy"}
    code = f"import sys, gateway.config; print([m for m in sys.modules if m.split('.')[0] in {heavy}])"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(root / "src")},
    )
    assert done.stdout.strip() == "[]"
