"""Calls are retried after a conflict, and take effect once."""

import ast
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg.errors
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from authapi.domain.email_token import Purpose
from authapi.errors import InvalidGrant, StorageUnavailable
from authapi.storage import Database, database
from authapi.storage.database import is_conflict, retry_on_conflict
from tests.services.locks import PACKAGE
from tests.services.operations import OPERATIONS, Harness, Person, new_address, open_harness
from tests.storage.rows import sql
from tests.storage.test_driver_errors import break_commit

CONFLICTS = {
    "40P01": psycopg.errors.DeadlockDetected,
    "40001": psycopg.errors.SerializationFailure,
}
QUICK = ("log out", "refresh")
SLOW = (
    *("deactivate", "import", "create token", "reuse"),
    *("log in again", "disown", "end", "end own login", "end own token", "end others", "end all"),
    *("merge data", "rename", "delete", "invite", "resend invitation", "promote"),
    *("demote and deactivate", "end sessions", "delete by a superuser", "revoke", "leak"),
    *("revert email change", "revoke a JWT for another service", "leak a JWT for another service"),
    *("change email for an operator", "log in from a new device", "cancel a change of address"),
    *("add app", "remove app", "replace recovery codes", "step up by code"),
    *("step up by recovery code", "log in with second factor", "log in without session"),
    *("end everything", "reapply"),
    *("sign up at a provider", "link and unlink", "step up at a provider", "fetch by a code"),
    *("take over for a provider", "give an address", "want an account"),
)
"""Operations whose transactions are all retried. Their rows show how often they took effect."""


def conflict(state: str) -> sa.exc.OperationalError:
    return sa.exc.OperationalError("x", {}, CONFLICTS[state]())


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_RETRY_PAUSES", (0.0, 0.0))


@pytest.fixture
def postgres_url(emptied_postgres_url: str) -> str:
    return emptied_postgres_url


@pytest.fixture
async def harness(postgres_url: str) -> AsyncIterator[Harness]:
    async with open_harness(postgres_url) as found:
        yield found


class FailAt:
    """Raises a conflict at step `at` of the writing transactions: a statement or a commit."""

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


async def outcome(harness: Harness, name: str, failing: FailAt) -> list[Any]:
    """Runs an operation. Returns how many rows it added to each table, and the person's events."""
    person, other = await harness.person(), await harness.person()
    operation = await prepared(harness, name, person, other)
    before = row_counts(harness)
    with failing.on(harness.services.database):
        await operation()
    return [after - earlier for after, earlier in zip(row_counts(harness), before, strict=True)] + [
        events_of(harness, person)
    ]


async def prepared(
    harness: Harness, name: str, person: Person, other: Person
) -> Callable[[], Awaitable[object]]:
    """Returns an operation whose prerequisites are met, such as a mail with a link."""
    if name == "revert email change":
        old = new_address()
        link = await harness.link(person, Purpose.REVERT_EMAIL_CHANGE, old)
        return lambda: harness.services.accounts.email_changes.revert_email_change(
            link, entered_email=old
        )
    if name == "cancel a change of address":
        await harness.link(person, Purpose.CHANGE, new_address())
        changes = harness.services.accounts.email_changes
        return lambda: changes.cancel_change(person.caller)
    if name == "disown":
        link = await harness.link(person, Purpose.DISOWN, session_id=person.refreshable.id)
        return lambda: harness.services.accounts.new_devices.disown(link)
    return lambda: OPERATIONS[name](harness, person, other)


def row_counts(harness: Harness) -> list[Any]:
    tables = (
        *("users", "sessions", "refresh_families", "email_tokens", "outbox", "events"),
        *("login_tickets", "totp_factors", "recovery_codes", "identities", "used_challenges"),
    )
    counts = (f"(SELECT count(*) FROM authapi_{table})" for table in tables)
    [row] = sql(harness.services.settings.resolved_database_url, f"SELECT {', '.join(counts)}")
    return list(row)


def events_of(harness: Harness, person: Person) -> list[Any]:
    url = harness.services.settings.resolved_database_url
    query = f"SELECT type FROM authapi_events WHERE user_id = '{person.id}'"
    # Ids of one millisecond have any order.
    return sorted(row[0] for row in sql(url, query))


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
async def test_conflict_at_any_statement_or_commit_is_retried(harness: Harness, name: str) -> None:
    states = itertools.cycle(CONFLICTS)
    unfailing = FailAt(None, "")
    expected = await outcome(harness, name, unfailing)
    for at in range(unfailing.steps):
        failing = FailAt(at, next(states))
        assert await outcome(harness, name, failing) == expected, f"step {at}"
        assert failing.steps > at


def test_every_retried_call_is_covered() -> None:
    names = {
        f"{kind.name}.{call.name}"
        for module in (PACKAGE / "services").rglob("*.py")
        for kind in ast.walk(ast.parse(module.read_text()))
        if isinstance(kind, ast.ClassDef)
        for call in kind.body
        if isinstance(call, ast.AsyncFunctionDef)
        and any(
            isinstance(it, ast.Name) and it.id == "retry_on_conflict" for it in call.decorator_list
        )
    }
    assert names == {
        *("FederatedSignUp.create", "FederatedSignUp.take_over", "FederatedStepUp._use"),
        *("IdentityLinks.link", "IdentityLinks.unlink", "IdentityLinks.unlink_as_administrator"),
        *("FederatedAddresses.confirm", "LoginCodes.issue", "LoginCodes._use"),
        *("Sessions.create", "Sessions.logout", "Sessions.end", "Sessions.end_own"),
        *("Sessions.end_others", "Sessions.end_all", "Sessions.merge_data"),
        *("Profiles.edit", "Deletion.delete_own", "EmailChanges._revert"),
        *("EmailChanges.confirm_for_operator", "EmailChanges.change_for_operator"),
        "EmailChanges.cancel_change",
        *("AllSessions._record", "AllSessions._end_batch", "AllSessions._discard_batch"),
        *("EventReplay._record", "EventReplay._reapply"),
        *("Administration.invite", "Administration.resend_invitation", "Administration.change"),
        *("Administration.end_sessions", "Deletion.delete", "AccountImporter._add"),
        *("PersonalTokens.create", "PersonalTokens.end_own", "RefreshTokens.refresh"),
        *("SecretScanning._end_session", "TokenRevocation._end_session"),
        *("TokenRevocation.revoke_exchanged", "NewDevices.disown"),
        *("FactorChanges.new_recovery_codes", "FactorChanges.remove_totp"),
        *("Logins._add", "Logins.abandon", "Logins.use_up"),
        *("SecondFactorProofs._count_attempt", "SecondFactorProofs._tell_owner", "StepUp._use"),
        *("TOTPEnrolment._confirm", "TOTPEnrolment._count_attempt"),
        "TOTPEnrolment.begin",
        "Administration.reset_factors",
        "Administration.send_reset_link",
        *("AccountAccess.end_login", "AccountAccess.end_token"),
        *("Queues.retry", "Queues.retry_entry"),
        *("Queues.send_test_mail", "Queues._record_webhook_test", "Queues._record_mail_test"),
        "LoginEnrolment._begin_totp",
        "LoginEnrolment._passkey_options",
        "Logins.count_attempt",
        "Passkeys._add",
        "Passkeys.options",
        "Passkeys.remove",
        "Passkeys.rename",
    }


@pytest.mark.parametrize("state", CONFLICTS)
async def test_retries_end_after_the_third_attempt(
    harness: Harness, postgres_url: str, state: str
) -> None:
    person = await harness.person()
    commits = 0

    def count(_: sa.Connection) -> None:
        nonlocal commits
        commits += 1

    break_commit(postgres_url, state)
    try:
        event.listen(harness.services.database.engine.sync_engine, "commit", count)
        with pytest.raises(StorageUnavailable) as caught:
            await harness.services.sessions.end_all(person.id)
    finally:
        sql(postgres_url, "DROP FUNCTION fail CASCADE")
    assert is_conflict(caught.value)
    assert commits == 3
    assert await harness.services.sessions.list_for_user(person.id)


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
async def test_transaction_with_unknown_outcome_is_not_retried(
    failure: BaseException | None, runs: int
) -> None:
    done = 0

    @retry_on_conflict
    async def call() -> None:
        nonlocal done
        done += 1
        raise StorageUnavailable from failure

    with pytest.raises(StorageUnavailable):
        await call()
    assert done == runs


async def test_other_errors_are_not_retried() -> None:
    done = 0

    @retry_on_conflict
    async def call() -> None:
        nonlocal done
        done += 1
        raise InvalidGrant

    with pytest.raises(InvalidGrant):
        await call()
    assert done == 1
