"""Notifications: their users, their time, and their receivers."""

import asyncio
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import anyio
import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql as psql

from authapi.crypto.ids import new_id
from authapi.crypto.passwords import PasswordHash
from authapi.crypto.secrets import hash_secret
from authapi.domain.client import Client
from authapi.domain.events import Event, EventType
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User, UserFilter, UserOrder
from authapi.domain.username import parse_username
from authapi.errors import StorageUnavailable
from authapi.storage import Database, Store, migrations
from authapi.storage.notifications import Listener, PostgresNotifications
from authapi.storage.sqlite import SQLiteNotifications
from authapi.storage.tables.sessions import SessionTable
from authapi.storage.tables.users import NewUser, UserTable
from tests.servers.postgres import PostgresCluster
from tests.storage.rows import AT, HASH, a_session, a_user, sql, store_user

DAY = timedelta(days=1)
OTHER_HASH = PasswordHash("$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHQ$BBBB")


@pytest.fixture
def postgres_url(emptied_postgres_url: str) -> str:
    return emptied_postgres_url


def secret_of(session: Session) -> str:
    return f"the secret of {session.id}"


async def store_sessions(database: Database, *sessions: Session) -> None:
    async with database.transaction() as store:
        for session in sessions:
            await store.sessions.add(session, hash_secret(secret_of(session)))


# The changed users of each method.


class Scene:
    """Two users, each with logins and a personal access token."""

    def __init__(self) -> None:
        self.alice, self.bob = a_user(), a_user()
        self.login, self.other = a_session(self.alice), a_session(self.alice)
        self.token = a_session(self.alice, kind=SessionKind.TOKEN, name="script")
        self.bobs = a_session(self.bob)

    async def store(self, database: Database) -> None:
        for number, user in enumerate((self.alice, self.bob)):
            await store_user(database, user, email=f"{number}@example.com")
        await store_sessions(database, self.login, self.other, self.token, self.bobs)


Act = Callable[[Store, Scene], Awaitable[object]]


ALICE: dict[str, Act] = {
    "sessions.end": lambda store, it: store.sessions.end(it.login.id),
    "sessions.end, of a token": lambda store, it: store.sessions.end(it.token.id),
    "sessions.end_by_secret": lambda store, it: store.sessions.end_by_secret(
        hash_secret(secret_of(it.login)), it.login.kind
    ),
    "sessions.end_for_user": lambda store, it: store.sessions.end_for_user(
        it.login.id, it.alice.id, personal=False
    ),
    "sessions.end_for_user, of a token": lambda store, it: store.sessions.end_for_user(
        it.token.id, it.alice.id, personal=True
    ),
    "sessions.end_all": lambda store, it: store.sessions.end_all(it.alice.id),
    "sessions.end_all, but one": lambda store, it: store.sessions.end_all(
        it.alice.id, keep=[it.login.id], logins_only=True
    ),
    "sessions.end_least_recently_used": lambda store, it: store.sessions.end_least_recently_used(
        it.alice.id, keep=1, now=AT
    ),
    "sessions.replace_secret": lambda store, it: store.sessions.replace_secret(
        it.login.id, hash_secret("another"), auth_time=AT + DAY
    ),
    "sessions.set_auth_time": lambda store, it: store.sessions.set_auth_time(
        it.login.id, auth_time=AT + DAY
    ),
    "sessions.set_mfa": lambda store, it: store.sessions.set_mfa(
        it.login.id, mfa_at=AT + DAY, amr=("pwd", "otp", "mfa"), secret=None
    ),
    "users.set_name": lambda store, it: store.users.set_name(it.alice.id, "Al", at=AT + DAY),
    "users.set_username": lambda store, it: store.users.set_username(
        it.alice.id, parse_username("Alice"), at=AT + DAY
    ),
    "users.set_profile": lambda store, it: store.users.set_profile(
        it.alice.id, {"locale": "ko"}, at=AT + DAY
    ),
    "users.confirm_email": lambda store, it: store.users.confirm_email(it.alice.id, at=AT + DAY),
    "users.set_email": lambda store, it: store.users.set_email(
        it.alice.id, email="al@example.com", given="Al@example.com", at=AT + DAY
    ),
    "users.set_password": lambda store, it: store.users.set_password(
        it.alice.id, OTHER_HASH, at=AT + DAY
    ),
    "users.set_active, off": lambda store, it: store.users.set_active(
        it.alice.id, False, at=AT + DAY
    ),
    "sessions.limit_expiry": lambda store, it: store.sessions.limit_expiry(it.login.id, AT + DAY),
    "users.set_active, on": lambda store, it: store.users.set_active(
        it.alice.id, True, at=AT + DAY
    ),
    "users.set_roles": lambda store, it: store.users.set_roles(
        it.alice.id, frozenset({"editor"}), at=AT + DAY
    ),
    "users.set_superuser": lambda store, it: store.users.set_superuser(
        it.alice.id, True, at=AT + DAY
    ),
    "users.set_mfa": lambda store, it: store.users.set_mfa(it.alice.id, AT, at=AT + DAY),
    "users.delete": lambda store, it: store.users.delete(it.alice.id),
}
"""Methods that change Alice or end one of her credentials, and do not affect Bob."""

NO_CHANGE: dict[str, Act] = {
    # A login creates something new; cached values stay valid.
    "sessions.add": lambda store, it: store.sessions.add(a_session(it.alice), hash_secret("new")),
    "users.add": lambda store, it: store.users.add(
        a_user(), email="new@example.com", password_hash=HASH
    ),
    "users.add_missing": lambda store, it: store.users.add_missing(
        [NewUser(a_user(), email, HASH) for email in ("new@example.com", "0@example.com")]
    ),
    # Not part of a cached identity.
    "sessions.set_data": lambda store, it: store.sessions.set_data(it.login.id, {"a": 1}),
    # JWTs for other services, which are not credentials of this service.
    "sessions.set_revoked_jwts": lambda store, it: store.sessions.set_revoked_jwts(
        it.login.id, {"any": 1.0}
    ),
    "sessions.record_uses": lambda store, it: store.sessions.record_uses(
        [(it.login.id, AT + DAY, None)]
    ),
    "users.replace_hash": lambda store, it: store.users.replace_hash(it.alice.id, HASH, OTHER_HASH),
    # There is nothing to end.
    "sessions.end, of nothing": lambda store, it: store.sessions.end(new_id()),
    "sessions.end_by_secret, of nothing": lambda store, it: store.sessions.end_by_secret(
        hash_secret("unknown"), SessionKind.SESSION
    ),
    "sessions.end_by_secret, of another kind": lambda store, it: store.sessions.end_by_secret(
        hash_secret(secret_of(it.login)), SessionKind.TOKEN
    ),
    "sessions.end_for_user, of another user": lambda store, it: store.sessions.end_for_user(
        it.login.id, it.bob.id, personal=False
    ),
    "sessions.end_for_user, of a login as a token": lambda store, it: store.sessions.end_for_user(
        it.login.id, it.alice.id, personal=True
    ),
    "sessions.end_all, but all": lambda store, it: store.sessions.end_all(
        it.bob.id, keep=[it.bobs.id]
    ),
    "sessions.set_auth_time, of nothing": lambda store, it: store.sessions.set_auth_time(
        new_id(), auth_time=AT + DAY
    ),
    "sessions.replace_secret, of nothing": lambda store, it: store.sessions.replace_secret(
        new_id(), hash_secret("another"), auth_time=AT + DAY
    ),
    "sessions.limit_expiry, of what ends before": lambda store, it: store.sessions.limit_expiry(
        it.login.id, AT + 999 * DAY
    ),
    "sessions.end_least_recently_used, of none": lambda store, it: (
        store.sessions.end_least_recently_used(it.alice.id, keep=9, now=AT)
    ),
    # Reads.
    "sessions.count_personal": lambda store, it: store.sessions.count_personal(it.alice.id, now=AT),
    "sessions.lock": lambda store, it: store.sessions.lock(it.login.id),
    "sessions.find_data": lambda store, it: store.sessions.find_data(it.login.id),
    "sessions.find_by_secret": lambda store, it: store.sessions.find_by_secret(
        hash_secret(secret_of(it.login)), it.login.kind
    ),
    "sessions.find_by_current_or_previous_secret": lambda store, it: (
        store.sessions.find_by_current_or_previous_secret(
            hash_secret(secret_of(it.login)), it.login.kind, since=AT
        )
    ),
    "sessions.find_with_user": lambda store, it: store.sessions.find_with_user(it.login.id),
    "sessions.find_by_signed_id": lambda store, it: store.sessions.find_by_signed_id(
        it.login.id, it.login.kind, kid="any"
    ),
    "sessions.lock_for_user": lambda store, it: store.sessions.lock_for_user(it.alice.id),
    "sessions.find_owner_by_secret": lambda store, it: store.sessions.find_owner_by_secret(
        hash_secret(secret_of(it.login)), it.login.kind
    ),
    "sessions.find_owner_by_id": lambda store, it: store.sessions.find_owner_by_id(it.login.id),
    "sessions.revoked_jwts": lambda store, it: store.sessions.revoked_jwts(it.login.id),
    "sessions.find_by_family": lambda store, it: store.sessions.find_by_family(hash_secret("any")),
    "sessions.lock_by_family": lambda store, it: store.sessions.lock_by_family(hash_secret("any")),
    "sessions.list_for_user": lambda store, it: store.sessions.list_for_user(
        it.alice.id, personal=False, now=AT
    ),
    "users.find": lambda store, it: store.users.find(it.alice.id),
    "users.find_by_email": lambda store, it: store.users.find_by_email("0@example.com"),
    "users.find_by_username": lambda store, it: store.users.find_by_username("alice"),
    "users.find_email_by_username": lambda store, it: store.users.find_email_by_username("alice"),
    "users.find_credentials_by_username": lambda store, it: (
        store.users.find_credentials_by_username("alice")
    ),
    "users.find_owners": lambda store, it: store.users.find_owners([it.alice.id], []),
    "users.find_credentials": lambda store, it: store.users.find_credentials(it.alice.id),
    "users.find_credentials_by_email": lambda store, it: store.users.find_credentials_by_email(
        "0@example.com"
    ),
    "users.lock": lambda store, it: store.users.lock(it.alice.id),
    "users.password_version": lambda store, it: store.users.password_version(it.alice.id),
    "users.without_password": lambda store, it: store.users.without_password([it.alice.id]),
    "users.search": lambda store, it: store.users.search(
        UserFilter(), order=UserOrder.OLDEST, after=None, limit=9
    ),
    "users.lock_addresses": lambda store, it: store.users.lock_addresses(
        "0@example.com", "x@example.com"
    ),
    "users.lock_all": lambda store, it: store.users.lock_all([it.alice.id, it.bob.id]),
    "users.has_other_superuser": lambda store, it: store.users.has_other_superuser(it.alice.id),
    "users.find_existing_emails": lambda store, it: store.users.find_existing_emails(
        ["0@example.com", "x@example.com"]
    ),
    # Pruned sessions expired before, and a cache rejects expired sessions.
    "sessions.prune": lambda store, it: store.sessions.prune(
        now=AT + 999 * DAY, grace=DAY, limit=99
    ),
}
"""Methods that change no cached value."""


def method_of(name: str) -> str:
    return name.partition(",")[0]


def test_every_table_method_is_covered() -> None:
    methods = {
        f"{table}.{name}"
        for table, kind in (("sessions", SessionTable), ("users", UserTable))
        for name in dir(kind)
        if callable(getattr(kind, name)) and not name.startswith("_")
    }
    changing, harmless = ({method_of(name) for name in table} for table in (ALICE, NO_CHANGE))
    assert methods == changing | harmless, "does a new one end a credential, or change a User?"


async def known_of(database: Database, scene: Scene) -> list[object]:
    """Returns the cacheable values of these callers, except the time of the last use."""
    found: list[object] = []
    async with database.read() as store:
        for session in (scene.login, scene.other, scene.token, scene.bobs):
            row = await store.sessions.find_by_secret(hash_secret(secret_of(session)), session.kind)
            if row is not None:
                kept, user = row
                found.append((replace(kept, last_seen_at=AT, idle_expires_at=None, data={}), user))
    return found


@pytest.fixture
def heard() -> list[set[UUID]]:
    """The users that `on_change` was called with."""
    return []


@pytest.fixture
def committed() -> list[Event]:
    """The events that `on_commit` was called with."""
    return []


@pytest.fixture
async def database(
    database_url: str, heard: list[set[UUID]], committed: list[Event]
) -> AsyncIterator[Database]:
    """An empty database, on SQLite and on PostgreSQL, that records its callbacks."""
    found = Database(
        database_url,
        on_commit=committed.append,
        on_change=[lambda users: heard.append(set(users))],
    )
    yield found
    await found.close()


@pytest.mark.parametrize("name", ALICE)
async def test_change_marks_its_user_only(
    database: Database, heard: list[set[UUID]], name: str
) -> None:
    await (scene := Scene()).store(database)
    heard.clear()
    async with database.transaction() as store:
        await ALICE[name](store, scene)
        assert store.changed == {scene.alice.id}
        assert heard == [], "not before the commit"
    assert heard == [{scene.alice.id}]


@pytest.mark.parametrize("name", NO_CHANGE)
async def test_other_methods_mark_no_user(
    database: Database, heard: list[set[UUID]], name: str
) -> None:
    await (scene := Scene()).store(database)
    heard.clear()
    before = await known_of(database, scene)
    async with database.transaction() as store:
        await NO_CHANGE[name](store, scene)
        assert store.changed == set()
    assert heard == []
    if name != "sessions.prune":
        assert await known_of(database, scene) == before


async def test_all_users_changed_in_a_transaction_are_marked(database: Database) -> None:
    await (scene := Scene()).store(database)
    async with database.transaction() as store:
        await store.sessions.end(scene.login.id)
        await store.sessions.end(scene.bobs.id)
        assert store.changed == {scene.alice.id, scene.bob.id}


# Callbacks in this process.


@asynccontextmanager
async def rolled_back(database: Database) -> AsyncIterator[Store]:
    """Runs a transaction that is rolled back."""
    with suppress(RuntimeError):
        async with database.transaction() as store:
            yield store
            raise RuntimeError


async def test_on_change_is_called_once_after_the_commit(
    database: Database, database_url: str
) -> None:
    await (scene := Scene()).store(database)
    seen: list[tuple[set[UUID], int]] = []

    def on_change(users: Collection[UUID]) -> None:
        [[count]] = sql(database_url, "SELECT count(*) FROM authapi_sessions")
        seen.append((set(users), count))

    other = Database(database_url, on_change=[on_change])
    async with other.transaction() as store:
        await store.sessions.end(scene.login.id)
        await store.sessions.end(scene.other.id)
        await store.users.set_name(scene.bob.id, "Rob", at=AT + DAY)
    assert seen == [({scene.alice.id, scene.bob.id}, 2)]
    await other.close()


async def test_rollback_calls_on_change_but_not_on_commit(
    database: Database, heard: list[set[UUID]], committed: list[Event]
) -> None:
    await (scene := Scene()).store(database)
    heard.clear()
    committed.clear()
    async with rolled_back(database) as store:
        await store.events.add(an_event())
        await store.sessions.end(scene.login.id)
    assert (heard, committed) == ([{scene.alice.id}], [])
    async with database.read() as store:
        assert await store.sessions.find_data(scene.login.id) is not None


def an_event() -> Event:
    return Event(
        id=new_id(),
        at=AT,
        type=EventType.LOGOUT,
        user_id=None,
        session_id=None,
        strategy=None,
        client=Client(),
        detail={},
    )


async def test_failed_commit_calls_on_change(
    database: Database, database_url: str, heard: list[set[UUID]]
) -> None:
    await (scene := Scene()).store(database)
    heard.clear()
    with failing_commits(database_url), pytest.raises(sa.exc.SQLAlchemyError):
        async with database.transaction() as store:
            await store.sessions.end(scene.login.id)
    assert heard == [{scene.alice.id}]


@contextmanager
def failing_commits(url: str) -> Iterator[None]:
    """Makes the commit of a transaction that ends a session fail inside this block."""
    if url.startswith("sqlite"):
        sql(
            url,
            "CREATE TABLE parents (id INTEGER PRIMARY KEY)",
            "CREATE TABLE orphans (id REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)",
            "CREATE TRIGGER fail AFTER DELETE ON authapi_sessions BEGIN"
            " INSERT INTO orphans VALUES (1); END",
        )
        yield
        sql(url, "DROP TRIGGER fail")
        return
    sql(
        url,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no'; END $$",
        "CREATE CONSTRAINT TRIGGER fail AFTER DELETE ON authapi_sessions"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail()",
    )
    try:
        yield
    finally:
        sql(url, "DROP FUNCTION fail CASCADE")


async def test_cancelled_transaction_calls_on_change(
    database: Database, heard: list[set[UUID]]
) -> None:
    await (scene := Scene()).store(database)
    heard.clear()
    ended, never = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with database.transaction() as store:
            await store.sessions.end(scene.login.id)
            ended.set()
            await never.wait()

    task = asyncio.create_task(work())
    await ended.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert heard == [{scene.alice.id}]


# SQLite: notifications in the file.


@pytest.fixture
async def here(sqlite_url: str) -> AsyncIterator[Database]:
    """A database that watches its file and has seen its present state."""
    found = Database(sqlite_url)
    watching(found).open()
    yield found
    watching(found).close()
    await found.close()


@pytest.fixture
async def there(sqlite_url: str) -> AsyncIterator[Database]:
    """The same file, as in another process."""
    found = Database(sqlite_url, timeout=0.05)
    yield found
    await found.close()


def watching(database: Database) -> SQLiteNotifications:
    assert isinstance(database.notifications, SQLiteNotifications)
    return database.notifications


async def scene_in(database: Database) -> Scene:
    scene = Scene()
    await scene.store(database)
    watching(database).has_new()
    assert not watching(database).has_new()
    return scene


async def rename(database: Database, user: User, name: str = "x") -> None:
    async with database.transaction() as store:
        await store.users.set_name(user.id, name, at=AT + DAY)


async def test_change_of_another_process_is_new_once(here: Database, there: Database) -> None:
    scene = await scene_in(here)
    for _ in range(3):
        await rename(there, scene.alice)
        assert watching(here).has_new()
        assert not watching(here).has_new()
        assert not watching(here).has_new()


async def test_many_changes_of_other_processes_are_new_once(
    here: Database, there: Database, sqlite_url: str
) -> None:
    scene = await scene_in(here)
    third = Database(sqlite_url)
    for database in (there, third, there):
        await rename(database, scene.alice)
    await third.close()
    assert watching(here).has_new()
    assert not watching(here).has_new()


async def test_own_changes_are_not_new(here: Database) -> None:
    scene = await scene_in(here)
    for number in range(5):
        await rename(here, scene.alice, str(number))
        assert not watching(here).has_new()
    await asyncio.gather(*(rename(here, scene.bob, str(number)) for number in range(20)))
    assert not watching(here).has_new()


@pytest.mark.parametrize("first", ["here", "there"])
async def test_own_change_does_not_hide_a_change_of_another_process(
    here: Database, there: Database, first: str
) -> None:
    scene = await scene_in(here)
    for _ in range(3):
        for database in (here, there) if first == "here" else (there, here):
            await rename(database, scene.alice)
        assert watching(here).has_new()
        assert not watching(here).has_new()


async def test_change_of_another_process_between_two_own_ones_is_new(
    here: Database, there: Database
) -> None:
    scene = await scene_in(here)
    for database in (here, there, here, here):
        await rename(database, scene.alice)
    assert watching(here).has_new()
    assert not watching(here).has_new()


async def test_processes_notify_each_other(here: Database, there: Database) -> None:
    scene = await scene_in(here)
    watching(there).open()
    watching(there).has_new()
    await rename(here, scene.alice)
    assert [watching(here).has_new(), watching(there).has_new()] == [False, True]
    await rename(there, scene.alice)
    assert [watching(here).has_new(), watching(there).has_new()] == [True, False]
    watching(there).close()


async def test_transaction_without_changes_sends_no_notification_to_the_file(
    here: Database, there: Database
) -> None:
    scene = await scene_in(here)
    for name, act in NO_CHANGE.items():
        async with there.transaction() as store:
            await act(store, scene)
        assert not watching(here).has_new(), name


async def test_rollback_of_another_process_sends_no_notification(
    here: Database, there: Database
) -> None:
    scene = await scene_in(here)
    async with rolled_back(there) as store:
        await store.users.delete(scene.alice.id)
        await notify(there, store)
    assert not watching(here).has_new()


async def notify(database: Database, store: Store) -> None:
    """The last step of a transaction before its commit."""
    await database.notifications.notify(store.users._connection, store.changed)


async def test_notification_is_not_visible_before_the_commit(
    here: Database, there: Database
) -> None:
    scene = await scene_in(here)
    async with there.transaction() as store:
        await store.users.delete(scene.alice.id)
        await notify(there, store)
        assert not watching(here).has_new()
    assert watching(here).has_new()


async def test_change_of_another_process_with_the_number_of_an_own_rollback_is_new(
    here: Database, there: Database
) -> None:
    scene = await scene_in(here)
    async with rolled_back(here) as store:
        await store.users.set_name(scene.alice.id, "x", at=AT + DAY)
        await notify(here, store)
    assert not watching(here).has_new()
    await rename(there, scene.alice)
    async with here.transaction() as store:
        await store.sessions.add(a_session(scene.alice), None)
    assert watching(here).has_new()


async def test_notifications_continue_after_an_own_failed_commit(
    here: Database, there: Database, sqlite_url: str
) -> None:
    scene = await scene_in(here)
    with failing_commits(sqlite_url), pytest.raises(sa.exc.SQLAlchemyError):
        async with here.transaction() as store:
            await store.sessions.end(scene.login.id)
    watching(here).has_new()
    await rename(here, scene.alice)
    assert not watching(here).has_new()
    await rename(there, scene.alice)
    assert watching(here).has_new()


async def test_first_check_after_open_is_new(sqlite_url: str) -> None:
    watcher = SQLiteNotifications(sa.make_url(sqlite_url).database or "")
    assert watcher.has_new(), "nothing is watched"
    assert watcher.has_new()
    watcher.open()
    assert watcher.has_new()
    assert not watcher.has_new()
    watcher.close()
    assert watcher.has_new()
    watcher.close()
    watcher.open()
    assert watcher.has_new()
    assert not watcher.has_new()
    watcher.close()


async def test_number_wraps_around(here: Database, there: Database, sqlite_url: str) -> None:
    scene = await scene_in(here)
    sql(sqlite_url, f"PRAGMA user_version = {2**31 - 2}")
    assert watching(here).has_new()
    for database in (here, here, here, there, here, there):
        await rename(database, scene.alice)
        assert watching(here).has_new() == (database is there)
    assert sql(sqlite_url, "PRAGMA user_version") == [(4,)]


async def test_locked_file_counts_as_changed(sqlite_path: Path) -> None:
    # Without WAL mode, which an operator may have disabled, a writer locks out readers.
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        watcher = SQLiteNotifications(str(sqlite_path))
        watcher.open()
        assert watcher.has_new()
        assert not watcher.has_new()
        other.execute("BEGIN EXCLUSIVE")
        for _ in range(3):
            assert watcher.has_new()
        other.execute("ROLLBACK")
        assert not watcher.has_new(), "there was no notification"
        other.execute("BEGIN EXCLUSIVE")
        assert watcher.has_new()
        other.execute("PRAGMA user_version = 99")
        other.execute("COMMIT")
    assert watcher.has_new()
    assert not watcher.has_new()
    watcher.close()


@pytest.fixture
def sqlite_path(sqlite_url: str) -> Path:
    return Path(sa.make_url(sqlite_url).database or "")


def test_damaged_file_counts_as_changed(sqlite_path: Path) -> None:
    watcher = SQLiteNotifications(str(sqlite_path))
    watcher.open()
    watcher.has_new()
    assert not watcher.has_new()
    sqlite_path.write_bytes(b"no database at all" * 1000)
    for _ in range(3):
        assert watcher.has_new()
    watcher.close()


# PostgreSQL: notifications to listeners.


@pytest.fixture
async def sending(postgres_url: str) -> AsyncIterator[Database]:
    found = Database(postgres_url)
    yield found
    await found.close()


@asynccontextmanager
async def listening(url: str, *, timeout_: float = 10) -> AsyncIterator[Listener]:
    """Listens as another process would, with its own `Database`."""
    database = Database(url)
    assert isinstance(database.notifications, PostgresNotifications)
    async with database.notifications.listen(operation_timeout=timeout_) as listener:
        yield listener
    await database.close()


async def received_so_far(listener: Listener) -> list[str]:
    """Returns the messages of everything committed so far that has not been received."""
    return list(await listener.beat())


def users_in(messages: Collection[str]) -> list[set[UUID]]:
    return [{UUID(text) for text in message.split()} for message in messages]


async def test_listener_receives_commits_in_order(sending: Database, postgres_url: str) -> None:
    await (scene := Scene()).store(sending)
    async with listening(postgres_url) as listener:
        await rename(sending, scene.alice)
        async with sending.transaction() as store:
            await store.sessions.end(scene.bobs.id)
            await store.sessions.end(scene.login.id)
            await store.sessions.end(scene.other.id)
        await rename(sending, scene.bob)
        alice, bob = scene.alice.id, scene.bob.id
        assert users_in(await received_so_far(listener)) == [{alice}, {alice, bob}, {bob}]
        assert await received_so_far(listener) == []


async def test_every_listener_receives_every_notification(
    sending: Database, postgres_url: str
) -> None:
    await (scene := Scene()).store(sending)
    async with listening(postgres_url) as first, listening(postgres_url) as second:
        await rename(sending, scene.alice)
        for listener in (first, second):
            assert users_in(await received_so_far(listener)) == [{scene.alice.id}]


async def test_rolled_back_and_open_transactions_are_not_received(
    sending: Database, postgres_url: str
) -> None:
    await (scene := Scene()).store(sending)
    async with listening(postgres_url) as listener:
        for transaction in (rolled_back(sending), sending.transaction()):
            assert await received_so_far(listener) == []
            async with transaction as store:
                await store.sessions.end(scene.login.id)
                await notify(sending, store)
                assert await received_so_far(listener) == []
        assert users_in(await received_so_far(listener)) == [{scene.alice.id}]


async def test_failed_commit_is_not_received(sending: Database, postgres_url: str) -> None:
    await (scene := Scene()).store(sending)
    async with listening(postgres_url) as listener:
        with failing_commits(postgres_url), pytest.raises(sa.exc.SQLAlchemyError):
            async with sending.transaction() as store:
                await store.sessions.end(scene.login.id)
        assert await received_so_far(listener) == []


async def test_transaction_without_changes_is_not_received(
    sending: Database, postgres_url: str
) -> None:
    await (scene := Scene()).store(sending)
    async with listening(postgres_url) as listener:
        for name, act in NO_CHANGE.items():
            async with sending.transaction() as store:
                await act(store, scene)
            assert await received_so_far(listener) == [], name


@pytest.mark.parametrize("count", [199, 200, 201, 450])
async def test_transaction_can_notify_any_number_of_users(
    sending: Database, postgres_url: str, count: int
) -> None:
    users = {new_id() for _ in range(count)}
    async with listening(postgres_url) as listener:
        async with sending.transaction() as store:
            for user in users:
                await store.users.delete(user)
        heard = users_in(await received_so_far(listener))
    assert set().union(*heard) == users
    assert sum(map(len, heard)) == count


async def test_each_heartbeat_has_passed_what_was_committed_before_it(
    sending: Database, postgres_url: str
) -> None:
    await (scene := Scene()).store(sending)
    async with listening(postgres_url) as listener:
        for _ in range(200):
            await rename(sending, scene.alice)
            assert await listener.beat() == [scene.alice.id.hex]


async def test_notifications_that_arrive_during_a_heartbeat_are_received(
    sending: Database, postgres_url: str
) -> None:
    await (scene := Scene()).store(sending)
    async with listening(postgres_url) as listener:
        heard, done = list[str](), asyncio.Event()

        async def change() -> None:
            for _ in range(200):
                await rename(sending, scene.alice)
            done.set()

        changing = asyncio.create_task(change())
        while not done.is_set():
            heard += await listener.beat()
        await changing
        heard += await listener.beat()
    assert heard == [scene.alice.id.hex] * 200


async def test_a_message_of_another_connection_arrives_without_a_statement(
    sending: Database, postgres_url: str
) -> None:
    assert isinstance(sending.notifications, PostgresNotifications)
    async with listening(postgres_url) as listener:
        await sending.notifications.send("a heartbeat")
        async for message in listener.receive(max_wait=10):
            assert message == "a heartbeat"
            break


async def test_message_is_received_at_once_and_receive_ends_in_time(
    sending: Database, postgres_url: str
) -> None:
    await (scene := Scene()).store(sending)
    async with listening(postgres_url) as listener:
        assert [text async for text in listener.receive(max_wait=0.05)] == []

        async def first() -> str:
            async for message in listener.receive(max_wait=60):
                return message
            raise AssertionError

        waiting = asyncio.create_task(first())
        await rename(sending, scene.alice)
        with anyio.fail_after(10):
            assert await waiting == scene.alice.id.hex


async def test_listener_closed_by_the_server_raises_storage_unavailable(
    sending: Database, postgres_url: str
) -> None:
    await (scene := Scene()).store(sending)

    async def cut_off(action: Callable[[Listener], Awaitable[None]]) -> None:
        async with listening(postgres_url) as listener:
            cut_off_listeners(postgres_url)
            await action(listener)

    for action in (wait, send):
        with anyio.fail_after(20), pytest.raises(StorageUnavailable):
            await cut_off(action)
    async with listening(postgres_url) as listener:
        await rename(sending, scene.alice)
        assert users_in(await received_so_far(listener)) == [{scene.alice.id}]


async def wait(listener: Listener) -> None:
    async for _ in listener.receive(max_wait=60):
        pass


async def send(listener: Listener) -> None:
    # The first statement may still be sent.
    for _ in range(100):
        await listener.beat()


def cut_off_listeners(url: str) -> None:
    found = sql(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND starts_with(query, 'LISTEN ')",
    )
    assert found == [(True,)]


@pytest.fixture
def cluster() -> Iterator[PostgresCluster]:
    """A separate server, which the test stops."""
    with PostgresCluster({"synchronous_commit": "on"}) as found:
        yield found


@pytest.mark.parametrize("end", [PostgresCluster.stop, PostgresCluster.kill])
async def test_listening_works_again_after_a_server_restart(
    cluster: PostgresCluster, end: Callable[[PostgresCluster], None]
) -> None:
    url = cluster.create_database("authapi")
    migrations.upgrade(url)

    async def listen(meanwhile: Callable[[PostgresCluster], None]) -> None:
        async with listening(url) as listener:
            assert await received_so_far(listener) == []
            await asyncio.to_thread(meanwhile, cluster)
            await wait(listener)

    with anyio.fail_after(20), pytest.raises(StorageUnavailable):
        await listen(end)
    with anyio.fail_after(20), pytest.raises(StorageUnavailable):
        await listen(lambda _: pytest.fail("there is no server"))
    await asyncio.to_thread(cluster.start)
    database = Database(url)
    async with listening(url) as listener:
        user = await store_user(database, a_user())
        await rename(database, user)
        assert users_in(await received_so_far(listener)) == [{user.id}]
    await database.close()


async def test_listen_times_out_if_the_server_does_not_respond() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"postgresql://a:b@127.0.0.1:{silent.getsockname()[1]}/c"
        with anyio.fail_after(5), pytest.raises(StorageUnavailable):
            async with listening(url, timeout_=0.2):
                pytest.fail("the server did not respond")


@pytest.mark.parametrize("password", ["with space", "p@ss:w/rd", "100%", "a+b", "é", "?x=y#z&"])
async def test_listening_works_with_any_password(
    postgres_url: str, worker: str, password: str
) -> None:
    role = f"listener_{worker}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        create = psql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        connection.execute(create.format(psql.Identifier(role), psql.Literal(password)))
    url = sa.make_url(postgres_url).set(username=role, password=password)
    database = Database(url.render_as_string(hide_password=False))
    try:
        await database.ping()
        assert isinstance(database.notifications, PostgresNotifications)
        async with database.notifications.listen(operation_timeout=10) as listener:
            assert await received_so_far(listener) == []
    finally:
        await database.close()
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(psql.SQL("DROP ROLE {}").format(psql.Identifier(role)))


@pytest.mark.parametrize(
    "query", ["host={at}&host={at}", "host={host}&port={port}", "sslmode=disable"]
)
async def test_listening_works_with_any_form_of_url(postgres_url: str, query: str) -> None:
    url = sa.make_url(postgres_url)
    query = query.format(at=f"{url.host}:{url.port}", host=url.host, port=url.port)
    if "host=" in query:
        url = sa.URL.create(url.drivername, url.username, url.password, database=url.database)
    text = url.render_as_string(hide_password=False)
    # Without a host, in SQLAlchemy's form, or with a host and another parameter.
    database = Database(f"{text}?{query}")
    try:
        await database.ping()
        assert isinstance(database.notifications, PostgresNotifications)
        async with database.notifications.listen(operation_timeout=10) as listener:
            assert await received_so_far(listener) == []
    finally:
        await database.close()
