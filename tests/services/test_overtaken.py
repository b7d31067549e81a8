"""Writes that depend on a session which ends between its authentication and the write."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from authapi.clock import now
from authapi.crypto.refresh_tokens import new_refresh_token
from authapi.crypto.secrets import hash_secret, new_secret
from authapi.domain.email_address import parse_email
from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User
from authapi.errors import InvalidCredential, InvalidGrant, NotFound, WrongPassword
from authapi.services import Lifetime, Services
from authapi.testing import PASSWORD
from tests.storage.rows import a_session

ALICE = parse_email("alice@example.com")
OTHER = PASSWORD[::-1]
Operation = Callable[[Services, Identity], Awaitable[object]]


def session_of(caller: Identity) -> UUID:
    assert caller.session_id is not None
    return caller.session_id


async def change_password(services: Services, caller: Identity) -> None:
    await services.accounts.passwords.change(
        caller, current=PASSWORD, new=OTHER, new_secret_hash=hash_secret(new_secret())
    )


async def change_password_elsewhere(services: Services, caller: Identity) -> None:
    await change_password(services, await log_in(services))


async def end_all_from_elsewhere(services: Services, caller: Identity) -> None:
    await services.sessions.end_others(await log_in(services))


async def log_in(services: Services) -> Identity:
    """The identity of a new cookie session, as the next request would authenticate it."""
    secret = hash_secret(new_secret())
    proved = await services.accounts.authentication.authenticate(ALICE, PASSWORD)
    login = services.logins.complete_at_once(proved)
    lifetime = Lifetime(timedelta(days=1))
    kind = SessionKind.SESSION
    await services.sessions.create(login, kind, lifetime=lifetime, secret=secret)
    found = await services.sessions.identify_by_secret(secret, kind, strategy="session")
    assert found is not None
    return found


ENDINGS: dict[str, Operation] = {
    "logout": lambda services, caller: services.sessions.logout(caller),
    "ended": lambda services, caller: services.sessions.end_own(session_of(caller), caller),
    "all others ended": end_all_from_elsewhere,
    "all ended": lambda services, caller: services.sessions.end_all(caller.user.id),
    "password changed here": change_password,
    "password changed elsewhere": change_password_elsewhere,
    "deactivated": lambda services, caller: services.accounts.administration.change(
        caller.user.id, {"is_active": False}
    ),
    "on and off": lambda services, caller: services.accounts.administration.change(
        caller.user.id, {"is_active": False}
    ),
    "password set": lambda services, caller: services.accounts.passwords.set(caller.user.id, OTHER),
}
WRITES: dict[str, Operation] = {
    "token": lambda services, caller: services.tokens.personal.create(
        caller, name="x", scopes=None, lifetime=None
    ),
    "name": lambda services, caller: services.accounts.profiles.edit(
        caller.user.id, {"name": "x"}, is_stale=lambda _: False, caller=caller
    ),
    "deletion": lambda services, caller: services.accounts.deletion.delete_own(caller),
    "password": change_password,
    "reauthentication": lambda services, caller: services.accounts.authentication.reauthenticate(
        caller, PASSWORD, new_secret_hash=None
    ),
    "address": lambda services, caller: services.accounts.email_changes.request_email_change(
        caller, parse_email("new@example.com"), password=None
    ),
    "data": lambda services, caller: services.sessions.merge_data(caller, {"a": 1}),
}
End = Callable[[Services, Identity, Session, Session], Awaitable[object]]
ENDS: dict[str, End] = {
    "one login": lambda services, caller, login, _: services.sessions.end_own(login.id, caller),
    "all other logins": lambda services, caller, *_: services.sessions.end_others(caller),
    "a token": lambda services, caller, _, token: services.tokens.personal.end_own(
        token.id, caller
    ),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("ending", ENDINGS)
async def test_no_write_for_a_session_that_has_ended(
    services_on_each: Services, ending: str, write: str
) -> None:
    services = services_on_each
    account = await services.accounts.registration.create(ALICE, PASSWORD, name="Alice")
    caller = await log_in(services)
    await ENDINGS[ending](services, caller)
    if ending == "on and off":
        await services.accounts.administration.change(account.id, {"is_active": True})
    with pytest.raises((InvalidCredential, WrongPassword)):
        await WRITES[write](services, caller)
    assert await services.tokens.personal.list_of(account.id) == []
    assert (await services.accounts.profiles.find(account.id)).name == "Alice"
    async with services.database.read() as store:
        assert await store.sessions.find_data(session_of(caller)) in (None, {})


async def another_login_and_a_token(services: Services, user: User) -> tuple[Session, Session]:
    """Inserts a login and a token directly, as some endings leave no way to create them."""
    until = now() + timedelta(days=1)
    found = [
        a_session(user, name=name, idle_expires_at=None, expires_at=until) for name in (None, "x")
    ]
    async with services.database.transaction() as store:
        for session in found:
            await store.sessions.add(session, hash_secret(new_secret()))
    return found[0], found[1]


async def remaining(services: Services, user: User) -> set[UUID]:
    logins = await services.sessions.list_for_user(user.id)
    return {session.id for session in [*logins, *await services.tokens.personal.list_of(user.id)]}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_session_that_has_ended_ends_no_other(
    services_on_each: Services, ending: str, end: str
) -> None:
    services = services_on_each
    account = await services.accounts.registration.create(ALICE, PASSWORD)
    caller = await log_in(services)
    await ENDINGS[ending](services, caller)
    login, token = await another_login_and_a_token(services, account)
    with pytest.raises(InvalidCredential):
        await ENDS[end](services, caller, login, token)
    assert {login.id, token.id} <= await remaining(services, account)


@pytest.mark.parametrize("end", ENDS)
async def test_a_live_session_can_end_others(services_on_each: Services, end: str) -> None:
    account = await services_on_each.accounts.registration.create(ALICE, PASSWORD)
    caller = await log_in(services_on_each)
    login, token = await another_login_and_a_token(services_on_each, account)
    await ENDS[end](services_on_each, caller, login, token)
    gone = token if end == "a token" else login
    kept = {session_of(caller), login.id, token.id} - {gone.id}
    assert await remaining(services_on_each, account) == kept


@pytest.mark.parametrize("write", WRITES)
async def test_a_live_session_can_write(services_on_each: Services, write: str) -> None:
    await services_on_each.accounts.registration.create(ALICE, PASSWORD)
    await WRITES[write](services_on_each, await log_in(services_on_each))


@pytest.mark.parametrize("write", ["token", "name", "deletion"])
async def test_no_write_for_a_deleted_account(services_on_each: Services, write: str) -> None:
    account = await services_on_each.accounts.registration.create(ALICE, PASSWORD)
    caller = await log_in(services_on_each)
    await services_on_each.accounts.deletion.delete(account.id)
    with pytest.raises((InvalidCredential, NotFound)):
        await WRITES[write](services_on_each, caller)


async def test_a_change_of_password_renews_the_auth_time(services_on_each: Services) -> None:
    await services_on_each.accounts.registration.create(ALICE, PASSWORD)
    caller, secret = await log_in(services_on_each), hash_secret(new_secret())
    await services_on_each.accounts.passwords.change(
        caller, current=PASSWORD, new=OTHER, new_secret_hash=secret
    )
    renewed = await services_on_each.sessions.identify_by_secret(
        secret, SessionKind.SESSION, strategy="session"
    )
    assert renewed is not None
    assert (renewed.session_id, renewed.amr) == (caller.session_id, caller.amr)
    assert renewed.auth_time > caller.auth_time


BLOCKED_BY_THIS_TRANSACTION = sa.text(
    "SELECT count(*) FROM pg_locks "
    "WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
)


async def test_a_refresh_concurrent_with_a_change_of_password_is_not_reported_as_reuse(
    services_on_each: Services,
) -> None:
    services, first = services_on_each, new_refresh_token()
    account = await services.accounts.registration.create(ALICE, PASSWORD)
    proved = await services.accounts.authentication.authenticate(ALICE, PASSWORD)
    login = services.logins.complete_at_once(proved)
    lifetime = Lifetime(timedelta(days=1))
    session = await services.sessions.create(
        login, SessionKind.JWT, lifetime=lifetime, refresh=first
    )
    async with services.database.transaction() as store:
        # Like `change_password`: the refresh has found the family, and waits for this lock.
        await store.sessions.lock(session.id)
        refreshing = asyncio.create_task(services.tokens.refresh.refresh(first.text))
        if store.connection.dialect.name == "postgresql":
            for _ in range(500):
                if await store.connection.scalar(BLOCKED_BY_THIS_TRANSACTION):
                    break
                await asyncio.sleep(0.01)
        await store.refresh_families.delete_for_user(account.id)
    with pytest.raises(InvalidGrant):
        await refreshing
    assert [found.id for found in await services.sessions.list_for_user(account.id)] == [session.id]
    events = await services.audit.page(account.id, before=None, limit=100)
    kinds = {event.type for event in events}
    assert EventType.LOGIN in kinds
    assert EventType.REFRESH_REUSE not in kinds
