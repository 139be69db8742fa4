"""The schema: made once, brought up to date, and never touched when it is somebody else's."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from gateway.errors import LedgerError, LedgerUnavailable
from gateway.ledger import Ledger, Reader, migrations, schema
from gateway.ledger.database import writer_engine
from tests.ledger.making import another

ROOT = Path(__file__).resolve().parents[2]


def test_the_migrations_make_the_tables_that_the_code_uses(ledger: Ledger) -> None:
    """A column added to one and not to the other is found here."""
    with ledger._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []


def test_a_new_ledger_is_what_the_steps_lead_to(empty_url: str) -> None:
    """A new ledger skips the steps; both ways must end at the same tables and indexes."""
    engine = writer_engine(empty_url)
    tables = []
    for way in (migrations.make, migrations.step):
        way(engine)
        with engine.begin() as connection:
            assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
            tables.append(catalogue(connection))
            schema.metadata.drop_all(connection)
            migrations.VERSION_TABLE.drop(connection)
    engine.dispose()
    assert tables[0] == tables[1]
    assert {"table alembic_version", "index ix_labels_time_us"} <= tables[0]


def catalogue(connection: sa.Connection) -> set[str]:
    """Every table and index, by name."""
    if connection.dialect.name == "sqlite":
        query = "SELECT type || ' ' || name FROM sqlite_master"
    else:
        query = (
            "SELECT CASE relkind WHEN 'r' THEN 'table ' WHEN 'i' THEN 'index ' ELSE 'other ' END || relname "
            "FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        )
    return {str(row[0]) for row in connection.exec_driver_sql(query)}


def test_known_versions_are_those_of_the_migrations() -> None:
    """The list in the code spares a start the import of Alembic; it must not drift."""
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert tuple(script.revision for script in reversed(list(scripts.walk_revisions()))) == schema.KNOWN
    assert scripts.get_current_head() == schema.HEAD


@pytest.mark.parametrize("table", ["policies", "decisions", "labels", "review_tasks", "tally_calls"])
def test_every_table_is_described(table: str) -> None:
    """The module's text is the documentation of the tables."""
    assert table in (schema.__doc__ or "")


def test_all_tables_are_described() -> None:
    """No table without its line."""
    assert {name for name in schema.metadata.tables if f"    {name} " not in (schema.__doc__ or "")} == set()


def set_version(url: str, version: str) -> None:
    with another(url) as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{version}'")


def test_a_schema_of_a_newer_gateway_is_refused(ledger: Ledger, url: str) -> None:
    """After a roll back the older gateway must not write into what it does not understand."""
    ledger.close()
    set_version(url, "9999")
    for opening in (lambda: Ledger(url).open(), lambda: Reader.open(url)):
        with pytest.raises(LedgerError, match=r"schema 9999.*newer gateway") as refusal:
            opening()
        assert not isinstance(refusal.value, LedgerUnavailable)


def test_a_reader_does_not_make_a_ledger(tmp_path: Path) -> None:
    """A report over a mistyped path must say so."""
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE t (x)")
    with pytest.raises(LedgerError, match="no ledger"):
        Reader.open(f"sqlite:///{tmp_path / 'other.db'}")


def test_gateways_that_start_together_make_one_schema(empty_url: str) -> None:
    """The second finds the work done."""

    def start(_number: int) -> None:
        ledger = Ledger(empty_url)
        ledger.open()
        ledger.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(start, range(4)))
    with another(empty_url) as connection:
        rows = connection.exec_driver_sql("SELECT version_num FROM alembic_version").all()
        assert [tuple(row) for row in rows] == [(schema.HEAD,)]


def test_alembic_is_not_imported_when_the_schema_is_at_head(ledger: Ledger, url: str) -> None:
    """A gateway at rest is small."""
    ledger.close()
    code = (
        "import sys; from gateway.ledger import Ledger; "
        f"ledger = Ledger({url!r}); ledger.open(); ledger.close(); "
        "sys.exit('alembic' in sys.modules or 'mako' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT / "src")})


def test_a_policy_keeps_its_version_until_it_changes(ledger: Ledger, url: str) -> None:
    """A restart with the same settings is no new policy; going back to an old one is."""
    keep = ledger.keep_policy
    assert keep({"routes": [1], "version": 1}, author="serve", reason="start") == 1
    assert keep({"version": 5, "routes": [1]}, author="serve", reason="start") == 1
    assert keep({"routes": [2]}, author="ann", reason="new route") == 2
    assert keep({"routes": [1]}, author="ann", reason="roll back") == 3
    ledger.close()
    with another(url) as connection:
        rows = connection.exec_driver_sql(
            "SELECT version, document, author, reason FROM policies ORDER BY version"
        ).all()
    assert [tuple(row) for row in rows] == [
        (1, '{"routes":[1]}', "serve", "start"),
        (2, '{"routes":[2]}', "ann", "new route"),
        (3, '{"routes":[1]}', "ann", "roll back"),
    ]


def test_what_was_kept_under_the_first_schema_is_there_under_the_next(tmp_path: Path) -> None:
    """Comparisons of before are of no segment and no noise; labels of before explored nothing."""
    from alembic import command
    from alembic.config import Config

    url = f"sqlite:///{tmp_path / 'old.db'}"
    engine = writer_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql(
            "INSERT INTO tally_shadow VALUES (1, 'spam', 7, 'v3', 'v4', 10, 2, 9, 8, 7, 0.5, 0.25, 1.5)"
        )
        connection.exec_driver_sql(
            "INSERT INTO labels VALUES (1, x'00', 0, 'review', 'label', 1, 'spam', 1, NULL, 'ann', 5, 4, 7, 'spam', "
            "'v3', '', 0, 0.9, 1, 0.25, 1)"
        )
    engine.dispose()
    ledger = Ledger(url)
    ledger.open()
    try:
        found = ledger.reader.shadows()
        labelled = ledger.reader.labelled()
    finally:
        ledger.close()
    assert (found.segment.tolist(), found.noise.tolist(), found.compared.tolist()) == ([""], [0], [10])
    assert (found.failed.tolist(), found.sum_absolute.tolist()) == ([2], [1.5])
    assert (labelled.pi.tolist(), labelled.source.tolist()) == ([0.25], ["review"])
