"""Values to store, and plain SQL that bypasses the code under test."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedIndex

from authapi.crypto.ids import first_id_at, new_id
from authapi.crypto.passwords import PasswordHash
from authapi.crypto.secrets import hash_secret
from authapi.domain.client import Client
from authapi.domain.events import Event, EventType
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User, UserFilter, UserOrder
from authapi.storage import Database

AT = datetime(2026, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)
HASH = PasswordHash("$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAAA")
SECRET = hash_secret("a secret")


def a_user(**changes: Any) -> User:
    """Returns an active account."""
    user = User(
        id=new_id(),
        email="Alice@example.com",
        name="Alice",
        is_active=True,
        is_superuser=False,
        email_confirmed_at=None,
        created_at=AT,
        updated_at=AT,
    )
    return replace(user, **changes)


def a_session(user: User, **changes: Any) -> Session:
    """Returns a cookie session with a value in every column."""
    session = Session(
        id=new_id(),
        user_id=user.id,
        kind=SessionKind.SESSION,
        name=None,
        scopes=frozenset({"b", "a"}),
        created_at=AT,
        last_seen_at=AT,
        idle_expires_at=AT + timedelta(days=1),
        expires_at=AT + timedelta(days=7),
        auth_time=AT,
        amr=("pwd",),
        client=Client(ip="2001:db8::1", user_agent="a browser"),
        data={"theme": "dark", "n": [1, {"é": None}]},
        remembered=True,
    )
    return replace(session, **changes)


async def store_user(database: Database, user: User, *, email: str | None = None) -> User:
    """Stores `user` and returns it."""
    async with database.transaction() as store:
        await store.users.add(user, email=email or user.email.lower(), password_hash=HASH)
    return user


async def stored_users(database: Database) -> list[User]:
    """Returns all accounts, the oldest first."""
    async with database.read() as store:
        order = UserOrder.OLDEST
        return list(await store.users.search(UserFilter(), order=order, after=None, limit=1000))


async def store_login(url: str, client: Client, *, at: datetime | None = None) -> None:
    """Stores a login event of `client` at `at` (default: now) in the database `url`."""
    at = at or datetime.now(UTC)
    login = Event(
        id=UUID(int=first_id_at(at).int | new_id().int & (1 << 62) - 1),
        at=at,
        type=EventType.LOGIN,
        user_id=None,
        session_id=None,
        strategy=None,
        client=client,
        detail={},
    )
    database = Database(url)
    async with database.transaction() as store:
        await store.events.add(login)
    await database.close()


def in_background() -> bool:
    """Returns whether the outbox worker is the current task: tests do not count its statements."""
    task = asyncio.current_task()
    return task is not None and task.get_name().startswith("authapi-outbox")


def sync_url(url: str) -> sa.URL:
    """Returns `url` with a synchronous driver."""
    found = sa.make_url(url)
    drivers = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
    return found.set(drivername=drivers[found.get_backend_name()])


def sql(url: str, *statements: str) -> Sequence[Sequence[Any]]:
    """Runs statements on a separate connection, each committed; returns the rows of the last."""
    # Without SQLAlchemy: an engine for each call costs ten times the statement.
    rows: Sequence[Sequence[Any]] = []
    with closing(_connection(sync_url(url))) as connection:
        for statement in statements:
            cursor = connection.execute(statement, ())
            rows = cursor.fetchall() if cursor.description else []
    return rows


def _connection(url: sa.URL) -> Any:
    """A new connection of the driver, in autocommit mode."""
    if url.get_backend_name() == "sqlite":
        return sqlite3.connect(url.database or "", isolation_level=None)
    text = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(text, autocommit=True)


def _index(found: ReflectedIndex) -> str:
    # A condition is an object of its own in each reflection.
    options = {name: str(value) for name, value in found.get("dialect_options", {}).items()}
    return str({**found, "dialect_options": options})


def tables(url: str) -> dict[str, object]:
    """Returns the columns, keys, constraints and indexes of all tables."""
    engine = sa.create_engine(sync_url(url), poolclass=sa.NullPool)
    inspector = sa.inspect(engine)
    found: dict[str, object] = {
        name: {
            "columns": [
                (column["name"], str(column["type"]), column["nullable"], column["default"])
                for column in inspector.get_columns(name)
            ],
            "primary key": inspector.get_pk_constraint(name),
            "foreign keys": inspector.get_foreign_keys(name),
            "unique": sorted(map(str, inspector.get_unique_constraints(name))),
            "indexes": sorted(map(_index, inspector.get_indexes(name))),
            "checks": inspector.get_check_constraints(name),
        }
        for name in sorted(inspector.get_table_names())
        if name not in {"authapi_version", "alembic_version"}
    }
    engine.dispose()
    return found
