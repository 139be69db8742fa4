"""A ledger in PostgreSQL as users meet it: in settings, in `gateway check` and in `gateway report`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from gateway.ledger import Ledger
from gateway.ledger.reach import unusable
from tests.cli.test_commands import gateway
from tests.config.examples import TEN_LINES
from tests.ledger.making import another, batch, label
from tests.postgres import PASSWORD, USER, Postgres
from tests.wire.gateway_process import free_ports


def settings_file(folder: Path, url: str) -> Path:
    file = folder / "gateway.yaml"
    listen = f"listen: {{inference: '127.0.0.1:{free_ports(1)[0]}', admin: null}}\n"
    file.write_text(f"{listen}ledger: '{url}'\n{TEN_LINES}")
    return file


def checked(folder: Path, url: str, **env: str) -> tuple[int, str]:
    done = gateway("check", str(settings_file(folder, url)), **env)
    assert "not-for-logs" not in done.stdout + done.stderr, "a password is shown to nobody"
    return done.returncode, done.stdout + done.stderr


def test_a_database_that_can_be_used_is_good_and_stays_empty(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    """A check makes nothing; and it shows where the ledger will be, without the password."""
    name = str(make_url(postgres_url).database)
    code, said = checked(tmp_path, "${LEDGER}", LEDGER=postgres.tcp_url(name))
    assert code == 0, said
    assert f"its ledger in postgresql://{USER}:***@127.0.0.1:{postgres.port}/{name}" in said.replace(
        "\n", " "
    )
    assert postgres.execute("SELECT count(*) FROM pg_class WHERE relname = 'labels'", name) == [(0,)]


def test_a_password_may_stand_in_the_environment_or_in_a_file(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    """As for every other client of PostgreSQL; so it need not be in the settings at all."""
    name = str(make_url(postgres_url).database)
    url = postgres.tcp_url(name, password=None)
    passwords = tmp_path / "passwords"
    passwords.write_text(f"127.0.0.1:*:*:{USER}:{PASSWORD}\n")
    passwords.chmod(0o600)
    assert checked(tmp_path, url, PGPASSWORD=PASSWORD)[0] == 0
    assert checked(tmp_path, url, PGPASSFILE=str(passwords))[0] == 0
    code, said = checked(tmp_path, url)
    assert code == 78
    assert "gateway.yaml:2:9: ledger: cannot connect: " in said
    assert "give it by PGPASSWORD, a file named by PGPASSFILE" in " ".join(said.split())


@pytest.mark.parametrize(
    ("change", "words", "mend"),
    [
        ("wrong password", "password authentication failed", "PGPASSWORD"),
        ("no database", 'database "nowhere" does not exist', "createdb"),
        ("no server", "onnection refused", "start the server"),
        ("no socket", "No such file or directory", "the folder of its socket"),
        ("odd option", "odd", ""),
    ],
)
def test_what_is_wrong_is_said_with_what_helps(
    postgres: Postgres, change: str, words: str, mend: str
) -> None:
    """Each has another mend; and none shows the password."""
    url = {
        "wrong password": postgres.tcp_url("postgres", "wrong-not-for-logs"),
        "no database": postgres.tcp_url("nowhere"),
        "no server": f"postgresql://u:{PASSWORD}@127.0.0.1:{free_ports(1)[0]}/d",
        "no socket": f"postgresql://u:{PASSWORD}@/d?host=/nowhere",
        "odd option": postgres.tcp_url("postgres") + "?odd=1",
    }[change]
    found = unusable(url)
    assert found is not None
    assert words in found[0]
    assert mend in found[1]
    assert "not-for-logs" not in str(found)


def test_a_user_without_the_right_to_make_tables_is_told_so(postgres: Postgres, postgres_url: str) -> None:
    """Found before the start; once the tables are there and may be written, it is no fault."""
    name = str(make_url(postgres_url).database)
    postgres.execute("DROP ROLE IF EXISTS clerk")
    postgres.execute("CREATE ROLE clerk LOGIN")
    clerk = postgres_url.replace(f"{USER}@", "clerk@")
    found = unusable(clerk)
    assert found is not None
    assert "clerk may make no tables" in found[0]
    ledger = Ledger(postgres_url)
    ledger.open()
    ledger.close()
    assert unusable(clerk) is not None
    postgres.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO clerk", name)
    postgres.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO clerk", name)
    assert unusable(clerk) is None
    ledger = Ledger(clerk)
    ledger.open()
    assert ledger.submit_labels([label(1)]).result()
    ledger.close()
    postgres.execute("DROP OWNED BY clerk", name)
    postgres.execute("DROP ROLE clerk")


def test_a_newer_schema_is_a_fault_before_the_start(postgres_url: str) -> None:
    """A roll back of the gateway is seen by its check."""
    ledger = Ledger(postgres_url)
    ledger.open()
    ledger.close()
    assert unusable(postgres_url) is None
    with another(postgres_url) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    found = unusable(postgres_url)
    assert found is not None
    assert "made by a newer gateway" in found[0]


def test_a_report_reads_from_postgresql(postgres_url: str, tmp_path: Path) -> None:
    """By the settings; and where it cannot, it says so in one line, without a traceback."""
    ledger = Ledger(postgres_url)
    ledger.open()
    ledger.write_batch(batch([{}] * 12))
    ledger.close()
    file = settings_file(tmp_path, postgres_url)
    done = gateway("report", str(file), "--hours", "0", "--json")
    assert json.loads(done.stdout)["routes"]["spam"]["calls"]["total"] == 12
    file = settings_file(tmp_path, postgres_url.replace("test_", "no_"))
    done = gateway("report", str(file), "--hours", "0")
    assert done.returncode != 0
    assert "does not exist" in done.stderr
    assert "Traceback" not in done.stderr


def test_faults_of_the_database_show_no_payload_and_no_label(ledger: Ledger) -> None:
    """They go to logs, which more people read than the ledger."""
    told = ledger.submit_labels([label(1, source="so secret", row=2**70)])
    error = told.exception(60)
    assert error is not None
    assert "so secret" not in f"{error} {error!r} {error.__context__}"
