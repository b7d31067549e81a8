"""The pytest plugin `authapi`: fixtures for tests of applications that use authapi.

pytest loads it where authapi is installed, also for tests that do not need it. So this module
imports the service only in its fixtures. `docs/testing.md` describes the fixtures.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastapi import FastAPI

    from authapi import Settings
    from authapi.testing import CleanDatabase, Client, SyncClient

_HELP = "URL of a database of the PostgreSQL server for tests of authapi (default: SQLite)"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option `--authapi-server`, and the same for the configuration file."""
    group = parser.getgroup("authapi")
    group.addoption("--authapi-server", metavar="URL", help=_HELP)
    parser.addini("authapi_server", _HELP)


@pytest.fixture(scope="session")
def authapi_prepare() -> Callable[[str], object] | None:
    """A function that gets the URL of the new database and creates the tables of the application.

    Override it. By default, the database has only the tables of authapi.
    """
    return None


@pytest.fixture(scope="session")
def authapi_database(
    pytestconfig: pytest.Config, authapi_prepare: Callable[[str], object] | None
) -> "Iterator[CleanDatabase]":
    """The database of this process: SQLite, or on the server of `--authapi-server`."""
    from authapi.testing import CleanDatabase

    server = pytestconfig.getoption("--authapi-server") or pytestconfig.getini("authapi_server")
    with CleanDatabase(server or None, prepare=authapi_prepare) as database:
        yield database


@pytest.fixture
def authapi_database_url(authapi_database: "CleanDatabase") -> str:
    """The URL of the database, which this makes clean."""
    authapi_database.clean()
    return authapi_database.url


@pytest.fixture
def authapi_settings(authapi_database: "CleanDatabase", authapi_database_url: str) -> "Settings":
    """Settings on the clean database, with cheap hashes, reading no environment.

    Override it for others: `return authapi_database.settings(registration="closed")`.
    """
    return authapi_database.settings()


@pytest.fixture
def authapi_app(authapi_settings: "Settings") -> "FastAPI":
    """The application under test. Override it; by default, it is the service itself."""
    from authapi import create_app

    return create_app(authapi_settings)


@pytest.fixture
async def authapi_client(
    authapi_database_url: str, authapi_app: "FastAPI"
) -> "AsyncIterator[Client]":
    """A client of the application for asynchronous tests, inside its lifespan."""
    from authapi.testing import client

    async with client(authapi_app) as api:
        yield api


@pytest.fixture
def authapi_sync_client(
    authapi_database_url: str, authapi_app: "FastAPI"
) -> "Iterator[SyncClient]":
    """A client of the application for synchronous tests, inside its lifespan."""
    from authapi.testing import sync_client

    with sync_client(authapi_app) as api:
        yield api
