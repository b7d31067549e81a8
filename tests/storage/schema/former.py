"""Databases of the last version without a table prefix, with rows in every table.

That version wrote them: commit 5a382e3 of this project, on 28 November 2026. It upgraded an empty
database, created two accounts and an invited one over HTTP, logged them in with every built-in
strategy, created a personal access token and requested a new password. `former_sqlite.sql` is the
output of `Connection.iterdump()`, `former_postgresql.sql` that of `pg_dump --inserts --no-owner`,
both without settings of the session.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from tests.storage.rows import sql

FOLDER = Path(__file__).parent
WRITTEN = datetime(2026, 11, 28, 17, tzinfo=UTC)
SECRET = "a former secret of 32 random characters, 8Jq2"
TABLES = (
    *("users", "sessions", "events", "signing_keys"),
    *("refresh_families", "email_tokens", "outbox"),
)
PERSONAL_TOKENS = {
    "sqlite": "aat_eerCdlCyaLujbpAm0h03onrdEeToPCBF2mKPQuofSZQJbymJw",
    "postgresql": "aat_jvSI6WcPR7UlADUIyp50qJb4rzfJfqRohrhTnO2ODEYeXgV2Q",
}
REFRESH_TOKENS = {
    "sqlite": "art_mJNfJO5m2ooeZxmuLyai18kOQ53WrwKRzb6C5ZBpGdk6riuJrzyy3SDcTEQ6sHi7GwlfgA",
    "postgresql": "art_wflQmiueSEcfPeT7DbWL4HkDQLCUNRkWS2CGwvLoikaUbDigW9EEXWorTLMgNzDIHwQk6g",
}


def restore(url: str) -> None:
    """Fills the empty database at `url`."""
    parsed = sa.make_url(url)
    script = (FOLDER / f"former_{parsed.get_backend_name()}.sql").read_text(encoding="utf-8")
    if parsed.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(parsed.database))) as connection:
            connection.executescript(script)
    else:
        with psycopg.connect(url) as server:
            server.execute(script.encode())


def contents(url: str, prefix: str = "") -> Mapping[str, Sequence[Any]]:
    """Returns the rows of each table, whose names begin with `prefix`."""
    return {name: sorted(sql(url, f"SELECT * FROM {prefix}{name}"), key=str) for name in TABLES}
