import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from tests.servers.postgres import PostgresCluster, PostgresServer
from tests.servers.process import ServeProcess


@pytest.fixture
def name(postgres: PostgresServer) -> Iterator[str]:
    """A database name that is unique among tests and workers."""
    name = f"test_{uuid4().hex}"
    yield name
    postgres.drop_database(name)


def fill(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("create table fruit as select 'pear' as name")


def fruits(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [name for (name,) in connection.execute("select name from fruit order by name")]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(url: str, statement: str) -> bool:
    query = "select 1 from pg_stat_activity where state = 'active' and query = %s"
    with psycopg.connect(url) as connection:
        return connection.execute(query, [statement]).fetchone() is not None


def setting(url: str, name: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute("select current_setting(%s)", [name]).fetchone()
        assert row
        return str(row[0])


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("server_encoding", "UTF8"), ("max_connections", "200"), ("fsync", "off")],
)
def test_shared_server_uses_the_test_settings(
    postgres: PostgresServer, parameter: str, value: str
) -> None:
    assert setting(postgres.admin_url, parameter) == value


def test_server_is_postgresql_18_with_unicode_case_mapping(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.admin_url) as connection:
        assert connection.info.server_version // 10000 == 18
        assert connection.execute("select lower('ÄÖ')").fetchone() == ("äö",)


def test_wrong_password_is_rejected(postgres: PostgresServer) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.admin_url, password="wrong")


def test_a_database_name_may_need_quoting(postgres: PostgresServer, name: str) -> None:
    awkward = f'{name}/ä "?'
    try:
        fill(postgres.create_database(awkward))
        assert fruits(postgres.url(awkward)) == ["pear"]
    finally:
        postgres.drop_database(awkward)


def test_two_databases_are_isolated(postgres: PostgresServer, name: str) -> None:
    fill(postgres.create_database(name))
    other = f"{name}_other"
    try:
        with pytest.raises(psycopg.errors.UndefinedTable):
            fruits(postgres.create_database(other))
    finally:
        postgres.drop_database(other)


def test_drop_terminates_open_connections(postgres: PostgresServer, name: str) -> None:
    with psycopg.connect(postgres.create_database(name)) as forgotten:
        postgres.drop_database(name)
        with pytest.raises(psycopg.OperationalError):
            forgotten.execute("select 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(postgres.url(name))


def test_copy_of_a_template_is_independent(postgres: PostgresServer, name: str) -> None:
    fill(postgres.create_database(name))
    copies = [postgres.create_database(f"{name}_{i}", template=name) for i in range(2)]
    try:
        with psycopg.connect(copies[0]) as connection:
            connection.execute("insert into fruit values ('quince')")
        assert [fruits(copy) for copy in copies] == [["pear", "quince"], ["pear"]]
    finally:
        for i in range(2):
            postgres.drop_database(f"{name}_{i}")


def test_copy_waits_for_connections_to_the_template(postgres: PostgresServer, name: str) -> None:
    still_there = psycopg.connect(postgres.create_database(name))
    threading.Timer(0.5, still_there.close).start()
    try:
        postgres.create_database(f"{name}_copy", template=name)
    finally:
        postgres.drop_database(f"{name}_copy")


def test_concurrent_requests_fill_a_template_once(postgres: PostgresServer, name: str) -> None:
    fillings: list[str] = []

    def fill_and_count(url: str) -> None:
        fillings.append(url)
        fill(url)

    def ask(copy: str) -> list[str]:
        postgres.create_template(name, fill_and_count)
        return fruits(postgres.create_database(copy, template=name))

    copies = [f"{name}_{i}" for i in range(8)]
    with ThreadPoolExecutor(len(copies)) as pool:
        assert list(pool.map(ask, copies)) == [["pear"]] * len(copies)
    assert fillings == [postgres.url(name)]
    for copy in copies:
        postgres.drop_database(copy)


def test_failed_template_is_filled_again(postgres: PostgresServer, name: str) -> None:
    def fail(url: str) -> None:
        fill(url)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        postgres.create_template(name, fail)
    postgres.create_template(name, fill)
    assert fruits(postgres.create_database(f"{name}_copy", template=name)) == ["pear"]
    postgres.drop_database(f"{name}_copy")


def test_committed_data_survives_restart_and_kill() -> None:
    with PostgresCluster({"synchronous_commit": "on"}) as cluster:
        url = cluster.create_database("orchard")
        fill(url)
        cluster.restart()
        assert fruits(url) == ["pear"]
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("insert into fruit values ('quince')")
            cluster.kill()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select 1")
        with pytest.raises(psycopg.OperationalError, match="refused"):
            psycopg.connect(url)
        cluster.restart()
        assert fruits(url) == ["pear", "quince"]


def test_killed_busy_server_can_be_restarted() -> None:
    work = "select count(*) from generate_series(1, 5000000)"
    with PostgresCluster() as cluster, ThreadPoolExecutor() as pool:
        connection = psycopg.connect(cluster.url("postgres"), autocommit=True)
        busy = pool.submit(connection.execute, work)
        eventually(lambda: is_running(cluster.url("postgres"), work))
        cluster.kill()
        busy.result(timeout=5)  # the child process finished its statement before it exited
        connection.close()
        cluster.start()
        assert setting(cluster.url("postgres"), "fsync") == "off"


def test_close_removes_all_files_and_processes() -> None:
    cluster = PostgresCluster()
    cluster.start()
    directory = Path(setting(cluster.url("postgres"), "data_directory")).parent
    assert directory.is_dir()
    cluster.close()
    cluster.close()
    assert not directory.exists()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(cluster.url("postgres"))


def test_server_ends_with_a_killed_python_process(tmp_path: Path) -> None:
    code = """
import signal
from tests.servers.postgres import PostgresCluster
cluster = PostgresCluster()
cluster.start()
print(cluster.url("postgres"), flush=True)
signal.pause()
"""
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with ServeProcess([sys.executable, "-c", code], environment, tmp_path) as python:
        eventually(lambda: python.output().endswith("\n"))
        url = python.output().strip()
        directory = Path(setting(url, "data_directory")).parent
    eventually(lambda: not directory.exists())
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(url)


def test_failed_start_raises_with_the_log() -> None:
    with (
        pytest.raises(RuntimeError, match="max_connections"),
        PostgresCluster({"max_connections": "many"}),
    ):
        pass
