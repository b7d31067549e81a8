"""Removal of second factors, new recovery codes, and what an account has, on both databases."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from authapi.crypto.secrets import hash_secret, new_secret
from authapi.domain.events import EventType
from authapi.domain.factors.values import RecoveryCodesLeft
from authapi.domain.identity import Identity
from authapi.domain.session import SessionKind
from authapi.errors import (
    AuthAPIError,
    InsufficientAuthentication,
    InvalidCredential,
    LoginExpired,
    NotFound,
    WrongCode,
)
from authapi.services.factors.changes import AccountFactors
from authapi.services.logins.complete import PendingLogin
from tests.services.authenticators import add_authenticator, proved_password
from tests.services.operations import Harness
from tests.web.mailbox import mail_kinds

Change = Callable[[Harness, Identity], Awaitable[object]]

CHANGES: dict[str, Change] = {
    "remove": lambda harness, caller: harness.services.factors.changes.remove_totp(caller),
    "codes": lambda harness, caller: harness.services.factors.changes.new_recovery_codes(caller),
}


@pytest.fixture(params=CHANGES)
def change(request: pytest.FixtureRequest) -> Change:
    return CHANGES[request.param]


async def test_an_account_without_factors(harness: Harness) -> None:
    person = await harness.person()
    changes = harness.services.factors.changes
    await harness.services.factors.totp.begin(person.caller)
    assert await changes.overview(person.user) == AccountFactors(False, None, None)
    with pytest.raises(NotFound):
        await changes.remove_totp(person.caller)
    with pytest.raises(NotFound):
        await changes.new_recovery_codes(person.caller)
    assert "factor_removed" not in await mail_kinds(harness.services, person.user.email)


async def test_the_overview_has_the_app_and_the_codes_that_are_left(harness: Harness) -> None:
    person = await harness.person()
    app = await add_authenticator(harness.services, person.caller)
    code = app.recovery_codes[3]
    await harness.services.factors.step_up.prove(
        app.caller, recovery_code=code, new_secret_hash=None
    )
    found = await harness.services.factors.changes.overview(person.user)
    assert found.totp is not None
    assert found.totp.confirmed_at is not None
    assert found.recovery_codes == RecoveryCodesLeft(9, found.totp.confirmed_at)
    assert await harness.services.factors.changes.overview(harness.root.user) == AccountFactors(
        False, None, None
    )


async def test_a_removed_app_takes_everything_with_it(harness: Harness) -> None:
    person = await harness.person()
    app, logins = await add_authenticator(harness.services, person.caller), harness.services.logins
    proved = await proved_password(harness.services, person.user)
    pending = await logins.complete(proved, strategy="token", remember=False)
    assert isinstance(pending, PendingLogin)
    await harness.services.factors.changes.remove_totp(app.caller)
    async with harness.services.database.read() as store:
        user = await store.users.find(person.id)
        assert user is not None
        assert not user.mfa
        assert await store.recovery_codes.left(person.id) is None
        assert await store.totp_factors.find(person.id) is None
    # The login that waits for the app cannot go on, and the next one does not ask for it.
    with pytest.raises(LoginExpired):
        await logins.prove_second_factor(ticket=pending.ticket, code=app.code())
    proved = await proved_password(harness.services, person.user)
    login = await logins.complete(proved, strategy="token", remember=False)
    assert not isinstance(login, PendingLogin)
    events = await harness.services.audit.page(person.id, before=None, limit=9)
    [event] = [event for event in events if event.type is EventType.FACTOR_REMOVED]
    assert (event.detail, event.session_id) == ({"method": "totp"}, person.session_id)
    assert (await mail_kinds(harness.services, person.user.email))[-1] == "factor_removed"


async def test_removal_between_proof_and_session_begins_no_session(harness: Harness) -> None:
    person = await harness.person()
    app, logins = await add_authenticator(harness.services, person.caller), harness.services.logins
    proved = await proved_password(harness.services, person.user)
    pending = await logins.complete(proved, strategy="token", remember=False)
    assert isinstance(pending, PendingLogin)
    done = await logins.prove_second_factor(ticket=pending.ticket, code=app.code())
    await harness.services.factors.changes.remove_totp(app.caller)
    with pytest.raises(AuthAPIError):
        await harness.create_session(
            done.login, SessionKind.TOKEN, secret=hash_secret(new_secret())
        )
    sessions = await harness.services.sessions.list_for_user(person.id)
    assert [session.id for session in sessions] == [person.session_id]


async def test_removal_by_many_at_once_is_one_removal(harness: Harness) -> None:
    person = await harness.person()
    app = await add_authenticator(harness.services, person.caller)
    calls = (harness.services.factors.changes.remove_totp(app.caller) for _ in range(50))
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in found if one is not None] == [NotFound] * 49
    assert (await mail_kinds(harness.services, person.user.email)).count("factor_removed") == 1


async def test_new_codes_replace_all_old_ones(harness: Harness) -> None:
    person = await harness.person()
    app, factors = (
        await add_authenticator(harness.services, person.caller),
        harness.services.factors,
    )
    codes = await factors.changes.new_recovery_codes(app.caller)
    assert len(set(codes)) == 10
    assert not set(codes) & set(app.recovery_codes)
    for old in app.recovery_codes:
        with pytest.raises(WrongCode):
            await factors.step_up.prove(app.caller, recovery_code=old, new_secret_hash=None)
    await factors.step_up.prove(app.caller, recovery_code=codes[0].lower(), new_secret_hash=None)
    kinds = await mail_kinds(harness.services, person.user.email)
    assert kinds[-2:] == ["recovery_codes_made", "recovery_code_used"]
    events = await harness.services.audit.page(person.id, before=None, limit=30)
    details = {event.type: event.detail for event in events}
    assert details[EventType.RECOVERY_CODE_USED] == {"left": 9}
    assert details[EventType.RECOVERY_CODES_MADE] == {}


async def test_concurrent_replacements_leave_one_set(harness: Harness) -> None:
    person = await harness.person()
    app, factors = (
        await add_authenticator(harness.services, person.caller),
        harness.services.factors,
    )
    sets = await asyncio.gather(
        *(factors.changes.new_recovery_codes(app.caller) for _ in range(20))
    )
    found = await factors.changes.overview(person.user)
    assert found.recovery_codes is not None
    assert found.recovery_codes.left == 10
    valid = 0
    for codes in sets:
        try:
            await factors.step_up.prove(app.caller, recovery_code=codes[0], new_secret_hash=None)
            valid += 1
        except WrongCode:
            continue
        except InvalidCredential:  # the session was renewed by the valid code
            break
    assert valid == 1


async def test_a_caller_with_one_factor_changes_nothing(harness: Harness, change: Change) -> None:
    person = await harness.person()
    app = await add_authenticator(harness.services, person.caller)
    with pytest.raises(InsufficientAuthentication) as refused:
        await change(harness, replace(app.caller, amr=("pwd",)))
    assert (refused.value.acr, refused.value.max_age) == ("urn:authapi:acr:2", None)


async def test_an_ended_session_changes_nothing(harness: Harness, change: Change) -> None:
    person = await harness.person()
    app = await add_authenticator(harness.services, person.caller)
    await harness.services.sessions.end_all(person.id)
    with pytest.raises(InvalidCredential):
        await change(harness, app.caller)
    await harness.services.accounts.deletion.delete(person.id)
    with pytest.raises(NotFound):
        await change(harness, app.caller)
