"""Fixtures of the storage tests."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from authapi.storage import Database
from tests.servers.postgres import PostgresServer
from tests.servers.process import free_port
from tests.storage.emptied import emptied_postgres_url, shared_postgres_url

__all__ = ["emptied_postgres_url", "shared_postgres_url"]

_numbers = itertools.count(1)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An empty database, on SQLite and on PostgreSQL."""
    found = Database(database_url)
    yield found
    await found.close()


@pytest.fixture
def free_address() -> str:
    """Host and port without a server."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"empty_{request.getfixturevalue('worker')}_{next(_numbers)}"
    yield server.create_database(name)
    server.drop_database(name)
