"""An engine of the application: used, not changed, and not closed."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from authapi import AuthAPI, ConfigurationError, Settings
from authapi.errors import StorageUnavailable
from authapi.storage import Database, application_engine
from tests.facade.notes import driver_url

PASSWORD = "correct horse battery staple"


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    found = create_async_engine(driver_url(database_url, "async"), pool_size=2, max_overflow=0)
    yield found
    await found.dispose()


async def state(engine: AsyncEngine) -> dict[str, Any]:
    """What an application can see of its connection: settings of the session."""
    async with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            names = ("busy_timeout", "foreign_keys", "synchronous")
            raw: Any = (await connection.get_raw_connection()).driver_connection
            found: dict[str, Any] = {"isolation_level": raw.isolation_level}
            for name in names:
                found[name] = await connection.scalar(sa.text(f"PRAGMA {name}"))
            return found
        parameters = ("statement_timeout", "lock_timeout", "row_security", "transaction_isolation")
        return {
            name: await connection.scalar(sa.text(f"SELECT current_setting('{name}')"))
            for name in parameters
        }


async def test_services_work_on_the_pool_and_leave_the_connections_as_they_were(
    engine: AsyncEngine,
) -> None:
    before = await state(engine)
    auth = AuthAPI(engine=engine)
    async with auth.running() as service:
        user = await service.accounts.create("a@example.com", PASSWORD)
        assert await service.accounts.find(user.id) == user
        async with auth.transaction() as tx:
            await tx.accounts.rename(user.id, "A")
        assert await state(engine) == before
    assert engine.pool.checkedin() == 1  # type: ignore[attr-defined]  # one connection was enough
    assert await state(engine) == before


async def test_a_transaction_has_the_limits_of_authapi(engine: AsyncEngine) -> None:
    auth = AuthAPI(Settings(database_timeout=3), engine=engine)
    async with auth.running(), auth.transaction() as tx:
        if engine.dialect.name == "sqlite":
            names = ("busy_timeout", "foreign_keys", "synchronous")
            statements = [f"PRAGMA {name}" for name in names]
            expected: list[Any] = [3000, 1, 2]
        else:
            names = ("statement_timeout", "lock_timeout", "row_security")
            statements = [f"SELECT current_setting('{name}')" for name in names]
            expected = ["3s", "3s", "off"]
        found = [(await tx.execute(sa.text(text))).scalar_one() for text in statements]
    assert found == expected


async def test_no_listener_and_no_option_is_set_on_the_engine(engine: AsyncEngine) -> None:
    sync = engine.sync_engine

    def listeners() -> dict[str, int]:
        found = {}
        for owner in (sync, sync.pool, sync.dialect):
            for name in dir(owner.dispatch):
                if not name.startswith("_"):
                    found[f"{type(owner).__name__}.{name}"] = len(
                        list(getattr(owner.dispatch, name))
                    )
        return found

    async with engine.connect():
        pass
    before = listeners(), dict(sync.get_execution_options())
    async with AuthAPI(engine=engine).running() as service:
        await service.accounts.create("a@example.com", PASSWORD)
    assert (listeners(), dict(sync.get_execution_options())) == before


async def test_closing_does_not_dispose_the_engine(engine: AsyncEngine) -> None:
    pool = engine.pool
    async with AuthAPI(engine=engine).running() as service:
        await service.accounts.create("a@example.com", PASSWORD)
    assert engine.pool is pool
    async with engine.connect() as connection:
        assert await connection.scalar(sa.text("SELECT 1")) == 1


async def test_an_engine_that_was_disposed_is_used_with_its_new_pool(engine: AsyncEngine) -> None:
    async with AuthAPI(engine=engine).running() as service:
        await engine.dispose()
        user = await service.accounts.create("a@example.com", PASSWORD)
        assert await service.accounts.find(user.id) == user
        assert engine.pool.checkedin() == 1  # type: ignore[attr-defined]  # in the new pool


async def test_an_exhausted_pool_is_reported_as_unavailable(engine: AsyncEngine) -> None:
    settings = Settings(database_pool_timeout=0.2, database_timeout=0.2)
    async with AuthAPI(settings, engine=engine).running() as service:
        async with engine.connect() as one, engine.connect() as two:
            await asyncio.gather(one.execute(sa.text("SELECT 1")), two.execute(sa.text("SELECT 1")))
            with pytest.raises(StorageUnavailable):
                await service.accounts.find_by_email("a@example.com")
        user = await service.accounts.create("a@example.com", PASSWORD)
        assert user.is_active


async def test_the_recipe_of_sqlalchemy_for_sqlite_transactions_can_be_set(sqlite_url: str) -> None:
    engine = create_async_engine(driver_url(sqlite_url, "async"))

    @sa.event.listens_for(engine.sync_engine, "connect")
    def _(connection: Any, __: object) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine.sync_engine, "begin")
    def _(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    before = await state(engine)
    assert before["isolation_level"] is None
    async with AuthAPI(engine=engine).running() as service:
        user = await service.accounts.create("a@example.com", PASSWORD)
        assert await service.accounts.find(user.id) == user
    assert await state(engine) == before
    await engine.dispose()


async def test_what_cannot_be_set_is_told_at_the_start(
    engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    if engine.dialect.name == "sqlite":
        async with engine.connect() as connection:
            await connection.execute(sa.text("PRAGMA journal_mode = DELETE"))
        expected = "reads and writes wait for one another (journal_mode is delete, and not wal)"
    else:
        expected = "the server does not end a single read (set statement_timeout on the engine)"
    services = AuthAPI(engine=engine).runtime.services
    with caplog.at_level(logging.WARNING):
        await services.start()
        await services.stop()
    sentence = f"authapi uses the engine of the application: {expected}"
    assert [record.getMessage() for record in caplog.records].count(sentence) == 1


def test_an_engine_that_cannot_be_used_is_refused(sqlite_url: str) -> None:
    cases: list[tuple[Any, str]] = [
        (sa.create_engine(sqlite_url), "takes an AsyncEngine"),
        ("sqlite://", "takes an AsyncEngine"),
        (create_async_engine("sqlite+aiosqlite://"), "must name a file"),
        (create_async_engine(f"{driver_url(sqlite_url, 'async')}?timeout=3"), "without options"),
    ]
    for engine, message in cases:
        with pytest.raises(ConfigurationError, match=message):
            AuthAPI(engine=engine)
    with pytest.raises(ConfigurationError, match=r"needs the driver postgresql\+psycopg"):
        application_engine.check_driver("postgresql", "asyncpg")
    own = create_async_engine(driver_url(sqlite_url, "async"))
    with pytest.raises(ConfigurationError, match="name different databases"):
        AuthAPI(Settings(database_url="sqlite:////tmp/other.db"), engine=own)  # type: ignore[arg-type]


def test_settings_and_engine_may_name_the_same_file_differently(
    sqlite_url: str, tmp_path: Path
) -> None:
    engine = create_async_engine(driver_url(sqlite_url, "async"))
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "authapi.db")
    auth = AuthAPI(Settings(database_url=f"sqlite:///{link}"), engine=engine)  # type: ignore[arg-type]
    assert isinstance(auth.runtime.services.database, Database)
