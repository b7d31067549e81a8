"""Fixtures for tests that change rows and leave the schema: far cheaper than a fresh database each.

A conftest imports all three, or leaves out `postgres_url` where only some tests are of that kind.
"""

import itertools
from collections.abc import Iterator

import psycopg
import pytest

from tests.servers.postgres import PostgresServer

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def shared_postgres_url(
    postgres: PostgresServer, postgres_template: str, worker: str
) -> Iterator[str]:
    """A migrated database for the length of the run."""
    name = f"shared_{worker}_{next(_numbers)}"
    yield postgres.create_database(name, template=postgres_template)
    postgres.drop_database(name)


@pytest.fixture
def emptied_postgres_url(shared_postgres_url: str) -> str:
    """The same database, without rows."""
    with psycopg.connect(shared_postgres_url, options="-c lock_timeout=30s") as connection:
        connection.execute("DELETE FROM users")
        connection.execute("DELETE FROM outbox")  # what is about no account
        connection.execute("DELETE FROM events")  # they outlive their accounts
        connection.execute("DELETE FROM signing_keys")  # sealed under the secret of another test
    return shared_postgres_url


@pytest.fixture
def postgres_url(emptied_postgres_url: str) -> str:
    """It, in place of a fresh database for each test: 12 ms, not 66."""
    return emptied_postgres_url
