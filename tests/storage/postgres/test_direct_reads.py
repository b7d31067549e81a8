"""Reads on connections of their own: the same rows, recovery, and bounds."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from authapi.crypto.secrets import SecretHash, hash_secret
from authapi.domain.client import Client
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User
from authapi.errors import StorageUnavailable
from authapi.storage import Database, joining
from authapi.storage.inspection import record_statements
from authapi.storage.postgres.direct_reads import DirectReads
from tests.storage.cancelling import until
from tests.storage.rows import AT, SECRET, a_session, a_user, sql, store_user

OTHER = hash_secret("another secret")
NAME = "test of direct reads"


@pytest.fixture
def postgres_url(fresh_postgres_url: str) -> str:
    """A database whose connections have a name, unlike those of `sql`."""
    url = sa.make_url(fresh_postgres_url).update_query_dict({"application_name": NAME})
    return url.render_as_string(hide_password=False)


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url, timeout=2)
    yield database
    await database.close()


async def store_session(
    database: Database, user: User, secret: SecretHash = SECRET, **changes: Any
) -> Session:
    session = a_session(user, **changes)
    async with database.transaction() as store:
        await store.sessions.add(session, secret)
    return session


def reads_of(database: Database) -> DirectReads:
    assert database.direct_reads is not None
    return database.direct_reads


async def sleep(database: Database, seconds: float) -> object:
    """Runs a statement that takes `seconds`, and returns its result, 1."""
    pause = sa.select(sa.func.pg_sleep(seconds).label("pause")).subquery()
    [[found]] = await database.rows(sa.select(sa.literal(1)).select_from(pause), {})
    return found


def backends(url: str) -> int:
    """The number of connections of the database under test."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        f" AND application_name = '{NAME}'"
    )
    return int(sql(url, query)[0][0])


def disconnect(url: str) -> None:
    sql(
        url,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        f" WHERE datname = current_database() AND application_name = '{NAME}'",
    )


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="all columns"),
        pytest.param(
            {
                "scopes": None,
                "idle_expires_at": None,
                "amr": (),
                "client": Client(ip=None, user_agent=None),
                "data": {},
                "remembered": False,
                "mfa_at": None,
            },
            id="few columns",
        ),
        pytest.param({"kind": SessionKind.TOKEN, "name": "ci %s %(x)s"}, id="a token"),
        pytest.param(
            {"kind": SessionKind.JWT, "mfa_at": AT, "data": {"n": [1.5, "é"]}}, id="a JWT"
        ),
    ],
)
async def test_values_are_those_that_the_engine_returns(
    database: Database, changes: dict[str, Any]
) -> None:
    user = await store_user(
        database, a_user(email_confirmed_at=AT, roles=frozenset({"editor", "admin"}), name=None)
    )
    session = await store_session(database, user, SECRET, **changes)
    kind = session.kind
    for since in (AT - timedelta(days=1), AT + timedelta(days=1)):
        direct = await database.sessions.find_by_current_or_previous_secret(
            SECRET, kind, since=since
        )
        async with database.read() as store:
            by_engine = await store.sessions.find_by_current_or_previous_secret(
                SECRET, kind, since=since
            )
        assert direct == by_engine == ((session, user), False)
        (found, owner), _ = direct
        assert [type(value) for value in (found.id, found.created_at, owner.id)] == [
            type(value) for value in (session.id, session.created_at, user.id)
        ]
        assert found.created_at.tzinfo is session.created_at.tzinfo
    assert await database.sessions.find_by_secret(SECRET, kind) == (session, user)
    assert await database.sessions.find_by_secret(OTHER, kind) is None
    assert await database.sessions.find_with_user(session.id) == (session, user)
    assert await database.sessions.find_by_signed_id(session.id, kind, kid="unknown") is None


async def test_the_previous_secret_of_a_cookie_is_told(database: Database) -> None:
    user = await store_user(database, a_user())
    session = await store_session(database, user)
    async with database.transaction() as store:
        await store.sessions.replace_secret(session.id, OTHER, auth_time=AT)
    lookup = database.sessions.find_by_current_or_previous_secret
    assert await lookup(SECRET, SessionKind.SESSION, since=AT) == (None, True)
    later = AT + timedelta(seconds=1)
    assert await lookup(SECRET, SessionKind.SESSION, since=later) == (None, False)


async def test_a_read_is_one_statement_outside_of_a_transaction(database: Database) -> None:
    user = await store_user(database, a_user())
    await store_session(database, user)
    for _ in range(8):  # psycopg prepares a statement that it has run five times
        with record_statements(database) as statements:
            assert await database.sessions.find_by_secret(SECRET, SessionKind.SESSION) is not None
        assert len(statements) == 1
    query = sa.text(
        "SELECT state FROM pg_stat_activity"
        " WHERE query ~ 'authapi_sessions.kind = ' AND pid <> pg_backend_pid()"
        " AND datname = current_database()"
    )
    async with database.read() as store:
        states = (await store.connection.execute(query)).scalars().all()
    assert states == ["idle"]  # not "idle in transaction"


async def test_inside_a_transaction_of_the_application_its_rows_are_read(
    database: Database,
) -> None:
    user = await store_user(database, a_user())
    async with database.transaction() as store:
        await store.sessions.add(a_session(user), SECRET)
        assert await database.sessions.find_by_secret(SECRET, SessionKind.SESSION) is None
        with joining(database, store):
            assert await database.sessions.find_by_secret(SECRET, SessionKind.SESSION) is not None


async def test_a_closed_connection_is_replaced(database: Database, postgres_url: str) -> None:
    user = await store_user(database, a_user())
    await store_session(database, user)
    for _ in range(3):
        # Opens all connections that there may be.
        await asyncio.gather(*(sleep(database, 0.05) for _ in range(6)))
        await asyncio.to_thread(disconnect, postgres_url)
        for _ in range(2):
            assert await database.sessions.find_by_secret(SECRET, SessionKind.SESSION) is not None
            assert len(reads_of(database)._pool.idle) == 1, "the others are closed too"
            assert await database.sessions.find_by_secret(SECRET, SessionKind.SESSION) is not None


async def test_a_table_that_was_altered_is_read(database: Database, postgres_url: str) -> None:
    user = await store_user(database, a_user())
    await store_session(database, user)
    for _ in range(8):
        await database.sessions.find_by_secret(SECRET, SessionKind.SESSION)
    for change in ("TYPE varchar(999)", "TYPE varchar(998)"):
        await asyncio.to_thread(
            sql, postgres_url, f"ALTER TABLE authapi_sessions ALTER user_agent {change}"
        )
        assert await database.sessions.find_by_secret(SECRET, SessionKind.SESSION) is not None


async def test_a_cancelled_read_leaves_no_rows_to_the_next(database: Database) -> None:
    user = await store_user(database, a_user())
    await store_session(database, user)
    for _ in range(10):
        task = asyncio.create_task(sleep(database, 0.3))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not reads_of(database)._pool.idle
        assert await database.sessions.find_by_secret(SECRET, SessionKind.SESSION) is not None
    assert database.connections_in_use == 0


async def test_a_statement_that_takes_too_long_is_refused(
    database: Database, postgres_url: str
) -> None:
    await sleep(database, 0)
    pids = await database.rows(sa.select(sa.func.pg_backend_pid()), {})
    with pytest.raises(StorageUnavailable):
        await sleep(database, 10)
    # The server ended the statement, and the connection is still good.
    assert await database.rows(sa.select(sa.func.pg_backend_pid()), {}) == pids
    assert database.connections_in_use == 0


async def test_waiting_for_a_connection_is_bounded(postgres_url: str) -> None:
    database = Database(postgres_url, pool_size=4, pool_timeout=0.1, timeout=20)
    try:
        assert await sleep(database, 0) == 1
        first = asyncio.create_task(sleep(database, 2))
        await until(lambda: database.connections_in_use == 1)
        with pytest.raises(StorageUnavailable):
            await sleep(database, 0)
        assert not first.done()
        assert await first == 1
        assert database.connections_in_use == 0
        assert await sleep(database, 0) == 1
    finally:
        await database.close()


@pytest.mark.parametrize(("size", "direct_size"), [(1, 0), (3, 0), (4, 1), (10, 3)])
async def test_both_pools_together_have_the_size_of_the_setting(
    postgres_url: str, size: int, direct_size: int
) -> None:
    database = Database(postgres_url, pool_size=size, timeout=5)

    async def hold() -> None:
        async with database.read() as store:
            await store.connection.execute(sa.text("SELECT pg_sleep(0.2)"))

    try:
        assert (database.direct_reads is not None) == bool(direct_size)
        most = 0
        work = [asyncio.create_task(sleep(database, 0.2)) for _ in range(2 * size)]
        work += [asyncio.create_task(hold()) for _ in range(2 * size)]
        while not all(task.done() for task in work):
            most = max(most, await asyncio.to_thread(backends, postgres_url))
        await asyncio.gather(*work)
        assert most <= size
        assert await asyncio.to_thread(backends, postgres_url) == size
    finally:
        await database.close()


def test_another_event_loop_gets_connections_of_its_own(postgres_url: str) -> None:
    database = Database(postgres_url)

    async def read() -> object:
        return await sleep(database, 0)

    for _ in range(2):
        assert asyncio.run(read()) == 1  # leaves its connections open
    asyncio.run(database.close())
    assert not reads_of(database)._pool.idle


async def test_close_closes_connections_also_those_in_use(
    database: Database, postgres_url: str
) -> None:
    await sleep(database, 0)
    before = [asyncio.create_task(sleep(database, 0.5)) for _ in range(3)]
    await until(lambda: database.connections_in_use == 3)
    await database.close()
    assert not any(task.done() for task in before)
    after = [asyncio.create_task(sleep(database, 0.01)) for _ in range(3)]
    assert await asyncio.gather(*before, *after) == [1] * 6
    assert database.connections_in_use == 0
    assert len(reads_of(database)._pool.idle) <= 3
    await database.close()
    for _ in range(200):
        if await asyncio.to_thread(backends, postgres_url) == 0:
            break
        await asyncio.sleep(0.02)
    else:
        raise AssertionError("a connection is open")
    assert await sleep(database, 0) == 1


def test_connections_are_bounded_in_time_as_those_of_the_engine(postgres_url: str) -> None:
    keywords = reads_of(Database(postgres_url, timeout=3))._keywords
    assert (keywords["connect_timeout"], keywords["tcp_user_timeout"]) == (3, 3000)


async def test_a_parameter_without_a_value_is_an_error(database: Database) -> None:
    statement = sa.select(sa.literal(1)).where(sa.bindparam("wanted", type_=sa.Integer) == 1)
    assert await database.rows(statement, {"wanted": 1}) == [[1]]
    with pytest.raises(sa.exc.ProgrammingError):
        await database.rows(statement, {"wnated": 1})


async def test_recorders_of_statements_nest(database: Database) -> None:
    with record_statements(database) as outer:
        await sleep(database, 0)
        with record_statements(database) as inner:
            await sleep(database, 0)
        await sleep(database, 0)
    assert (len(outer), len(inner)) == (3, 1)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"SFATAL\0VFATAL\0C22000\0Mgone\0\0", id="a fatal error of data"),
        pytest.param(b"SFATAL\0VFATAL\0CZZ999\0Mgone\0\0", id="an unknown fatal error"),
        pytest.param(None, id="bytes that are no message"),
    ],
)
async def test_a_connection_lost_with_any_error_is_unavailable(
    postgres_url: str, reply: bytes | None
) -> None:
    """The server sends `reply` to each statement after the start of a session, and hangs up."""
    answer = b"?" * 64
    if reply is not None:
        answer = b"E" + (len(reply) + 4).to_bytes(4) + reply
    url = sa.make_url(postgres_url)
    real = (str(url.host), int(url.port or 0))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*real)

        async def back() -> None:
            while data := await server_reader.read(65536):
                writer.write(data)

        answering = asyncio.create_task(back())
        while data := await reader.read(65536):
            if b"authapi_sessions" in data:
                writer.write(answer)
                break
            server_writer.write(data)
        answering.cancel()
        await writer.drain()
        writer.close()
        server_writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    database = Database(
        url.set(port=port).update_query_dict({"sslmode": "disable"}).render_as_string(False),
        timeout=2,
    )
    try:
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                await database.sessions.find_by_secret(SECRET, SessionKind.SESSION)
    finally:
        await database.close()
        server.close()


async def test_an_unreachable_database_is_reported(postgres_url: str) -> None:
    url = sa.make_url(postgres_url)
    database = Database(url.set(port=1).render_as_string(hide_password=False), timeout=1)
    with pytest.raises(StorageUnavailable):
        await database.sessions.find_by_secret(SECRET, SessionKind.SESSION)
    await database.close()


async def test_sqlite_and_engines_of_applications_have_no_direct_reads(
    sqlite_url: str, fresh_postgres_url: str
) -> None:
    engine = create_async_engine(
        sa.make_url(fresh_postgres_url).set(drivername="postgresql+psycopg")
    )
    for database in (Database(sqlite_url), Database(fresh_postgres_url, engine=engine)):
        assert database.direct_reads is None
        user = await store_user(database, a_user())
        session = await store_session(database, user)
        found = await database.sessions.find_by_secret(SECRET, SessionKind.SESSION)
        assert found == (session, user)
        await database.close()
    await engine.dispose()
