"""Whether a gateway could keep its ledger in a database, tried before it starts: for `gateway check`."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from gateway.ledger.database import is_postgresql, schema_version, shown, version_fault, writer_engine
from gateway.ledger.schema import HEAD, KNOWN

__all__ = ["unusable"]

_RIGHTS: Final = sa.text(
    "SELECT pg_is_in_recovery(), "
    "coalesce(has_table_privilege(to_regclass('labels'), 'INSERT'), false), "
    "coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"
)


def unusable(url: str) -> tuple[str, str] | None:
    """Why no gateway could keep its ledger in a PostgreSQL database now, and the mend; None where one could.

    Nothing is written. For SQLite, whose file and folder are looked at elsewhere, always None.
    """
    if not is_postgresql(url):
        return None
    engine = writer_engine(url)
    try:
        with engine.connect() as connection:
            found = schema_version(connection)
            standby, may_write, may_make = connection.execute(_RIGHTS).one()
    except sa.exc.DBAPIError as error:
        return _refusal(error)
    finally:
        engine.dispose()
    if found is not None and found not in KNOWN:
        return version_fault(engine.url, found), ""
    if standby:
        return f"{shown(engine.url)} is a standby, which takes no writes", "name the primary"
    if not may_make and (found != HEAD or not may_write):
        user = engine.url.username or "its user"
        return f"{user} may make no tables in {shown(engine.url)}", f"GRANT CREATE ON SCHEMA public TO {user}"
    return None


def _refusal(error: sa.exc.DBAPIError) -> tuple[str, str]:
    """What a server, or the way to it, said; and what helps."""
    said = " ".join(str(error.orig).split())
    mends = {
        "password": "give it by PGPASSWORD, a file named by PGPASSFILE, or ${VARIABLE} in the URL",
        "does not exist": "make it: createdb, createuser",
        "onnection refused": "start the server, or correct host and port",
        "No such file": "start the server, or correct the folder of its socket",
        "resolve": "correct the host",
        "timeout": "see whether a firewall is between",
        "no pg_hba.conf entry": "let the server's pg_hba.conf admit this host, user and database",
    }
    return f"cannot connect: {said}", next((mend for words, mend in mends.items() if words in said), "")
