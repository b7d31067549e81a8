"""`authapi prune`."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from authapi.services import Services
from authapi.settings import Settings
from tests.cli.conftest import Run

PASSWORD = "correct horse battery staple"


def test_everything_expired_is_deleted(run: Run, tmp_path: Path) -> None:
    run("users", "create", "a@example.com", text=PASSWORD)
    for name in ("one", "two"):
        run("tokens", "create", "a@example.com", "--name", name)
    with closing(sqlite3.connect(tmp_path / "data" / "authapi.db")) as database:
        database.execute("UPDATE authapi_sessions SET expires_at = '2020-01-01 00:00:00.000000'")
        database.commit()
    rows = json.loads(run("prune", "--json").stdout)["items"]
    services = Services.build(Settings.isolated(data_dir=tmp_path / "data"))
    assert [row["what"] for row in rows] == list(services.cleanup.names)
    assert {row["what"]: row["removed"] for row in rows}["sessions"] == 2
    assert {row["removed"] for row in json.loads(run("prune", "--json").stdout)["items"]} == {0}


def test_a_part_that_fails_is_an_error(run: Run, tmp_path: Path) -> None:
    run("users", "create", "a@example.com", text=PASSWORD)
    with closing(sqlite3.connect(tmp_path / "data" / "authapi.db")) as database:
        database.execute("DROP TABLE authapi_login_tickets")
        database.commit()
    done = run("prune", "--json")
    removed = {row["what"]: row["removed"] for row in json.loads(done.stdout)["items"]}
    assert done.returncode == 1
    assert removed["login tickets"] is None
    assert removed["sessions"] == removed["used challenges"] == 0
    assert "cleanup of login tickets failed" in done.stderr
