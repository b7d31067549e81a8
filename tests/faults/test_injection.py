"""The wrapper of the drivers: what it counts, and what a failing statement leaves behind."""

import pytest
import sqlalchemy as sa

from authapi.errors import StorageUnavailable
from authapi.storage import Database
from tests.faults.harness.injection import COMMIT, Moment, Plan, following, injecting
from tests.storage.rows import a_user, sql

COUNT = "SELECT count(*) FROM authapi_users"


async def test_a_read_on_sqlite_sends_its_statement_only(sqlite_url: str) -> None:
    """A connection whose last statement fails after the read would never return to its pool."""
    database = Database(sqlite_url)
    with injecting():
        await database.ping()  # opens a connection
        with following(Plan()) as plan:
            async with database.read() as store:
                await store.connection.execute(sa.text(COUNT))
    assert plan.statements == [COUNT]
    await database.close()


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_each_statement_of_a_transaction_fails(database_url: str, moment: Moment) -> None:
    database = Database(database_url)

    async def add() -> None:
        async with database.transaction() as store:
            await store.users.add(a_user(), email="alice@example.com", password_hash=None)

    with injecting():
        await database.ping()  # opens a connection
        with following(Plan()) as clean:
            await add()
        sql(database_url, "DELETE FROM authapi_users")
        assert clean.statements[-1] == COMMIT
        for number in range(1, len(clean.statements) + 1):
            with following(Plan(number, moment)) as plan, pytest.raises(StorageUnavailable):
                await add()
            assert plan.has_failed
            is_committed = number == len(clean.statements) and moment == "after"
            assert sql(database_url, COUNT) == [(int(is_committed),)]
            assert database.connections_in_use == 0
    await database.close()
