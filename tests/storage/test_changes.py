"""Announcements of changes: of which users, when exactly, and who hears them."""

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
from authapi.errors import StorageUnavailable
from authapi.identity import Client, Event, EventType, Session, SessionKind, User
from authapi.storage import Database, Store, migrations
from authapi.storage.changes import Listener, PostgresChanges, SQLiteChanges
from authapi.storage.tables.sessions import SessionTable
from authapi.storage.tables.users import Newcomer, UserFilter, UserOrder, UserTable
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


# Which users each method marks.


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
    "sessions.end_secret": lambda store, it: store.sessions.end_secret(
        hash_secret(secret_of(it.login)), it.login.kind
    ),
    "sessions.end_own": lambda store, it: store.sessions.end_own(
        it.login.id, it.alice.id, personal=False
    ),
    "sessions.end_own, of a token": lambda store, it: store.sessions.end_own(
        it.token.id, it.alice.id, personal=True
    ),
    "sessions.end_all": lambda store, it: store.sessions.end_all(it.alice.id),
    "sessions.end_all, but one": lambda store, it: store.sessions.end_all(
        it.alice.id, keep=[it.login.id], logins_only=True
    ),
    "sessions.end_unused": lambda store, it: store.sessions.end_unused(
        it.alice.id, leave=1, now=AT
    ),
    "sessions.replace_secret": lambda store, it: store.sessions.replace_secret(
        it.login.id, hash_secret("another"), auth_time=AT + DAY
    ),
    "sessions.prove_again": lambda store, it: store.sessions.prove_again(
        it.login.id, auth_time=AT + DAY
    ),
    "users.set_name": lambda store, it: store.users.set_name(it.alice.id, "Al", at=AT + DAY),
    "users.set_locale": lambda store, it: store.users.set_locale(it.alice.id, "ko", at=AT + DAY),
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
    "sessions.end_at": lambda store, it: store.sessions.end_at(it.login.id, AT + DAY),
    "users.set_active, on": lambda store, it: store.users.set_active(
        it.alice.id, True, at=AT + DAY
    ),
    "users.set_roles": lambda store, it: store.users.set_roles(
        it.alice.id, frozenset({"editor"}), at=AT + DAY
    ),
    "users.set_superuser": lambda store, it: store.users.set_superuser(
        it.alice.id, True, at=AT + DAY
    ),
    "users.delete": lambda store, it: store.users.delete(it.alice.id),
}
"""What changes Alice, or ends a credential of hers, and leaves Bob alone."""

NOBODY: dict[str, Act] = {
    # A login makes something new; what was known before is as true as ever.
    "sessions.add": lambda store, it: store.sessions.add(a_session(it.alice), hash_secret("new")),
    "users.add": lambda store, it: store.users.add(
        a_user(), email="new@example.com", password_hash=HASH
    ),
    "users.add_missing": lambda store, it: store.users.add_missing(
        [Newcomer(a_user(), email, HASH) for email in ("new@example.com", "0@example.com")]
    ),
    # Not part of what is known.
    "sessions.set_data": lambda store, it: store.sessions.set_data(it.login.id, {"a": 1}),
    # Of JWTs for other services, which are no credentials here.
    "sessions.set_ended_jwts": lambda store, it: store.sessions.set_ended_jwts(
        it.login.id, {"any": 1.0}
    ),
    "sessions.saw": lambda store, it: store.sessions.saw([(it.login.id, AT + DAY, None)]),
    "users.replace_hash": lambda store, it: store.users.replace_hash(it.alice.id, HASH, OTHER_HASH),
    # Nothing was there to end.
    "sessions.end, of nothing": lambda store, it: store.sessions.end(new_id()),
    "sessions.end_secret, of nothing": lambda store, it: store.sessions.end_secret(
        hash_secret("unknown"), SessionKind.SESSION
    ),
    "sessions.end_secret, of another kind": lambda store, it: store.sessions.end_secret(
        hash_secret(secret_of(it.login)), SessionKind.TOKEN
    ),
    "sessions.end_own, of somebody else": lambda store, it: store.sessions.end_own(
        it.login.id, it.bob.id, personal=False
    ),
    "sessions.end_own, of a login as a token": lambda store, it: store.sessions.end_own(
        it.login.id, it.alice.id, personal=True
    ),
    "sessions.end_all, but all": lambda store, it: store.sessions.end_all(
        it.bob.id, keep=[it.bobs.id]
    ),
    "sessions.prove_again, of nothing": lambda store, it: store.sessions.prove_again(
        new_id(), auth_time=AT + DAY
    ),
    "sessions.replace_secret, of nothing": lambda store, it: store.sessions.replace_secret(
        new_id(), hash_secret("another"), auth_time=AT + DAY
    ),
    "sessions.end_at, of what ends before": lambda store, it: store.sessions.end_at(
        it.login.id, AT + 999 * DAY
    ),
    "sessions.end_unused, of none": lambda store, it: store.sessions.end_unused(
        it.alice.id, leave=9, now=AT
    ),
    # Reading.
    "sessions.count_personal": lambda store, it: store.sessions.count_personal(it.alice.id, now=AT),
    "sessions.lock": lambda store, it: store.sessions.lock(it.login.id),
    "sessions.find_data": lambda store, it: store.sessions.find_data(it.login.id),
    "sessions.find_by_secret": lambda store, it: store.sessions.find_by_secret(
        hash_secret(secret_of(it.login)), it.login.kind
    ),
    "sessions.find_presented": lambda store, it: store.sessions.find_presented(
        hash_secret(secret_of(it.login)), it.login.kind, since=AT
    ),
    "sessions.find_with_user": lambda store, it: store.sessions.find_with_user(
        it.login.id, it.login.kind
    ),
    "sessions.find_signed": lambda store, it: store.sessions.find_signed(
        it.login.id, it.login.kind, kid="any"
    ),
    "sessions.lock_of": lambda store, it: store.sessions.lock_of(it.alice.id),
    "sessions.find_owner": lambda store, it: store.sessions.find_owner(
        hash_secret(secret_of(it.login)), it.login.kind
    ),
    "sessions.find_owner_of": lambda store, it: store.sessions.find_owner_of(it.login.id),
    "sessions.ended_jwts": lambda store, it: store.sessions.ended_jwts(it.login.id),
    "sessions.find_by_family": lambda store, it: store.sessions.find_by_family(hash_secret("any")),
    "sessions.lock_by_family": lambda store, it: store.sessions.lock_by_family(hash_secret("any")),
    "sessions.list_of": lambda store, it: store.sessions.list_of(
        it.alice.id, personal=False, now=AT
    ),
    "users.find": lambda store, it: store.users.find(it.alice.id),
    "users.find_by_email": lambda store, it: store.users.find_by_email("0@example.com"),
    "users.find_credentials": lambda store, it: store.users.find_credentials(it.alice.id),
    "users.find_credentials_by_email": lambda store, it: store.users.find_credentials_by_email(
        "0@example.com"
    ),
    "users.lock": lambda store, it: store.users.lock(it.alice.id),
    "users.password_version": lambda store, it: store.users.password_version(it.alice.id),
    "users.search": lambda store, it: store.users.search(
        UserFilter(), order=UserOrder.OLDEST, after=None, limit=9
    ),
    "users.wait_for_addresses": lambda store, it: store.users.wait_for_addresses(
        "0@example.com", "x@example.com"
    ),
    "users.lock_all": lambda store, it: store.users.lock_all([it.alice.id, it.bob.id]),
    "users.has_superuser_besides": lambda store, it: store.users.has_superuser_besides(it.alice.id),
    "users.taken": lambda store, it: store.users.taken(["0@example.com", "x@example.com"]),
    "users.page": lambda store, it: store.users.page(after=None, limit=9),
    # What is pruned was over before, and is known as over.
    "sessions.prune": lambda store, it: store.sessions.prune(
        now=AT + 999 * DAY, grace=DAY, limit=99
    ),
}
"""What leaves everything that may be known of anybody as it was."""


def method_of(name: str) -> str:
    return name.partition(",")[0]


def test_each_method_of_the_tables_is_one_or_the_other() -> None:
    methods = {
        f"{table}.{name}"
        for table, kind in (("sessions", SessionTable), ("users", UserTable))
        for name, found in vars(kind).items()
        if callable(found) and not name.startswith("_")
    }
    changing, harmless = ({method_of(name) for name in table} for table in (ALICE, NOBODY))
    assert methods == changing | harmless, "does a new one end a credential, or change a User?"


async def known_of(database: Database, scene: Scene) -> list[object]:
    """All that could be known of these callers, but for when they were last seen."""
    found: list[object] = []
    async with database.read() as store:
        for session in (scene.login, scene.other, scene.token, scene.bobs):
            row = await store.sessions.find_by_secret(hash_secret(secret_of(session)), session.kind)
            if row is not None:
                kept, user = row
                found.append((replace(kept, last_seen_at=AT, idle_expires_at=None, data={}), user))
    return found


@pytest.mark.parametrize("name", ALICE)
async def test_what_changes_a_user_marks_that_user_and_no_other(
    database: Database, name: str
) -> None:
    await (scene := Scene()).store(database)
    heard: list[set[UUID]] = []
    database.on_change = lambda users: heard.append(set(users))
    async with database.transaction() as store:
        await ALICE[name](store, scene)
        assert store.changed == {scene.alice.id}
        assert heard == [], "not before the commit"
    assert heard == [{scene.alice.id}]


@pytest.mark.parametrize("name", NOBODY)
async def test_what_changes_nobody_marks_nobody(database: Database, name: str) -> None:
    await (scene := Scene()).store(database)
    database.on_change = lambda users: pytest.fail(f"{users}")
    before = await known_of(database, scene)
    async with database.transaction() as store:
        await NOBODY[name](store, scene)
        assert store.changed == set()
    if name != "sessions.prune":
        assert await known_of(database, scene) == before


async def test_of_all_who_are_changed_in_one_transaction_each_is_marked(database: Database) -> None:
    await (scene := Scene()).store(database)
    async with database.transaction() as store:
        await store.sessions.end(scene.login.id)
        await store.sessions.end(scene.bobs.id)
        assert store.changed == {scene.alice.id, scene.bob.id}


# Who is told in this process, and when.


@asynccontextmanager
async def rolled_back(database: Database) -> AsyncIterator[Store]:
    """A transaction that ends without a commit."""
    with suppress(RuntimeError):
        async with database.transaction() as store:
            yield store
            raise RuntimeError


async def test_all_that_changed_is_told_together_once_it_is_committed(
    database: Database, database_url: str
) -> None:
    await (scene := Scene()).store(database)
    seen: list[tuple[set[UUID], int]] = []

    def on_change(users: Collection[UUID]) -> None:
        [[count]] = sql(database_url, "SELECT count(*) FROM sessions")
        seen.append((set(users), count))

    database.on_change = on_change
    async with database.transaction() as store:
        await store.sessions.end(scene.login.id)
        await store.sessions.end(scene.other.id)
        await store.users.set_name(scene.bob.id, "Rob", at=AT + DAY)
    assert seen == [({scene.alice.id, scene.bob.id}, 2)]


async def test_what_is_rolled_back_is_told_all_the_same_but_is_no_event(
    database: Database,
) -> None:
    await (scene := Scene()).store(database)
    heard: list[set[UUID]] = []
    database.on_change = lambda users: heard.append(set(users))
    database.on_commit = lambda event: pytest.fail(f"{event}")
    async with rolled_back(database) as store:
        await store.events.add(an_event())
        await store.sessions.end(scene.login.id)
    assert heard == [{scene.alice.id}]
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


async def test_a_commit_that_fails_is_told_for_it_may_have_happened(
    database: Database, database_url: str
) -> None:
    await (scene := Scene()).store(database)
    heard: list[set[UUID]] = []
    database.on_change = lambda users: heard.append(set(users))
    with failing_commits(database_url), pytest.raises(sa.exc.SQLAlchemyError):
        async with database.transaction() as store:
            await store.sessions.end(scene.login.id)
    assert heard == [{scene.alice.id}]


@contextmanager
def failing_commits(url: str) -> Iterator[None]:
    """Inside this block a transaction that ends a session fails when it is committed."""
    if url.startswith("sqlite"):
        sql(
            url,
            "CREATE TABLE parents (id INTEGER PRIMARY KEY)",
            "CREATE TABLE orphans (id REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)",
            "CREATE TRIGGER fail AFTER DELETE ON sessions BEGIN INSERT INTO orphans VALUES (1);"
            " END",
        )
        yield
        sql(url, "DROP TRIGGER fail")
        return
    sql(
        url,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no'; END $$",
        "CREATE CONSTRAINT TRIGGER fail AFTER DELETE ON sessions"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail()",
    )
    try:
        yield
    finally:
        sql(url, "DROP FUNCTION fail CASCADE")


async def test_a_cancelled_transaction_is_told(database: Database) -> None:
    await (scene := Scene()).store(database)
    heard: list[set[UUID]] = []
    database.on_change = lambda users: heard.append(set(users))
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


# SQLite: the file tells.


@pytest.fixture
async def here(sqlite_url: str) -> AsyncIterator[Database]:
    """A database that watches its file, and knows of everything in it so far."""
    found = Database(sqlite_url)
    watching(found).open()
    yield found
    watching(found).close()
    await found.close()


@pytest.fixture
async def there(sqlite_url: str) -> AsyncIterator[Database]:
    """The same file, opened by another process."""
    found = Database(sqlite_url, timeout=0.05)
    yield found
    await found.close()


def watching(database: Database) -> SQLiteChanges:
    assert isinstance(database.changes, SQLiteChanges)
    return database.changes


async def scene_in(database: Database) -> Scene:
    scene = Scene()
    await scene.store(database)
    watching(database).unheard()
    assert not watching(database).unheard()
    return scene


async def rename(database: Database, user: User, name: str = "x") -> None:
    async with database.transaction() as store:
        await store.users.set_name(user.id, name, at=AT + DAY)


async def test_a_change_of_another_is_unheard_once(here: Database, there: Database) -> None:
    scene = await scene_in(here)
    for _ in range(3):
        await rename(there, scene.alice)
        assert watching(here).unheard()
        assert not watching(here).unheard()
        assert not watching(here).unheard()


async def test_many_changes_of_others_are_unheard_once(
    here: Database, there: Database, sqlite_url: str
) -> None:
    scene = await scene_in(here)
    third = Database(sqlite_url)
    for database in (there, third, there):
        await rename(database, scene.alice)
    await third.close()
    assert watching(here).unheard()
    assert not watching(here).unheard()


async def test_the_own_changes_are_heard_as_they_are_made(here: Database) -> None:
    scene = await scene_in(here)
    for number in range(5):
        await rename(here, scene.alice, str(number))
        assert not watching(here).unheard()
    await asyncio.gather(*(rename(here, scene.bob, str(number)) for number in range(20)))
    assert not watching(here).unheard()


@pytest.mark.parametrize("first", ["here", "there"])
async def test_of_an_own_change_and_one_of_another_the_other_is_noticed(
    here: Database, there: Database, first: str
) -> None:
    scene = await scene_in(here)
    for _ in range(3):
        for database in (here, there) if first == "here" else (there, here):
            await rename(database, scene.alice)
        assert watching(here).unheard()
        assert not watching(here).unheard()


async def test_a_change_of_another_between_two_own_ones_is_noticed(
    here: Database, there: Database
) -> None:
    scene = await scene_in(here)
    for database in (here, there, here, here):
        await rename(database, scene.alice)
    assert watching(here).unheard()
    assert not watching(here).unheard()


async def test_each_process_hears_the_other(here: Database, there: Database) -> None:
    scene = await scene_in(here)
    watching(there).open()
    watching(there).unheard()
    await rename(here, scene.alice)
    assert [watching(here).unheard(), watching(there).unheard()] == [False, True]
    await rename(there, scene.alice)
    assert [watching(here).unheard(), watching(there).unheard()] == [True, False]
    watching(there).close()


async def test_what_changes_nobody_is_not_announced_in_the_file(
    here: Database, there: Database
) -> None:
    scene = await scene_in(here)
    for name, act in NOBODY.items():
        async with there.transaction() as store:
            await act(store, scene)
        assert not watching(here).unheard(), name


async def test_what_another_rolled_back_is_not_announced(here: Database, there: Database) -> None:
    scene = await scene_in(here)
    async with rolled_back(there) as store:
        await store.users.delete(scene.alice.id)
        await announce(there, store)
    assert not watching(here).unheard()


async def announce(database: Database, store: Store) -> None:
    """What a transaction does last, before its commit is tried."""
    await database.changes.announce(store.users._connection, store.changed)


async def test_nothing_is_announced_before_the_commit(here: Database, there: Database) -> None:
    scene = await scene_in(here)
    async with there.transaction() as store:
        await store.users.delete(scene.alice.id)
        await announce(there, store)
        assert not watching(here).unheard()
    assert watching(here).unheard()


async def test_after_an_own_rollback_a_change_of_another_under_its_number_is_noticed(
    here: Database, there: Database
) -> None:
    scene = await scene_in(here)
    async with rolled_back(here) as store:
        await store.users.set_name(scene.alice.id, "x", at=AT + DAY)
        await announce(here, store)
    assert not watching(here).unheard()
    await rename(there, scene.alice)
    async with here.transaction() as store:
        await store.sessions.add(a_session(scene.alice), None)
    assert watching(here).unheard()


async def test_after_an_own_commit_that_failed_all_goes_on(
    here: Database, there: Database, sqlite_url: str
) -> None:
    scene = await scene_in(here)
    with failing_commits(sqlite_url), pytest.raises(sa.exc.SQLAlchemyError):
        async with here.transaction() as store:
            await store.sessions.end(scene.login.id)
    watching(here).unheard()
    await rename(here, scene.alice)
    assert not watching(here).unheard()
    await rename(there, scene.alice)
    assert watching(here).unheard()


async def test_whatever_was_before_is_unheard_when_watching_begins(sqlite_url: str) -> None:
    changes = SQLiteChanges(sa.make_url(sqlite_url).database or "")
    assert changes.unheard(), "nobody watches"
    assert changes.unheard()
    changes.open()
    assert changes.unheard()
    assert not changes.unheard()
    changes.close()
    assert changes.unheard()
    changes.close()
    changes.open()
    assert changes.unheard()
    assert not changes.unheard()
    changes.close()


async def test_the_number_begins_again_after_the_greatest(
    here: Database, there: Database, sqlite_url: str
) -> None:
    scene = await scene_in(here)
    sql(sqlite_url, f"PRAGMA user_version = {2**31 - 2}")
    assert watching(here).unheard()
    for database in (here, here, here, there, here, there):
        await rename(database, scene.alice)
        assert watching(here).unheard() == (database is there)
    assert sql(sqlite_url, "PRAGMA user_version") == [(4,)]


async def test_a_file_that_is_locked_counts_as_changed(sqlite_path: Path) -> None:
    # Out of WAL mode, as an operator may leave it: there a writer shuts readers out.
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        changes = SQLiteChanges(str(sqlite_path))
        changes.open()
        assert changes.unheard()
        assert not changes.unheard()
        other.execute("BEGIN EXCLUSIVE")
        for _ in range(3):
            assert changes.unheard()
        other.execute("ROLLBACK")
        assert not changes.unheard(), "nothing was announced"
        other.execute("BEGIN EXCLUSIVE")
        assert changes.unheard()
        other.execute("PRAGMA user_version = 99")
        other.execute("COMMIT")
    assert changes.unheard()
    assert not changes.unheard()
    changes.close()


@pytest.fixture
def sqlite_path(sqlite_url: str) -> Path:
    return Path(sa.make_url(sqlite_url).database or "")


def test_a_file_that_is_no_database_any_more_counts_as_changed(sqlite_path: Path) -> None:
    changes = SQLiteChanges(str(sqlite_path))
    changes.open()
    changes.unheard()
    assert not changes.unheard()
    sqlite_path.write_bytes(b"no database at all" * 1000)
    for _ in range(3):
        assert changes.unheard()
    changes.close()


# PostgreSQL: who listens is told.


@pytest.fixture
async def announcing(postgres_url: str) -> AsyncIterator[Database]:
    found = Database(postgres_url)
    yield found
    await found.close()


@asynccontextmanager
async def listening(url: str, *, patience: float = 10) -> AsyncIterator[Listener]:
    """As another process would, with its own `Database`."""
    database = Database(url)
    assert isinstance(database.changes, PostgresChanges)
    async with database.changes.listening(patience=patience) as listener:
        yield listener
    await database.close()


async def heard_so_far(listener: Listener) -> list[str]:
    """Everything that was committed up to now: a message of our own comes after it."""
    mark, found = f"mark {new_id()}", list[str]()
    await listener.say(mark)
    async for message in listener.heard(within=10):
        if message == mark:
            return found
        found.append(message)
    raise AssertionError(found)


def users_in(messages: Collection[str]) -> list[set[UUID]]:
    return [{UUID(text) for text in message.split()} for message in messages]


async def test_a_listener_hears_of_each_commit_in_their_order(
    announcing: Database, postgres_url: str
) -> None:
    await (scene := Scene()).store(announcing)
    async with listening(postgres_url) as listener:
        await rename(announcing, scene.alice)
        async with announcing.transaction() as store:
            await store.sessions.end(scene.bobs.id)
            await store.sessions.end(scene.login.id)
            await store.sessions.end(scene.other.id)
        await rename(announcing, scene.bob)
        alice, bob = scene.alice.id, scene.bob.id
        assert users_in(await heard_so_far(listener)) == [{alice}, {alice, bob}, {bob}]
        assert await heard_so_far(listener) == []


async def test_all_listeners_hear_all(announcing: Database, postgres_url: str) -> None:
    await (scene := Scene()).store(announcing)
    async with listening(postgres_url) as first, listening(postgres_url) as second:
        await rename(announcing, scene.alice)
        for listener in (first, second):
            found = [text for text in await heard_so_far(listener) if not text.startswith("mark")]
            assert users_in(found) == [{scene.alice.id}]


async def test_nobody_hears_of_what_was_rolled_back_or_is_not_committed_yet(
    announcing: Database, postgres_url: str
) -> None:
    await (scene := Scene()).store(announcing)
    async with listening(postgres_url) as listener:
        for transaction in (rolled_back(announcing), announcing.transaction()):
            assert await heard_so_far(listener) == []
            async with transaction as store:
                await store.sessions.end(scene.login.id)
                await announce(announcing, store)
                assert await heard_so_far(listener) == []
        assert users_in(await heard_so_far(listener)) == [{scene.alice.id}]


async def test_nobody_hears_of_a_commit_that_fails(announcing: Database, postgres_url: str) -> None:
    await (scene := Scene()).store(announcing)
    async with listening(postgres_url) as listener:
        with failing_commits(postgres_url), pytest.raises(sa.exc.SQLAlchemyError):
            async with announcing.transaction() as store:
                await store.sessions.end(scene.login.id)
        assert await heard_so_far(listener) == []


async def test_what_changes_nobody_is_not_announced_to_listeners(
    announcing: Database, postgres_url: str
) -> None:
    await (scene := Scene()).store(announcing)
    async with listening(postgres_url) as listener:
        for name, act in NOBODY.items():
            async with announcing.transaction() as store:
                await act(store, scene)
            assert await heard_so_far(listener) == [], name


@pytest.mark.parametrize("count", [199, 200, 201, 450])
async def test_a_transaction_may_change_any_number_of_users(
    announcing: Database, postgres_url: str, count: int
) -> None:
    users = {new_id() for _ in range(count)}
    async with listening(postgres_url) as listener:
        async with announcing.transaction() as store:
            for user in users:
                await store.users.delete(user)
        heard = users_in(await heard_so_far(listener))
    assert set().union(*heard) == users
    assert sum(map(len, heard)) == count


async def test_what_arrives_while_something_is_said_is_not_lost(
    announcing: Database, postgres_url: str
) -> None:
    await (scene := Scene()).store(announcing)
    async with listening(postgres_url) as listener:
        for _ in range(20):
            await rename(announcing, scene.alice)
            await listener.say("between")
        heard = await heard_so_far(listener)
    assert heard == [scene.alice.id.hex, "between"] * 20


async def test_a_message_is_heard_at_once_and_silence_ends_in_time(
    announcing: Database, postgres_url: str
) -> None:
    await (scene := Scene()).store(announcing)
    async with listening(postgres_url) as listener:
        assert [text async for text in listener.heard(within=0.05)] == []

        async def first() -> str:
            async for message in listener.heard(within=60):
                return message
            raise AssertionError

        waiting = asyncio.create_task(first())
        await rename(announcing, scene.alice)
        with anyio.fail_after(10):
            assert await waiting == scene.alice.id.hex


async def test_a_listener_that_the_server_cuts_off_is_told(
    announcing: Database, postgres_url: str
) -> None:
    await (scene := Scene()).store(announcing)

    async def cut_off(doing: Callable[[Listener], Awaitable[None]]) -> None:
        async with listening(postgres_url) as listener:
            cut_off_listeners(postgres_url)
            await doing(listener)

    for doing in (wait, say):
        with anyio.fail_after(20), pytest.raises(StorageUnavailable):
            await cut_off(doing)
    async with listening(postgres_url) as listener:
        await rename(announcing, scene.alice)
        assert users_in(await heard_so_far(listener)) == [{scene.alice.id}]


async def wait(listener: Listener) -> None:
    async for _ in listener.heard(within=60):
        pass


async def say(listener: Listener) -> None:
    # The first may still go out, to nobody.
    for _ in range(100):
        await listener.say("x")


def cut_off_listeners(url: str) -> None:
    found = sql(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND starts_with(query, 'LISTEN ')",
    )
    assert found == [(True,)]


@pytest.fixture
def cluster() -> Iterator[PostgresCluster]:
    """A server of its own, to stop."""
    with PostgresCluster({"synchronous_commit": "on"}) as found:
        yield found


@pytest.mark.parametrize("end", [PostgresCluster.stop, PostgresCluster.kill])
async def test_listening_ends_with_the_server_and_begins_again_with_it(
    cluster: PostgresCluster, end: Callable[[PostgresCluster], None]
) -> None:
    url = cluster.create_database("authapi")
    migrations.upgrade(url)

    async def listen(meanwhile: Callable[[PostgresCluster], None]) -> None:
        async with listening(url) as listener:
            assert await heard_so_far(listener) == []
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
        assert users_in(await heard_so_far(listener)) == [{user.id}]
    await database.close()


async def test_a_server_that_does_not_answer_is_not_waited_for() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"postgresql://a:b@127.0.0.1:{silent.getsockname()[1]}/c"
        with anyio.fail_after(5), pytest.raises(StorageUnavailable):
            async with listening(url, patience=0.2):
                pytest.fail("nobody answered")


@pytest.mark.parametrize("password", ["with space", "p@ss:w/rd", "100%", "a+b", "é", "?x=y#z&"])
async def test_whatever_the_password_is_one_can_listen_with_it(
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
        assert isinstance(database.changes, PostgresChanges)
        async with database.changes.listening(patience=10) as listener:
            assert await heard_so_far(listener) == []
    finally:
        await database.close()
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(psql.SQL("DROP ROLE {}").format(psql.Identifier(role)))


@pytest.mark.parametrize(
    "query", ["host={at}&host={at}", "host={host}&port={port}", "sslmode=disable"]
)
async def test_whatever_the_url_says_one_can_listen_with_it(postgres_url: str, query: str) -> None:
    url = sa.make_url(postgres_url)
    query = query.format(at=f"{url.host}:{url.port}", host=url.host, port=url.port)
    if "host=" in query:
        url = sa.URL.create(url.drivername, url.username, url.password, database=url.database)
    text = url.render_as_string(hide_password=False)
    # Without a host, as SQLAlchemy writes it, or with one and something else beside it.
    database = Database(f"{text}?{query}")
    try:
        await database.ping()
        assert isinstance(database.changes, PostgresChanges)
        async with database.changes.listening(patience=10) as listener:
            assert await heard_so_far(listener) == []
    finally:
        await database.close()
