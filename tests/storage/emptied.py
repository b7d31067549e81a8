"""Fixtures for tests that change only rows: far cheaper than a fresh database for each test.

A conftest imports all three fixtures, or omits `postgres_url` if only some of its tests use them.
"""

import itertools
from collections.abc import Iterator

import psycopg
import pytest

from tests.servers.postgres import PostgresServer

SHARED = set[str]()
"""The URL of the shared database of this worker."""
_numbers = itertools.count(1)
_EMPTY = """
DELETE FROM authapi_users;
DELETE FROM authapi_usernames;        -- they outlive their accounts
DELETE FROM authapi_outbox;           -- entries without an account
DELETE FROM authapi_last_deliveries;
DELETE FROM authapi_events;           -- they outlive their accounts
DELETE FROM authapi_used_challenges;
DELETE FROM authapi_signing_keys;     -- they are encrypted under the secret of another test
"""


@pytest.fixture(scope="session")
def shared_postgres_url(
    postgres: PostgresServer, postgres_template: str, worker: str
) -> Iterator[str]:
    """A migrated database for the whole test run."""
    name = f"shared_{worker}_{next(_numbers)}"
    url = postgres.create_database(name, template=postgres_template)
    SHARED.add(url)
    yield url
    postgres.drop_database(name)


@pytest.fixture
def emptied_postgres_url(shared_postgres_url: str) -> str:
    """The shared database, without rows."""
    with psycopg.connect(shared_postgres_url, options="-c lock_timeout=30s") as connection:
        connection.execute(_EMPTY)
    return shared_postgres_url


@pytest.fixture
def postgres_url(emptied_postgres_url: str) -> str:
    """Replaces the fresh database for each test: a tenth of its time."""
    return emptied_postgres_url
