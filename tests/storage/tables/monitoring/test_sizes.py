"""Rows and sizes of the tables, on both databases."""

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from authapi import Settings
from authapi.domain.email_address import parse_email
from authapi.services import Services
from authapi.storage.schema import described
from authapi.storage.tables.monitoring import sizes
from tests.storage.rows import sql


@pytest.fixture
async def services(database_url: str) -> AsyncIterator[Services]:
    found = Services.build(Settings(database_url=database_url))  # type: ignore[arg-type]  # pydantic parses it
    await found.open()
    yield found
    await found.stop()


async def test_each_table_has_its_rows_and_its_size(services: Services, database_url: str) -> None:
    for number in range(3):
        await services.accounts.registration.create(parse_email(f"a{number}@example.com"), None)
    is_sqlite = database_url.startswith("sqlite")
    if not is_sqlite:
        found = {it.name: it for it in await services.statistics.sizes()}
        assert found["authapi_users"].rows is None, "no statistics yet"
        sql(database_url, "ANALYZE authapi_users", "ANALYZE authapi_outbox")
    found = {it.name: it for it in await services.statistics.sizes()}
    assert len(found) > 12
    users = found["authapi_users"]
    assert (users.rows, users.is_estimated) == (3, not is_sqlite)
    assert found["authapi_outbox"].rows == 0
    assert users.bytes is not None
    assert 0 < users.bytes < 2**20
    in_order = [it.bytes or 0 for it in found.values()]
    assert in_order == sorted(in_order, reverse=True)


async def test_tables_of_another_schema_are_measured(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Models that an earlier test in this process described have the default names.
    monkeypatch.setattr(described, "_from_environment", set())
    settings = Settings(
        database_url=postgres_url,  # type: ignore[arg-type]  # pydantic parses it
        database_schema="else_where",
        table_prefix="own_",
        migrate=True,
    )
    sql(postgres_url, "CREATE SCHEMA else_where")
    services = Services.build(settings)
    await services.open()
    try:
        found = {it.name: it.bytes for it in await services.statistics.sizes()}
        events = (await services.statistics.capacity()).bytes_of_events
    finally:
        await services.stop()
    assert found["own_users"]
    assert events == found["own_events"]


async def test_sqlite_without_the_statistics_of_pages_counts_rows_alone(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "_HAS_PAGES", sa.text("SELECT 0"))
    services = Services.build(Settings(database_url=sqlite_url))  # type: ignore[arg-type]  # pydantic parses it
    await services.open()
    try:
        found = {it.name: it for it in await services.statistics.sizes()}
        assert (await services.statistics.capacity()).bytes_of_events is None
    finally:
        await services.stop()
    assert (found["authapi_users"].rows, found["authapi_users"].bytes) == (0, None)
