"""Two processes on one real database: what one changes, the other does not go on believing.

Each `Services` stands for a process: they share nothing but the database.
"""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import anyio
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from authapi.crypto.ids import new_id
from authapi.crypto.secrets import SecretHash, hash_secret
from authapi.errors import InvalidCredential
from authapi.identity import Identity, Session, SessionKind, User
from authapi.services import Lifetime, Login, Services
from authapi.services.callers import KnownCallers
from authapi.services.callers import coherence as module
from authapi.services.callers.coherence import (
    _LOOK_AGAIN_AFTER,
    Coherence,
    Listening,
    Watching,
)
from authapi.settings import Settings
from authapi.storage import Database, migrations
from authapi.storage.changes import PostgresChanges, SQLiteChanges
from tests.servers.postgres import PostgresCluster, PostgresServer
from tests.servers.process import free_port
from tests.storage.rows import HASH, a_user, in_background, sql, store_user

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Caller:
    """A user with a login."""

    user: User
    session: Session
    secret: SecretHash


@asynccontextmanager
async def process(url: str, **changes: object) -> AsyncIterator[Services]:
    """Services that run on the database at `url`, and on nothing else."""
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
    session = await services.sessions.begin(
        Login(user=user, proved=HASH, auth_time=datetime.now(UTC)),
        SessionKind.SESSION,
        lifetime=Lifetime(DAY),
        secret=secret,
    )
    return Caller(user, session, secret)


def recall(services: Services, caller: Caller) -> Identity | None:
    return services.sessions.recall(caller.secret, strategy="session")


async def ask(services: Services, caller: Caller) -> Identity | None:
    """As a strategy does for each request."""
    return recall(services, caller) or await services.sessions.identify_secret(
        caller.secret, SessionKind.SESSION, strategy="session"
    )


async def eventually(condition: Callable[[], bool], *, within: float = 10) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not condition():
        assert loop.time() < deadline
        await asyncio.sleep(0.005)


async def known_in(services: Services, *callers: Caller) -> None:
    """Returns once all of them are known there."""
    await eventually(services.coherence.holds)
    # What is heard late about the callers' beginnings would make them unknown again.
    for caller in callers:
        async with asyncio.timeout(10):
            while recall(services, caller) is None:
                assert await ask(services, caller) is not None
                await asyncio.sleep(0)


def is_exact(services: Services) -> bool:
    """Whether the first look after it notices what another process has committed."""
    return isinstance(services.database.changes, SQLiteChanges)


async def noticed(services: Services, condition: Callable[[], bool]) -> None:
    if is_exact(services):
        await asyncio.sleep(_LOOK_AGAIN_AFTER)
    else:
        # Measured in milliseconds; the bound is what is promised even if the channel fails.
        await eventually(condition, within=2)
    assert condition()


@contextmanager
def statements(services: Services) -> Iterator[list[str]]:
    found: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        if not in_background():
            found.append(statement)

    engine = services.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    yield found
    event.remove(engine, "before_cursor_execute", note)


Change = Callable[[Services, Caller], Awaitable[object]]


async def delete(services: Services, caller: Caller) -> None:
    await services.accounts.delete(caller.user.id)


async def identity(services: Services, caller: Caller) -> Identity:
    found = await ask(services, caller)
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
    await services.sessions.begin(
        Login(user=caller.user, proved=HASH, auth_time=datetime.now(UTC)),
        SessionKind.SESSION,
        lifetime=Lifetime(DAY),
        secret=hash_secret("the next"),
        replaces=caller.secret,
    )


async def set_password(services: Services, caller: Caller) -> None:
    await services.accounts.set_password(caller.user.id, "a long new pass phrase")


ENDS: dict[str, Change] = {
    "logout": log_out,
    "end": lambda services, it: services.sessions.end(it.session.id),
    "end_own": end_own,
    "end_others": end_others,
    "end_all": lambda services, it: services.sessions.end_all(it.user.id),
    "a login in its place": log_in_over,
    "set_password": set_password,
    "deactivation": lambda services, it: services.accounts.set_active(it.user.id, False),
    "delete": delete,
}
REPLACES = {"a login in its place"}
"""Those that leave the browser with another secret: for a moment the old one is refused in a way of
its own, as requests that carry it may be under way.
"""


async def test_what_one_process_ends_is_over_in_all(here: Services, there: Services) -> None:
    bystander = await log_in(here)
    for name, end in ENDS.items():
        caller = await log_in(here)
        await known_in(here, caller, bystander)
        await known_in(there, caller, bystander)
        await end(here, caller)
        assert recall(here, caller) is None, name
        await noticed(there, lambda caller=caller: recall(there, caller) is None)  # type: ignore[misc]
        for services in (here, there):
            with pytest.raises(InvalidCredential) if name in REPLACES else nullcontext():
                assert await ask(services, caller) is None, name
            assert await ask(services, bystander) is not None, name


async def test_a_user_who_is_changed_in_one_process_is_the_changed_one_in_all(
    here: Services, there: Services
) -> None:
    caller = await log_in(here)
    await known_in(here, caller)
    await known_in(there, caller)
    for name in ("Bob", None, "Rob"):
        async with here.database.transaction() as store:
            await store.users.set_name(caller.user.id, name, at=datetime.now(UTC))
        found = await identity(here, caller)
        assert found.user.name == name

        def is_changed(name: str | None = name) -> bool:
            known = recall(there, caller)
            return known is None or known.user.name == name

        await noticed(there, is_changed)
        found = await identity(there, caller)
        assert found.user.name == name


async def test_who_is_known_costs_nothing_and_who_is_not_one_statement(here: Services) -> None:
    caller = await log_in(here)
    await eventually(here.coherence.holds)
    with statements(here) as found:
        assert await ask(here, caller) is not None
        assert len(found) == 1
        for _ in range(10):
            assert await ask(here, caller) is not None
        assert len(found) == 1


async def test_logins_of_others_make_nobody_unknown(here: Services, there: Services) -> None:
    caller = await log_in(here)
    await known_in(here, caller)
    if is_exact(here):
        await log_in(there, caller.user)
        await log_in(there)
        await there.activity.flush()
        assert recall(here, caller) is not None
        return
    for _ in range(3):
        await log_in(there, caller.user)
        await log_in(there)
    # News would have been here before this.
    other = await log_in(here)
    await known_in(here, other)
    await there.sessions.end(other.session.id)
    await eventually(lambda: recall(here, other) is None)
    assert recall(here, caller) is not None


async def test_a_credential_is_known_by_the_strategy_that_read_it_only(here: Services) -> None:
    caller = await log_in(here)
    await known_in(here, caller)
    assert here.sessions.recall(caller.secret, strategy="token") is None
    assert recall(here, caller) is not None


async def test_where_nobody_may_be_known_each_request_is_one_statement(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHAPI_KNOWN_CALLERS", "0")
    async with process(database_url) as services:
        caller = await log_in(services)
        with statements(services) as found:
            for count in range(1, 4):
                assert await ask(services, caller) is not None
                assert len(found) == count
        assert len(services.known) == 0
        if not is_exact(services):
            assert listeners(database_url) == []
    monkeypatch.delenv("AUTHAPI_KNOWN_CALLERS")
    if database_url.startswith("postgres"):
        async with process(database_url) as services:
            assert len(listeners(database_url)) == 1
        await eventually(lambda: listeners(database_url) == [])


def listeners(url: str) -> list[int]:
    """The server processes that serve a connection which listens."""
    # Asked from beside, for it may be that nobody can connect to that database.
    name = sa.make_url(url).database
    found = sql(
        sa.make_url(url).set(database="postgres").render_as_string(hide_password=False),
        f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}'"
        " AND (starts_with(query, 'LISTEN ') OR starts_with(query, 'SELECT pg_notify($1, $2)'))",
    )
    return [pid for [pid] in found]


async def test_after_the_end_nobody_is_known(database_url: str) -> None:
    async with process(database_url) as services:
        caller = await log_in(services)
        await known_in(services, caller)
    assert recall(services, caller) is None
    async with process(database_url) as other:
        await other.sessions.end(caller.session.id)
    await services.start()
    assert recall(services, caller) is None
    assert await ask(services, caller) is None
    await services.stop()


# PostgreSQL: the channel fails.

BOUND = 0.5
SOON: dict[str, object] = {"known_callers_bound": timedelta(seconds=BOUND)}


@contextmanager
def unreachable(postgres: PostgresServer, url: str) -> Iterator[None]:
    """Inside this block nobody can connect any more; who is connected stays so."""
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


async def test_without_a_channel_nobody_is_known_and_everybody_is_served(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with process(postgres_url, **SOON) as here, process(postgres_url) as there:
        kept, ended = await log_in(here), await log_in(here)
        await known_in(here, kept, ended)
        await known_in(there, kept, ended)
        with unreachable(postgres, postgres_url):
            cut_off(postgres, *listeners(postgres_url))
            await eventually(lambda: not here.coherence.holds())
            assert recall(here, kept) is None
            with statements(here) as found:
                for caller in (kept, ended, kept):
                    assert await ask(here, caller) is not None
                assert len(found) == 3
            # This is announced to nobody.
            await there.sessions.end(ended.session.id)
        await eventually(here.coherence.holds)
        assert len(here.known) == 0
        assert recall(here, kept) is None
        assert await ask(here, ended) is None
        await known_in(here, kept)


async def test_a_channel_that_is_cut_comes_back_by_itself_each_time(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with process(postgres_url, **SOON) as here, process(postgres_url) as there:
        for _ in range(3):
            caller = await log_in(here)
            await known_in(here, caller)
            cut_off(postgres, *listeners(postgres_url))
            await eventually(lambda: not here.coherence.holds())
            await known_in(here, caller)
            await there.sessions.end(caller.session.id)
            await eventually(lambda caller=caller: recall(here, caller) is None)  # type: ignore[misc]


async def test_a_channel_that_is_silent_is_trusted_no_longer_than_the_bound(
    postgres_url: str,
) -> None:
    async with process(postgres_url, **SOON) as here:
        caller = await log_in(here)
        await known_in(here, caller)
        [pid] = listeners(postgres_url)
        with frozen(pid):
            await eventually(lambda: not here.coherence.holds(), within=BOUND + 1)
            assert recall(here, caller) is None
            assert await ask(here, caller) is not None
        await known_in(here, caller)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Inside this block the process holds its connection and does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_silent_channel_does_not_hold_up_the_end(postgres_url: str) -> None:
    async with process(postgres_url, **SOON) as here:
        await eventually(here.coherence.holds)
        [pid] = listeners(postgres_url)
        with frozen(pid):
            await eventually(lambda: not here.coherence.holds())
            with anyio.fail_after(8):
                await here.coherence.stop()


async def test_the_server_goes_and_comes_back() -> None:
    with PostgresCluster({"synchronous_commit": "on"}) as cluster:
        url = cluster.create_database("authapi")
        migrations.upgrade(url)
        async with process(url, **SOON) as here, process(url, **SOON) as there:
            caller = await log_in(here)
            for end in (cluster.stop, cluster.kill):
                await known_in(here, caller)
                await asyncio.to_thread(end)
                await eventually(lambda: not here.coherence.holds(), within=BOUND + 1)
                assert recall(here, caller) is None
                await asyncio.to_thread(cluster.start)
                await known_in(here, caller)
            await there.sessions.end(caller.session.id)
            await eventually(lambda: recall(here, caller) is None)


@pytest.mark.parametrize(
    "text",
    ["garbage", "x" * 7999, "é\U0001f40e", f"{new_id().hex} {new_id().hex}x", "-1", "NULL", "\t!"],
    ids=range(7),
)
async def test_an_announcement_that_cannot_be_read_forgets_all_and_ends_nothing(
    postgres_url: str, text: str
) -> None:
    async with process(postgres_url) as here, process(postgres_url) as there:
        caller, other = await log_in(here), await log_in(here)
        await known_in(here, caller, other)
        say(postgres_url, text)
        await eventually(lambda: len(here.known) == 0)
        assert here.coherence.holds(), "on the same connection"
        await known_in(here, caller, other)
        await there.sessions.end(caller.session.id)
        await eventually(lambda: recall(here, caller) is None)
        assert recall(here, other) is not None


async def test_what_others_say_for_themselves_changes_nothing(postgres_url: str) -> None:
    async with process(postgres_url) as here:
        caller, marker = await log_in(here), await log_in(here)
        await known_in(here, caller, marker)
        for text in ("", "beat", "beat x 1", f"beat {new_id().hex} 0", " ", new_id().hex):
            say(postgres_url, text)
        say(postgres_url, str(marker.user.id))
        await eventually(lambda: recall(here, marker) is None)
        assert recall(here, caller) is not None
        assert here.coherence.holds()


def say(url: str, text: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_notify('authapi_changes', %s)", [text])


async def test_it_holds_from_the_start_and_goes_on_past_the_bound(postgres_url: str) -> None:
    async with process(postgres_url, **SOON) as here:
        assert here.coherence.holds(), "so that the first caller can be known"
        caller = await log_in(here)
        assert await ask(here, caller) is not None
        until = asyncio.get_running_loop().time() + 3 * BOUND
        while asyncio.get_running_loop().time() < until:
            assert recall(here, caller) is not None
            await asyncio.sleep(0.01)


@pytest.fixture(params=["refuses", "is silent"])
def nowhere(request: pytest.FixtureRequest) -> Iterator[sa.URL]:
    """The URL of a server that refuses or is silent."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if request.param == "is silent":
            server.listen()
        yield sa.make_url(f"postgresql://a:b@127.0.0.1:{server.getsockname()[1]}/c")


async def test_a_start_without_a_channel_takes_no_longer_than_the_bound(nowhere: sa.URL) -> None:
    known = KnownCallers(size=9, longest=DAY)
    coherence = Listening(PostgresChanges(nowhere), known, BOUND)
    with anyio.fail_after(BOUND + 2):
        await coherence.start()
    assert not coherence.holds()
    with anyio.fail_after(BOUND + 2):
        await coherence.stop()
    assert not coherence.holds()


def test_a_start_in_another_event_loop_is_like_the_first() -> None:
    # As when an application's lifespan runs a second time, in tests for example.
    url = sa.make_url(f"postgresql://a:b@127.0.0.1:{free_port()}/c")
    coherence = Listening(PostgresChanges(url), KnownCallers(size=9, longest=DAY), 0.05)

    async def run() -> None:
        await coherence.start()
        await coherence.stop()

    for _ in range(2):
        asyncio.run(run())


async def test_each_start_waits_until_the_first_caller_can_be_known(postgres_url: str) -> None:
    database = Database(postgres_url)
    known = KnownCallers(size=9, longest=DAY)
    coherence = Coherence.of(database, known, timedelta(seconds=2))
    for _ in range(3):
        await coherence.start()
        assert coherence.holds()
        await coherence.stop()
        assert not coherence.holds()


# A pooler in transaction mode.


@asynccontextmanager
async def pooler(url: str) -> AsyncIterator[str]:
    """A server connection is ours during a transaction only: what it says at other times is lost.

    PgBouncer does so ("got packet 'A' from server when not linked"), and gives us the same server
    connection again when nobody else wants it.
    """
    server = sa.make_url(url)
    served: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(server.host, server.port)
        is_linked = True

        async def ask() -> None:
            nonlocal is_linked
            while data := await reader.read(65536):
                is_linked = True
                ours.write(data)
            ours.close()

        asking = asyncio.create_task(ask())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await theirs.readexactly(5)
                body = await theirs.readexactly(int.from_bytes(head[1:]) - 4)
                kind = head[:1]
                if kind == b"K":  # whom to cancel: of its own, as the server behind it changes
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
        # Whoever used it has closed their connections by now.
        async with asyncio.timeout(10):
            await asyncio.gather(*served)


async def test_behind_a_pooler_in_transaction_mode_nobody_is_told_what_is_over(
    postgres_url: str,
) -> None:
    async with (
        pooler(postgres_url) as pooled,
        process(postgres_url) as there,
        process(pooled, **SOON) as here,
    ):
        caller = await log_in(here)
        assert await ask(here, caller) is not None
        await there.sessions.end(caller.session.id)
        # The news may be lost here, but whatever is believed is no older than the bound.
        await asyncio.sleep(BOUND)
        assert recall(here, caller) is None


# SQLite: the file is asked.


async def test_the_file_is_asked_again_after_a_moment_and_not_before(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 1000.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: at))
    here, there = Database(sqlite_url), Database(sqlite_url)
    known = KnownCallers(size=9, longest=DAY)
    coherence = Coherence.of(here, known, timedelta(seconds=2))
    assert isinstance(coherence, Watching)
    user = await store_user(here, a_user())
    await coherence.start()
    assert coherence.holds()
    for _ in range(3):
        async with there.transaction() as store:
            await store.users.set_name(user.id, "x", at=datetime.now(UTC))
        number = known.number()
        at += _LOOK_AGAIN_AFTER * 0.9
        assert coherence.holds()
        assert known.number() == number
        at += _LOOK_AGAIN_AFTER * 0.2
        assert coherence.holds()
        assert known.number() > number
    assert _LOOK_AGAIN_AFTER <= 0.005, "what is promised of other processes"
    await coherence.stop()
    await here.close()
    await there.close()


async def test_what_is_known_ends_with_the_watching(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    known = KnownCallers(size=9, longest=DAY)
    coherence = Coherence.of(database, known, timedelta(seconds=2))
    await coherence.start()
    assert coherence.holds()
    number = known.number()
    await coherence.stop()
    assert known.number() > number, "reads that are under way are forgotten with all others"
    await database.close()
