"""Connections to one of several hosts, some of which are silent or refuse."""

import asyncio
import socket
from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa

from authapi.storage import Database
from authapi.storage.postgres.hosts import connect_first, hosts_of
from authapi.storage.urls import parse_url


def test_each_host_has_its_port() -> None:
    assert hosts_of({"host": "a", "port": 1}) == [{"host": "a", "port": 1}]
    assert hosts_of({"dbname": "d"}) == [{"dbname": "d"}]
    assert hosts_of({"host": "a,b", "port": "1,2", "dbname": "d"}) == [
        {"host": "a", "port": "1", "dbname": "d"},
        {"host": "b", "port": "2", "dbname": "d"},
    ]
    assert [it["port"] for it in hosts_of({"host": "a,b", "port": "7"})] == ["7", "7"]
    assert [it["port"] for it in hosts_of({"host": "a,b"})] == [None, None]
    chosen = {"host": "a,b", "port": "1,2", "load_balance_hosts": "random"}
    assert hosts_of(chosen) == [chosen], "libpq chooses"


class Hosts:
    """Hosts by name: what each attempt to connect to one does."""

    def __init__(self, **outcomes: list[str]) -> None:
        self.outcomes = outcomes
        self.asked: list[str] = []
        self.closed: list[str] = []

    async def connect(self, _: str, *, host: str, **__: object) -> "Connection":
        self.asked.append(host)
        outcomes = self.outcomes[host]
        match outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]:
            case "refuses":
                raise psycopg.OperationalError(f"{host} is read-only")
            case "is silent":
                await asyncio.Event().wait()
        return Connection(self, host)

    async def first(self, **arguments: object) -> str:
        chosen = {"host": ",".join(self.outcomes), "connect_timeout": 2, **arguments}
        found: object = await connect_first(self.connect, "", chosen)  # type: ignore[arg-type]  # a double
        assert isinstance(found, Connection)
        return found.host


class Connection:
    def __init__(self, hosts: Hosts, host: str) -> None:
        self._hosts, self.host = hosts, host

    async def close(self) -> None:
        self._hosts.closed.append(self.host)


async def test_the_first_host_that_accepts_is_used() -> None:
    hosts = Hosts(a=["accepts"], b=["accepts"])
    assert await hosts.first() == "a"
    assert hosts.asked == ["a"]
    hosts = Hosts(a=["refuses"], b=["accepts"])
    assert await hosts.first() == "b"


async def test_a_silent_host_delays_a_connection_by_a_moment() -> None:
    hosts = Hosts(a=["is silent"], b=["accepts"])
    async with asyncio.timeout(1):
        assert await hosts.first(connect_timeout=60) == "b"


async def test_a_standby_is_asked_again_while_the_primary_is_silent() -> None:
    hosts = Hosts(a=["is silent"], b=["refuses", "refuses", "accepts"])
    async with asyncio.timeout(3):
        assert await hosts.first(connect_timeout=60) == "b"
    assert hosts.asked == ["a", "b", "b", "b"]


async def test_the_refusal_of_the_last_host_is_raised_at_once() -> None:
    hosts = Hosts(a=["refuses"], b=["refuses"])
    async with asyncio.timeout(1):
        with pytest.raises(psycopg.OperationalError, match="is read-only"):
            await hosts.first(connect_timeout=60)
    assert hosts.asked == ["a", "b"]


async def test_silence_of_all_hosts_ends_after_the_timeout() -> None:
    hosts = Hosts(a=["is silent"], b=["is silent"])
    with pytest.raises(psycopg.OperationalError):
        await hosts.first(connect_timeout=1)
    hosts = Hosts(a=["is silent"], b=["refuses"])
    with pytest.raises(psycopg.OperationalError, match="is read-only"):
        await hosts.first(connect_timeout=1)


@pytest.mark.parametrize("no_limit", ["0", "-1", -2])
async def test_a_connection_without_a_timeout_waits_for_its_turn(no_limit: object) -> None:
    hosts = Hosts(a=["is silent"], b=["refuses", "accepts"])
    async with asyncio.timeout(5):
        assert await hosts.first(connect_timeout=no_limit) == "b"


async def test_a_timeout_that_is_no_number_is_refused_by_the_driver() -> None:
    with pytest.raises(psycopg.ProgrammingError, match="connect_timeout"):
        await connect_first(
            psycopg.AsyncConnection.connect,
            "",
            {"host": "127.0.0.1,127.0.0.1", "port": "1,1", "connect_timeout": "soon"},
        )


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts connections and does not respond."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"127.0.0.1:{server.getsockname()[1]}"


async def test_a_database_with_a_silent_host_answers_soon(postgres_url: str, silent: str) -> None:
    url = sa.make_url(postgres_url)
    credentials, database = f"{url.username}:{url.password}", url.database
    text = f"postgresql://{credentials}@{silent},{url.host}:{url.port}/{database}"
    found = Database(text, pool_size=4)
    columns = sa.select(sa.literal("a"))
    async with asyncio.timeout(4):
        await found.ping()
        assert await found.rows(columns, {}) == [["a"]]
    await found.close()


@pytest.mark.parametrize(
    ("query", "expected"),
    [("", "read-write"), ("?target_session_attrs=any", "any")],
)
def test_of_several_hosts_the_primary_is_used(query: str, expected: str) -> None:
    assert parse_url(f"postgresql://a,b/d{query}").query["target_session_attrs"] == expected
    assert "target_session_attrs" not in parse_url("postgresql://a/d").query


def test_the_environment_may_choose_another_of_several_hosts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "standby")
    assert "target_session_attrs" not in parse_url("postgresql://a,b/d").query


@pytest.mark.parametrize(
    ("query", "expected"), [("", "authapi"), ("?application_name=mine", "mine")]
)
async def test_connections_have_a_name(postgres_url: str, query: str, expected: str) -> None:
    name = sa.text("SELECT current_setting('application_name')")
    for is_shared in (False, True):
        database = Database(f"{postgres_url}{query}", shares_sessions=is_shared)
        async with database.read() as store:
            assert await store.connection.scalar(name) == expected
        await database.close()
