"""docs/ledger.md: settings that are good, tables that are there, and every reason that the code gives."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.config import read_text
from gateway.ledger import database, schema
from tests.config.examples import TEN_LINES
from tests.docs.test_readme import ROOT

PAGE = (ROOT / "docs" / "ledger.md").read_text()


def test_the_settings_are_good() -> None:
    """Copied, they are a ledger in PostgreSQL."""
    [block] = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    loaded = read_text(block + TEN_LINES, name="g.yaml", folder=Path("/nowhere"), env={})
    assert loaded.settings is not None
    assert loaded.settings.ledger_url == "postgresql://gateway@db.example.org/gateway"


def test_every_reason_is_told_and_no_other() -> None:
    """Dashboards match on them."""
    told = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.M))
    given = {*database._REASONS.values(), *database._POSTGRES_REASONS.values(), "unavailable", "fault"}
    assert told == given


def test_the_tables_it_names_are_there() -> None:
    """Who looks into the database looks by these names."""
    named = set(re.findall(r"`((?:tally|review)_\w+|decisions|captures|labels|policies|audit)`", PAGE))
    assert named <= set(schema.metadata.tables)
    assert len(named) > 8
