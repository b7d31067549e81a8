"""Calls are run again when their transaction lost a conflict, and then have happened once."""

import ast
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg.errors
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from authapi.errors import InvalidGrant, StorageUnavailable
from authapi.storage import Database, conflicts
from authapi.storage.conflicts import is_conflict, retried
from authapi.storage.tables.one_time_secrets import Purpose
from tests.services.deeds import DEEDS, House, Person, fresh_address, house_at
from tests.services.locks import PACKAGE
from tests.storage.rows import sql
from tests.storage.test_faults import break_commit

CONFLICTS = {
    "40P01": psycopg.errors.DeadlockDetected,
    "40001": psycopg.errors.SerializationFailure,
}
QUICK = ("log out", "refresh")
SLOW = (
    *("deactivate", "import", "create token", "reuse"),
    *("log in again", "end", "end own login", "end own token", "end others", "end all"),
    *("merge data", "rename", "delete", "invite", "invite again", "promote"),
    *("demote and deactivate", "end sessions", "delete by a superuser", "revoke", "leak"),
    *("undo", "revoke a JWT for another service", "leak a JWT for another service"),
)
"""Deeds whose transactions are all run again. What they write down says how often they happened."""


def conflict(state: str) -> sa.exc.OperationalError:
    return sa.exc.OperationalError("x", {}, CONFLICTS[state]())


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conflicts, "_PAUSES", (0.0, 0.0))


@pytest.fixture
def postgres_url(emptied_postgres_url: str) -> str:
    return emptied_postgres_url


@pytest.fixture
async def house(postgres_url: str) -> AsyncIterator[House]:
    async with house_at(postgres_url) as found:
        yield found


class Failing:
    """Raises at the step `at` of those of writing transactions: a statement, or a commit."""

    def __init__(self, at: int | None, state: str) -> None:
        self.steps = 0
        self._at = at
        self._state = state

    def step(self, connection: sa.Connection, *_: Any) -> None:
        if connection.get_execution_options().get("authapi_write"):
            self.steps += 1
            if self.steps - 1 == self._at:
                raise conflict(self._state)

    @contextmanager
    def on(self, database: Database) -> Iterator[None]:
        engine = database.engine.sync_engine
        for name in ("before_cursor_execute", "commit"):
            event.listen(engine, name, self.step)
        yield
        for name in ("before_cursor_execute", "commit"):
            event.remove(engine, name, self.step)


async def outcome(house: House, name: str, failing: Failing) -> list[Any]:
    """What a deed leaves behind, of everybody and of the person."""
    person, other = await house.person(), await house.person()
    deed = await prepared(house, name, person, other)
    before = everything(house)
    with failing.on(house.services.database):
        await deed()
    return [after - earlier for after, earlier in zip(everything(house), before, strict=True)] + [
        of(house, person)
    ]


async def prepared(
    house: House, name: str, person: Person, other: Person
) -> Callable[[], Awaitable[object]]:
    """A deed for which everything is there: the mail with the link was sent before."""
    if name == "undo":
        old = fresh_address()
        link = await house.link(person, Purpose.UNDO, old)
        return lambda: house.services.emails.undo(link, typed=old)
    return lambda: DEEDS[name](house, person, other)


def everything(house: House) -> list[int]:
    tables = ("users", "sessions", "refresh_families", "one_time_secrets", "outbox", "events")
    url = house.services.settings.resolved_database_url
    return [int(sql(url, f"SELECT count(*) FROM {table}")[0][0]) for table in tables]


def of(house: House, person: Person) -> list[Any]:
    url = house.services.settings.resolved_database_url
    query = f"SELECT type FROM events WHERE user_id = '{person.id}' ORDER BY id"
    return [row[0] for row in sql(url, query)]


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
async def test_a_conflict_at_any_statement_or_commit_is_not_noticed(
    house: House, name: str
) -> None:
    states = itertools.cycle(CONFLICTS)
    undisturbed = Failing(None, "")
    expected = await outcome(house, name, undisturbed)
    for at in range(undisturbed.steps):
        failing = Failing(at, next(states))
        assert await outcome(house, name, failing) == expected, f"step {at}"
        assert failing.steps > at


def test_every_call_that_is_retried_is_tried_here() -> None:
    names = {
        f"{kind.name}.{call.name}"
        for module in (PACKAGE / "services").rglob("*.py")
        for kind in ast.walk(ast.parse(module.read_text()))
        if isinstance(kind, ast.ClassDef)
        for call in kind.body
        if isinstance(call, ast.AsyncFunctionDef)
        and any(isinstance(it, ast.Name) and it.id == "retried" for it in call.decorator_list)
    }
    assert names == {
        *("Sessions.begin", "Sessions.logout", "Sessions.end", "Sessions.end_own"),
        *("Sessions.end_others", "Sessions.end_all", "Sessions.merge_data"),
        *("Accounts.edit", "Accounts.set_active", "Accounts.delete", "Emails._undo"),
        *("Administration.invite", "Administration.invite_again", "Administration.change"),
        *("Administration.end_sessions", "Administration.delete", "Importing._add"),
        *("Tokens.create", "Tokens.end_own", "RefreshTokens.exchange"),
        *("Leaks._end", "TokenStates._end"),
        *("Leaks._end_exchanged", "TokenStates._end_exchanged"),
    }


@pytest.mark.parametrize("state", CONFLICTS)
async def test_it_is_given_up_after_the_third_time(
    house: House, postgres_url: str, state: str
) -> None:
    person = await house.person()
    commits = 0

    def count(_: sa.Connection) -> None:
        nonlocal commits
        commits += 1

    break_commit(postgres_url, state)
    try:
        event.listen(house.services.database.engine.sync_engine, "commit", count)
        with pytest.raises(StorageUnavailable) as caught:
            await house.services.sessions.end_all(person.id)
    finally:
        sql(postgres_url, "DROP FUNCTION fail CASCADE")
    assert is_conflict(caught.value)
    assert commits == 3
    assert await house.services.sessions.list_of(person.id)


@pytest.mark.parametrize(
    ("failure", "runs"),
    [(None, 1), (conflict("40P01"), 3), (conflict("40001"), 3)]
    + [
        (sa.exc.OperationalError("x", {}, kind()), 1)
        for kind in (
            psycopg.errors.AdminShutdown,
            psycopg.errors.LockNotAvailable,
            psycopg.errors.StatementCompletionUnknown,
            psycopg.errors.QueryCanceled,
        )
    ]
    + [(TimeoutError(), 1)],
    ids=lambda it: type(getattr(it, "orig", it)).__name__ if not isinstance(it, int) else str(it),
)
async def test_only_a_transaction_that_is_known_to_be_undone_is_run_again(
    failure: BaseException | None, runs: int
) -> None:
    done = 0

    @retried
    async def call() -> None:
        nonlocal done
        done += 1
        raise StorageUnavailable from failure

    with pytest.raises(StorageUnavailable):
        await call()
    assert done == runs


async def test_a_refusal_is_no_reason_to_try_again() -> None:
    done = 0

    @retried
    async def call() -> None:
        nonlocal done
        done += 1
        raise InvalidGrant

    with pytest.raises(InvalidGrant):
        await call()
    assert done == 1
