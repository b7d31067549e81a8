import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.servers import pgbouncer
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import PostgresServer
from tests.servers.process import ServeProcess

pytestmark = pytest.mark.slow


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def pid(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    assert row
    return int(row[0])


def refuses(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return True
    return False


def test_pool_mode_controls_sharing_of_sessions(postgres: PostgresServer) -> None:
    for mode, is_shared in (("session", False), ("transaction", True), ("statement", True)):
        with PgBouncer(postgres.admin_url, mode) as pooler:  # type: ignore[arg-type]  # one of them
            url = pooler.url(postgres.admin_url)
            with (
                psycopg.connect(url, autocommit=True) as first,
                psycopg.connect(url, autocommit=True) as second,
            ):
                assert (pid(first) == pid(second)) is is_shared
                assert first.info.backend_pid != pid(first)


def test_unix_socket_is_in_its_folder(postgres: PostgresServer) -> None:
    with PgBouncer(postgres.admin_url, "session") as pooler:
        url = pooler.url(postgres.admin_url)
        with psycopg.connect(url, host=str(pooler.folder), port=pooler.port) as connection:
            assert connection.info.host == str(pooler.folder)
            assert pid(connection)


def test_wrong_password_is_rejected(postgres: PostgresServer) -> None:
    with (
        PgBouncer(postgres.admin_url, "session") as pooler,
        pytest.raises(psycopg.OperationalError, match="SASL authentication failed"),
    ):
        psycopg.connect(pooler.url(postgres.admin_url), password="wrong")


def test_restart_and_close(postgres: PostgresServer) -> None:
    pooler = PgBouncer(postgres.admin_url, "session")
    url = pooler.url(postgres.admin_url)
    pooler.start()
    folder = pooler.folder
    pooler.kill()
    assert refuses(url)
    pooler.restart()
    assert not refuses(url)
    pooler.close()
    assert refuses(url)
    assert not folder.exists()


def test_server_ends_with_a_killed_python_process(postgres: PostgresServer, tmp_path: Path) -> None:
    code = f"""
import signal
from tests.servers.pgbouncer import PgBouncer
pooler = PgBouncer({postgres.admin_url!r}, "session")
pooler.start()
pooler.restart()
print(pooler.port, pooler.folder, flush=True)
signal.pause()
"""
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with ServeProcess([sys.executable, "-c", code], environment, tmp_path) as python:
        eventually(lambda: python.output().endswith("\n"))
        port, folder = python.output().split()
    url = postgres.admin_url.replace(postgres.admin_url.rpartition(":")[2], f"{port}/postgres")
    eventually(lambda: refuses(url) and not Path(folder).exists())


def test_failed_start_raises_with_the_log(postgres: PostgresServer) -> None:
    with (
        pytest.raises(RuntimeError, match="invalid value"),
        PgBouncer(postgres.admin_url, "session", max_client_conn="many"),
    ):
        pass


def test_missing_program_raises(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pgbouncer, "_FOLDERS", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get install pgbouncer"):
        pgbouncer.installed()
