"""Cache invalidation between two processes on one real database.

Each `Services` represents a process: the two share only the database.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import anyio
import psycopg
import pytest
import sqlalchemy as sa

from authapi.crypto.ids import new_id
from authapi.crypto.secrets import SecretHash, hash_secret
from authapi.domain.federation.person import LinkedIdentity
from authapi.domain.identity import Identity
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User
from authapi.errors import InvalidCredential
from authapi.services import Lifetime, Login, Services
from authapi.services.identity_cache import IdentityCache, invalidation_of
from authapi.services.identity_cache.invalidation import PostgresInvalidation
from authapi.settings import Settings
from authapi.storage import Database, migrations
from authapi.storage.inspection import record_statements
from authapi.storage.notifications import PostgresNotifications
from authapi.storage.sqlite import _CHECK_INTERVAL, SQLiteInvalidation, SQLiteNotifications
from tests.faults.harness.proxy import Proxy
from tests.servers.postgres import PostgresCluster, PostgresServer
from tests.servers.process import free_port
from tests.storage.rows import a_user, sql, store_user

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Caller:
    """A user with a login."""

    user: User
    session: Session
    secret: SecretHash


@asynccontextmanager
async def process(url: str, **changes: object) -> AsyncIterator[Services]:
    """Started services on the database at `url`."""
    chosen: dict[str, Any] = {"database_url": url, **changes}
    found = Services.build(Settings(**chosen))
    await found.start()
    try:
        yield found
    finally:
        await found.stop()


@pytest.fixture
async def here(database_url: str) -> AsyncIterator[Services]:
    async with process(database_url) as found:
        yield found


@pytest.fixture
async def there(database_url: str) -> AsyncIterator[Services]:
    async with process(database_url) as found:
        yield found


async def log_in(services: Services, user: User | None = None) -> Caller:
    if user is None:
        user = a_user(email=f"{new_id().hex}@example.com")
        await store_user(services.database, user)
    secret = hash_secret(new_id().hex)
    session = await services.sessions.create(
        Login(user=user, credentials_version=0, auth_time=datetime.now(UTC), amr=("pwd",)),
        SessionKind.SESSION,
        lifetime=Lifetime(DAY),
        secret=secret,
    )
    return Caller(user, session, secret)


def cached(services: Services, caller: Caller) -> Identity | None:
    return services.sessions.get_cached(caller.secret, strategy="session")


async def identify(services: Services, caller: Caller) -> Identity | None:
    """Identifies the caller as a strategy does for each request."""
    return cached(services, caller) or await services.sessions.identify_by_secret(
        caller.secret, SessionKind.SESSION, strategy="session"
    )


async def eventually(condition: Callable[[], bool], *, within: float = 10) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not condition():
        assert loop.time() < deadline
        await asyncio.sleep(0.005)


async def wait_until_cached(services: Services, *callers: Caller) -> None:
    """Waits until the cache of `services` contains all `callers`."""
    await eventually(services.invalidation.is_current)
    # A late notification of the logins would invalidate the entries again.
    for caller in callers:
        async with asyncio.timeout(10):
            while cached(services, caller) is None:
                assert await identify(services, caller) is not None
                await asyncio.sleep(0)


def is_sqlite(services: Services) -> bool:
    """Whether the first check after a commit of another process notices it."""
    return isinstance(services.database.notifications, SQLiteNotifications)


async def wait_for_notice(services: Services, condition: Callable[[], bool]) -> None:
    if is_sqlite(services):
        await asyncio.sleep(_CHECK_INTERVAL)
    else:
        # Takes milliseconds; `max_staleness` is guaranteed even if the connection fails.
        await eventually(condition, within=2)
    assert condition()


def statements(services: Services) -> AbstractContextManager[list[str]]:
    """Collects the SQL statements inside the block."""
    return record_statements(services.database)


Change = Callable[[Services, Caller], Awaitable[object]]


async def delete(services: Services, caller: Caller) -> None:
    await services.accounts.deletion.delete(caller.user.id)


async def identity(services: Services, caller: Caller) -> Identity:
    found = await identify(services, caller)
    assert found is not None
    return found


async def log_out(services: Services, caller: Caller) -> None:
    await services.sessions.logout(await identity(services, caller))


async def end_own(services: Services, caller: Caller) -> None:
    await services.sessions.end_own(caller.session.id, await identity(services, caller))


async def end_others(services: Services, caller: Caller) -> None:
    another = await log_in(services, caller.user)
    await services.sessions.end_others(await identity(services, another))


async def log_in_over(services: Services, caller: Caller) -> None:
    await services.sessions.create(
        Login(user=caller.user, credentials_version=0, auth_time=datetime.now(UTC), amr=("pwd",)),
        SessionKind.SESSION,
        lifetime=Lifetime(DAY),
        secret=hash_secret("the next"),
        replaces=caller.secret,
    )


async def set_password(services: Services, caller: Caller) -> None:
    await services.accounts.passwords.set(caller.user.id, "a long new pass phrase")


ENDS: dict[str, Change] = {
    "logout": log_out,
    "end": lambda services, it: services.sessions.end(it.session.id),
    "end_own": end_own,
    "end_others": end_others,
    "end_all": lambda services, it: services.sessions.end_all(it.user.id),
    "a login in its place": log_in_over,
    "set_password": set_password,
    "deactivation": lambda services, it: services.accounts.administration.change(
        it.user.id, {"is_active": False}
    ),
    "delete": delete,
}
REPLACES = {"a login in its place"}
"""Changes that give the browser a new secret. For a moment the old secret raises InvalidCredential,
as requests with it may be in progress.
"""


async def test_a_session_that_one_process_ends_is_rejected_by_all(
    here: Services, there: Services
) -> None:
    bystander = await log_in(here)
    for name, end in ENDS.items():
        caller = await log_in(here)
        await wait_until_cached(here, caller, bystander)
        await wait_until_cached(there, caller, bystander)
        await end(here, caller)
        assert cached(here, caller) is None, name
        await wait_for_notice(there, lambda caller=caller: cached(there, caller) is None)  # type: ignore[misc]
        for services in (here, there):
            with pytest.raises(InvalidCredential) if name in REPLACES else nullcontext():
                assert await identify(services, caller) is None, name
            assert await identify(services, bystander) is not None, name


async def test_a_session_that_began_with_an_unlinked_identity_is_rejected_by_all(
    here: Services, there: Services
) -> None:
    caller = await log_in(here)
    linked = LinkedIdentity(
        id=new_id(),
        user_id=caller.user.id,
        provider="acme",
        issuer="https://id.acme.example",
        subject=new_id().hex,
        email=None,
        email_verified=False,
        name=None,
        created_at=datetime.now(UTC),
        last_login_at=None,
    )
    async with here.database.transaction() as store:
        await store.identities.add(linked, auth_context=None)
        await store.identities.mark_session(caller.session.id, linked.id)
        row = await store.users.find_credentials(caller.user.id)
    assert row is not None
    secret = hash_secret("of a password")
    login = Login(row.user, row.version, datetime.now(UTC), ("pwd",))
    session = await here.sessions.create(
        login, SessionKind.SESSION, lifetime=Lifetime(DAY), secret=secret
    )
    other = Caller(row.user, session, secret)
    await wait_until_cached(here, caller, other)
    await wait_until_cached(there, caller, other)
    await here.federation.links.unlink_as_administrator(caller.user.id, linked.id, actor=None)
    assert cached(here, caller) is None
    await wait_for_notice(there, lambda: cached(there, caller) is None)
    for services in (here, there):
        assert await identify(services, caller) is None
        assert await identify(services, other) is not None


async def test_a_user_changed_by_one_process_is_the_changed_user_in_all(
    here: Services, there: Services
) -> None:
    caller = await log_in(here)
    await wait_until_cached(here, caller)
    await wait_until_cached(there, caller)
    for name in ("Bob", None, "Rob"):
        async with here.database.transaction() as store:
            await store.users.set_name(caller.user.id, name, at=datetime.now(UTC))
        found = await identity(here, caller)
        assert found.user.name == name

        def is_changed(name: str | None = name) -> bool:
            found = cached(there, caller)
            return found is None or found.user.name == name

        await wait_for_notice(there, is_changed)
        found = await identity(there, caller)
        assert found.user.name == name


async def test_a_hit_costs_no_statement_and_a_miss_costs_one(here: Services) -> None:
    caller = await log_in(here)
    await eventually(here.invalidation.is_current)
    with statements(here) as found:
        assert await identify(here, caller) is not None
        assert len(found) == 1
        for _ in range(10):
            assert await identify(here, caller) is not None
        assert len(found) == 1


async def test_logins_invalidate_no_entry(here: Services, there: Services) -> None:
    caller = await log_in(here)
    await wait_until_cached(here, caller)
    if is_sqlite(here):
        await log_in(there, caller.user)
        await log_in(there)
        await there.last_used.flush()
        assert cached(here, caller) is not None
        return
    for _ in range(3):
        await log_in(there, caller.user)
        await log_in(there)
    # Notifications arrive in order: those of the logins would arrive before this one.
    other = await log_in(here)
    await wait_until_cached(here, other)
    await there.sessions.end(other.session.id)
    await eventually(lambda: cached(here, other) is None)
    assert cached(here, caller) is not None


async def test_an_entry_is_returned_to_the_strategy_that_stored_it_only(here: Services) -> None:
    caller = await log_in(here)
    await wait_until_cached(here, caller)
    assert here.sessions.get_cached(caller.secret, strategy="token") is None
    assert cached(here, caller) is not None


async def test_without_a_cache_each_request_is_one_statement(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHAPI_IDENTITY_CACHE_SIZE", "0")
    async with process(database_url) as services:
        caller = await log_in(services)
        with statements(services) as found:
            for count in range(1, 4):
                assert await identify(services, caller) is not None
                assert len(found) == count
        assert len(services.identity_cache) == 0
        if not is_sqlite(services):
            assert listeners(database_url) == []
    monkeypatch.delenv("AUTHAPI_IDENTITY_CACHE_SIZE")
    if database_url.startswith("postgres"):
        async with process(database_url) as services:
            assert len(listeners(database_url)) == 1
        await eventually(lambda: listeners(database_url) == [])


def listeners(url: str) -> list[int]:
    """The ids of the server processes of listening connections."""
    # Query another database, as this one may refuse connections.
    name = sa.make_url(url).database
    found = sql(
        sa.make_url(url).set(database="postgres").render_as_string(hide_password=False),
        f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}'"
        " AND (starts_with(query, 'LISTEN ')"
        " OR starts_with(query, 'SELECT pg_backend_pid() AS heartbeat'))",
    )
    return [pid for [pid] in found]


async def test_stop_clears_the_cache(database_url: str) -> None:
    async with process(database_url) as services:
        caller = await log_in(services)
        await wait_until_cached(services, caller)
    assert cached(services, caller) is None
    async with process(database_url) as other:
        await other.sessions.end(caller.session.id)
    await services.start()
    assert cached(services, caller) is None
    assert await identify(services, caller) is None
    await services.stop()


# PostgreSQL: the listening connection fails.

MAX_STALENESS = 0.5
SHORT: dict[str, object] = {"identity_cache_max_staleness": timedelta(seconds=MAX_STALENESS)}


@contextmanager
def unreachable(postgres: PostgresServer, url: str) -> Iterator[None]:
    """Inside this block the database refuses new connections; existing ones stay open."""
    name = sa.make_url(url).database
    allow = f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS '
    sql(postgres.admin_url, f"{allow} false")
    try:
        yield
    finally:
        sql(postgres.admin_url, f"{allow} true")


def cut_off(postgres: PostgresServer, *pids: int) -> None:
    for pid in pids:
        assert sql(postgres.admin_url, f"SELECT pg_terminate_backend({pid})") == [(True,)]


async def test_without_a_listening_connection_the_cache_is_not_used(
    postgres: PostgresServer, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="authapi")
    async with process(postgres_url, **SHORT) as here, process(postgres_url) as there:
        kept, ended = await log_in(here), await log_in(here)
        await wait_until_cached(here, kept, ended)
        await wait_until_cached(there, kept, ended)
        with unreachable(postgres, postgres_url):
            cut_off(postgres, *listeners(postgres_url))
            await eventually(lambda: not here.invalidation.is_current())
            assert cached(here, kept) is None
            with statements(here) as found:
                for caller in (kept, ended, kept):
                    assert await identify(here, caller) is not None
                assert len(found) == 3
            # No connection listens for this notification.
            await there.sessions.end(ended.session.id)
        await eventually(here.invalidation.is_current)
        assert len(here.identity_cache) == 0
        assert cached(here, kept) is None
        assert await identify(here, ended) is None
        await wait_until_cached(here, kept)
        await eventually(there.invalidation.is_current)
    off = [line for line in caplog.messages if line.startswith("identity cache off")]
    # One line for each of the two processes, however often they tried to connect.
    assert len(off) == 2, off
    assert all("change notifications are lost" in line for line in off)
    assert caplog.messages.count("identity cache on again") == 2


async def test_a_closed_listening_connection_is_replaced_each_time(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with process(postgres_url, **SHORT) as here, process(postgres_url) as there:
        for _ in range(3):
            caller = await log_in(here)
            await wait_until_cached(here, caller)
            cut_off(postgres, *listeners(postgres_url))
            await eventually(lambda: not here.invalidation.is_current())
            await wait_until_cached(here, caller)
            await there.sessions.end(caller.session.id)
            await eventually(lambda caller=caller: cached(here, caller) is None)  # type: ignore[misc]


async def test_a_silent_connection_disables_the_cache_after_max_staleness(
    postgres_url: str,
) -> None:
    async with process(postgres_url, **SHORT) as here:
        caller = await log_in(here)
        await wait_until_cached(here, caller)
        [pid] = listeners(postgres_url)
        with frozen(pid):
            await eventually(lambda: not here.invalidation.is_current(), within=MAX_STALENESS + 1)
            assert cached(here, caller) is None
            assert await identify(here, caller) is not None
        await wait_until_cached(here, caller)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Inside this block the process keeps its connection and does not respond."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_silent_connection_does_not_delay_stop(postgres_url: str) -> None:
    async with process(postgres_url, **SHORT) as here:
        await eventually(here.invalidation.is_current)
        [pid] = listeners(postgres_url)
        with frozen(pid):
            await eventually(lambda: not here.invalidation.is_current())
            with anyio.fail_after(8):
                await here.invalidation.stop()


async def test_the_cache_works_again_after_a_restart_of_the_server() -> None:
    with PostgresCluster({"synchronous_commit": "on"}) as cluster:
        url = cluster.create_database("authapi")
        migrations.upgrade(url)
        async with process(url, **SHORT) as here, process(url, **SHORT) as there:
            caller = await log_in(here)
            for end in (cluster.stop, cluster.kill):
                await wait_until_cached(here, caller)
                await asyncio.to_thread(end)
                await eventually(
                    lambda: not here.invalidation.is_current(), within=MAX_STALENESS + 1
                )
                assert cached(here, caller) is None
                await asyncio.to_thread(cluster.start)
                await wait_until_cached(here, caller)
            await there.sessions.end(caller.session.id)
            await eventually(lambda: cached(here, caller) is None)


@pytest.mark.parametrize(
    "text",
    ["garbage", "x" * 7999, "é\U0001f40e", f"{new_id().hex} {new_id().hex}x", "-1", "NULL", "\t!"],
    ids=range(7),
)
async def test_a_malformed_notification_clears_the_cache_and_keeps_the_connection(
    postgres_url: str, text: str
) -> None:
    async with process(postgres_url) as here, process(postgres_url) as there:
        caller, other = await log_in(here), await log_in(here)
        await wait_until_cached(here, caller, other)
        send(postgres_url, text)
        await eventually(lambda: len(here.identity_cache) == 0)
        assert here.invalidation.is_current(), "on the same connection"
        await wait_until_cached(here, caller, other)
        await there.sessions.end(caller.session.id)
        await eventually(lambda: cached(here, caller) is None)
        assert cached(here, other) is not None


async def test_unrelated_messages_on_the_channel_change_nothing(postgres_url: str) -> None:
    async with process(postgres_url) as here:
        caller, marker = await log_in(here), await log_in(here)
        await wait_until_cached(here, caller, marker)
        for text in (
            "",
            "heartbeat",
            "heartbeat x 1",
            f"heartbeat {new_id().hex} 0",
            " ",
            new_id().hex,
        ):
            send(postgres_url, text)
        send(postgres_url, str(marker.user.id))
        await eventually(lambda: cached(here, marker) is None)
        assert cached(here, caller) is not None
        assert here.invalidation.is_current()


def send(url: str, text: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_notify('authapi_changes', %s)", [text])


async def test_the_cache_is_current_from_the_start_and_past_max_staleness(
    postgres_url: str,
) -> None:
    async with process(postgres_url, **SHORT) as here:
        assert here.invalidation.is_current(), "the first request may use the cache"
        caller = await log_in(here)
        assert await identify(here, caller) is not None
        until = asyncio.get_running_loop().time() + 3 * MAX_STALENESS
        while asyncio.get_running_loop().time() < until:
            assert cached(here, caller) is not None
            await asyncio.sleep(0.01)


@pytest.fixture
def successor(postgres_url: str) -> Iterator[str]:
    """The database on a server of its own, like a standby that was promoted."""
    here = sa.make_url(postgres_url)
    assert here.database is not None
    with PostgresCluster(password=here.password) as cluster:
        url = cluster.create_database(here.database)
        migrations.upgrade(url)
        yield url


async def test_while_the_pool_reaches_another_server_the_cache_is_not_used(
    postgres_url: str, successor: str, caplog: pytest.LogCaptureFixture
) -> None:
    # The address moves to the new primary, and the old one still answers heartbeats.
    ports = [sa.make_url(url).port or 0 for url in (postgres_url, successor)]
    targets = ports[:1]
    async with Proxy(lambda: targets) as proxy:
        moving = sa.make_url(postgres_url).set(host="127.0.0.1", port=proxy.port)
        url = moving.render_as_string(hide_password=False)
        async with process(url, database_direct_url=postgres_url, **SHORT) as here:
            caller = await log_in(here)
            await wait_until_cached(here, caller)
            targets[:] = ports[1:]
            await here.database.close()
            await here.database.ping()
            await eventually(lambda: not here.invalidation.is_current(), within=5)
            assert await identify(here, caller) is None
            await asyncio.sleep(2 * MAX_STALENESS)  # nor after a new connection to the old one
            assert not here.invalidation.is_current()
            assert any("reach different servers" in message for message in caplog.messages)
            targets[:] = ports[:1]
            await here.database.close()
            await eventually(here.invalidation.is_current, within=5)


@pytest.fixture(params=["refuses", "is silent"])
def nowhere(request: pytest.FixtureRequest) -> Iterator[sa.URL]:
    """The URL of a server that refuses connections, or accepts them and does not respond."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if request.param == "is silent":
            server.listen()
        yield sa.make_url(f"postgresql://a:b@127.0.0.1:{server.getsockname()[1]}/c")


def notifications_of(url: sa.URL) -> PostgresNotifications:
    found = Database(url.render_as_string(hide_password=False)).notifications
    assert isinstance(found, PostgresNotifications)
    return found


async def test_a_start_without_a_connection_takes_max_staleness_at_most(
    nowhere: sa.URL, caplog: pytest.LogCaptureFixture
) -> None:
    cache = IdentityCache(size=9, ttl=DAY)
    invalidation = PostgresInvalidation(
        notifications_of(nowhere), [cache.invalidate], MAX_STALENESS
    )
    with anyio.fail_after(MAX_STALENESS + 2):
        await invalidation.start()
    assert not invalidation.is_current()
    assert [line.partition(":")[0] for line in caplog.messages] == [
        "identity cache off, each request asks the database"
    ]
    with anyio.fail_after(MAX_STALENESS + 2):
        await invalidation.stop()
    assert not invalidation.is_current()


def test_a_start_in_another_event_loop_works() -> None:
    # For example the lifespan of an application that runs a second time in tests.
    url = sa.make_url(f"postgresql://a:b@127.0.0.1:{free_port()}/c")
    invalidation = PostgresInvalidation(notifications_of(url), [], 0.05)

    async def run() -> None:
        await invalidation.start()
        await invalidation.stop()

    for _ in range(2):
        asyncio.run(run())


async def test_each_start_waits_until_the_cache_is_current(postgres_url: str) -> None:
    database = Database(postgres_url)
    cache = IdentityCache(size=9, ttl=DAY)
    invalidation = invalidation_of(database, [cache.invalidate], timedelta(seconds=2))
    for _ in range(3):
        await invalidation.start()
        assert invalidation.is_current()
        await invalidation.stop()
        assert not invalidation.is_current()
    await database.close()


# A pooler in transaction mode.


@asynccontextmanager
async def pooler(url: str) -> AsyncIterator[str]:
    """A pooler that drops what the server sends outside of a transaction.

    PgBouncer does so ("got packet 'A' from server when not linked"), and reuses the same server
    connection for a client while no other client wants it.
    """
    server = sa.make_url(url)
    served: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(server.host, server.port)
        is_linked = True

        async def identify() -> None:
            nonlocal is_linked
            while data := await reader.read(65536):
                is_linked = True
                ours.write(data)
            ours.close()

        asking = asyncio.create_task(identify())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await theirs.readexactly(5)
                body = await theirs.readexactly(int.from_bytes(head[1:]) - 4)
                kind = head[:1]
                if kind == b"K":  # the cancel key of the pooler, as the server connection changes
                    body = (1).to_bytes(4) + body[4:]
                if kind != b"A" or is_linked:
                    writer.write(head + body)
                if kind == b"Z" and body == b"I":
                    is_linked = False
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        for one in (ours, writer):
            one.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.create_task(serve(reader, writer)))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        pooled = server.set(host="127.0.0.1", port=port).update_query_dict({"sslmode": "disable"})
        yield pooled.render_as_string(hide_password=False)
        # All clients have closed their connections by now.
        async with asyncio.timeout(10):
            await asyncio.gather(*served)


async def test_behind_a_pooler_in_transaction_mode_no_ended_session_is_accepted(
    postgres_url: str,
) -> None:
    async with (
        pooler(postgres_url) as pooled,
        process(postgres_url) as there,
        process(pooled, **SHORT) as here,
    ):
        caller = await log_in(here)
        assert await identify(here, caller) is not None
        await there.sessions.end(caller.session.id)
        # The notification may be lost, but no entry is used that is older than max_staleness.
        await asyncio.sleep(MAX_STALENESS)
        assert cached(here, caller) is None


# SQLite: the file is checked.


async def test_the_file_is_checked_once_in_5_ms(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 1000.0
    monkeypatch.setattr("authapi.storage.sqlite.time", SimpleNamespace(monotonic=lambda: at))
    here, there = Database(sqlite_url), Database(sqlite_url)
    cache = IdentityCache(size=9, ttl=DAY)
    invalidation = invalidation_of(here, [cache.invalidate], timedelta(seconds=2))
    assert isinstance(invalidation, SQLiteInvalidation)
    user = await store_user(here, a_user())
    await invalidation.start()
    assert invalidation.is_current()
    for _ in range(3):
        async with there.transaction() as store:
            await store.users.set_name(user.id, "x", at=datetime.now(UTC))
        snapshot = cache.snapshot()
        at += _CHECK_INTERVAL * 0.9
        assert invalidation.is_current()
        assert cache.snapshot() == snapshot
        at += _CHECK_INTERVAL * 0.2
        assert invalidation.is_current()
        assert cache.snapshot() > snapshot
    assert _CHECK_INTERVAL <= 0.005, "the documented delay"
    await invalidation.stop()
    await here.close()
    await there.close()


async def test_stop_clears_the_cache_on_sqlite(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    cache = IdentityCache(size=9, ttl=DAY)
    invalidation = invalidation_of(database, [cache.invalidate], timedelta(seconds=2))
    await invalidation.start()
    assert invalidation.is_current()
    snapshot = cache.snapshot()
    await invalidation.stop()
    assert cache.snapshot() > snapshot, "reads in progress are rejected too"
    await database.close()
