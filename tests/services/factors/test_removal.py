"""When second factors end with a change of the account, and when they stay; on both databases."""

from dataclasses import replace
from datetime import timedelta

import pytest

from authapi.clock import now
from authapi.crypto.secrets import hash_secret, new_secret
from authapi.domain.email_address import parse_email
from authapi.domain.email_token import Purpose
from authapi.domain.events import EventType
from authapi.domain.factors.values import FactorMethod
from authapi.domain.user import User
from authapi.errors import InvalidOneTimeSecret
from authapi.services.logins.complete import PendingLogin
from authapi.testing import PASSWORD
from tests.clocks import travel_to
from tests.second_factors import insert_passkey
from tests.services.authenticators import Authenticator, add_authenticator, proved_password
from tests.services.operations import Harness, Person, new_address, open_harness
from tests.services.passkey_owners import add_passkey
from tests.soft_authenticator import SoftAuthenticator
from tests.web.mailbox import secret_in, settle

NEW = "another horse, another battery"
MINUTE = timedelta(minutes=1)


async def methods_of(harness: Harness, person: Person) -> list[FactorMethod]:
    async with harness.services.database.read() as store:
        user = await store.users.find(person.id)
        found = await harness.services.factors.proofs.methods(store, person.id)
    assert user is not None
    assert user.mfa == bool({FactorMethod.TOTP, FactorMethod.PASSKEY} & {*found})
    return list(found)


async def begin_login(harness: Harness, user: User) -> PendingLogin:
    proved = await proved_password(harness.services, user)
    pending = await harness.services.logins.complete(proved, strategy="token", remember=False)
    assert isinstance(pending, PendingLogin)
    return pending


async def tickets(harness: Harness, pending: PendingLogin) -> int:
    assert pending.ticket is not None
    async with harness.services.database.read() as store:
        found = await store.login_tickets.find_by_secret(hash_secret(pending.ticket), now=now())
    return 0 if found is None else 1


async def test_a_password_reset_leaves_the_factors_of_a_confirmed_account(
    harness: Harness,
) -> None:
    person = await harness.person()
    await add_authenticator(harness.services, person.caller)
    pending = await begin_login(harness, person.user)
    link = await harness.link(person, Purpose.RESET)
    await harness.services.accounts.passwords.reset(link, NEW)
    assert await methods_of(harness, person) == [FactorMethod.TOTP, FactorMethod.RECOVERY]
    assert await tickets(harness, pending) == 0
    assert await harness.services.sessions.list_for_user(person.id) == []


@pytest.mark.parametrize("way", ["reset", "confirm"])
async def test_an_account_that_was_never_confirmed_is_transferred_without_factors(
    database_url: str, way: str
) -> None:
    async with open_harness(database_url, mail_url="none:") as harness:
        person = await harness.person(confirmed=False)
        await add_authenticator(harness.services, person.caller)
        pending = await begin_login(harness, person.user)
        if way == "reset":
            link = await harness.link(person, Purpose.RESET)
            await harness.services.accounts.passwords.reset(link, NEW)
        else:
            link = await harness.link(person, Purpose.CONFIRM)
            await harness.services.accounts.email_changes.confirm_email(
                link, entered_email=parse_email(person.user.email)
            )
        assert await methods_of(harness, person) == []
        assert await tickets(harness, pending) == 0


@pytest.mark.parametrize("change", ["change", "set", "deactivate"])
async def test_logins_under_way_end(harness: Harness, change: str) -> None:
    person = await harness.person()
    app = await add_authenticator(harness.services, person.caller)
    pending = await begin_login(harness, person.user)
    accounts = harness.services.accounts
    if change == "change":
        await accounts.passwords.change(
            app.caller, current=PASSWORD, new=NEW, new_secret_hash=hash_secret(new_secret())
        )
    elif change == "set":
        await accounts.passwords.set(person.id, NEW)
    else:
        await accounts.administration.change(person.id, {"is_active": False})
    assert await tickets(harness, pending) == 0
    assert await methods_of(harness, person) == [FactorMethod.TOTP, FactorMethod.RECOVERY]


async def change_address(harness: Harness, person: Person, app: Authenticator | None) -> None:
    """Change the address, by the owner or by an attacker with a session."""
    caller, email = person.caller if app is None else app.caller, new_address()
    changes = harness.services.accounts.email_changes
    await changes.request_email_change(caller, email, password=PASSWORD)
    await settle(harness.services)
    link = await secret_in(harness.services, "change", email.original)
    await changes.confirm_email(link, password=PASSWORD)


async def revert(harness: Harness, old: str) -> None:
    link = await secret_in(harness.services, "email_changed", old)
    await harness.services.accounts.email_changes.revert_email_change(
        link, entered_email=parse_email(old)
    )


async def test_a_reverted_change_of_address_leaves_older_factors(harness: Harness) -> None:
    person = await harness.person()
    with travel_to(now()) as clock:
        app = await add_authenticator(harness.services, person.caller)
        clock.shift(MINUTE)
        await change_address(harness, person, app)
        await revert(harness, person.user.email)
    assert await methods_of(harness, person) == [FactorMethod.TOTP, FactorMethod.RECOVERY]


@pytest.mark.parametrize("when", ["before the confirmation", "after it"])
async def test_a_reverted_change_of_address_removes_later_factors(
    harness: Harness, when: str
) -> None:
    person, changes = await harness.person(), harness.services.accounts.email_changes
    email = new_address()
    with travel_to(now()) as clock:
        await changes.request_email_change(person.caller, email, password=PASSWORD)
        await settle(harness.services)
        link = await secret_in(harness.services, "change", email.original)
        clock.shift(MINUTE)
        if when == "before the confirmation":
            app = await add_authenticator(harness.services, person.caller)
            clock.shift(MINUTE)
            # That ends the link, but not the time of the first request.
            await changes.request_email_change(app.caller, email, password=PASSWORD)
            await settle(harness.services)
            link = await secret_in(harness.services, "change", email.original)
        await changes.confirm_email(link, password=PASSWORD)
        if when == "after it":
            clock.shift(MINUTE)
            await add_authenticator(harness.services, person.caller)
        await revert(harness, person.user.email)
    assert await methods_of(harness, person) == []
    events = await harness.services.audit.page(person.id, before=None, limit=30)
    [event] = [event for event in events if event.type is EventType.FACTOR_REMOVED]
    assert event.detail == {"because": "email_change_reverted"}


async def test_a_reverted_change_of_address_removes_later_recovery_codes(harness: Harness) -> None:
    person = await harness.person()
    with travel_to(now()) as clock:
        app = await add_authenticator(harness.services, person.caller)
        clock.shift(MINUTE)
        await change_address(harness, person, app)
        clock.shift(MINUTE)
        await harness.services.factors.changes.new_recovery_codes(app.caller)
        await revert(harness, person.user.email)
    assert await methods_of(harness, person) == [FactorMethod.TOTP]


async def test_a_change_by_an_operator_can_be_reverted_too(harness: Harness) -> None:
    person = await harness.person()
    with travel_to(now()) as clock:
        await harness.services.accounts.email_changes.change_for_operator(person.id, new_address())
        clock.shift(MINUTE)
        await add_authenticator(harness.services, person.caller)
        await revert(harness, person.user.email)
    assert await methods_of(harness, person) == []


async def test_passkeys_end_and_stay_as_apps_do(harness: Harness) -> None:
    """A reverted change of address removes the later one; a password reset leaves the older one."""
    person = await harness.person()
    with travel_to(now()) as clock:
        older, caller = await add_passkey(harness.services, person.caller, SoftAuthenticator())
        clock.shift(MINUTE)
        old = person.user.email
        await change_address(harness, replace(person, caller=caller), None)
        clock.shift(MINUTE)
        await insert_passkey(harness.services, person.user, SoftAuthenticator())
        assert FactorMethod.PASSKEY in await methods_of(harness, person)
        await revert(harness, old)
        async with harness.services.database.read() as store:
            [left] = await store.passkeys.list_for_user(person.id)
        assert left.id == older.id
        assert await methods_of(harness, person) == [FactorMethod.PASSKEY, FactorMethod.RECOVERY]
        link = await harness.link(person, Purpose.RESET)
        await harness.services.accounts.passwords.reset(link, NEW)
        assert await methods_of(harness, person) == [FactorMethod.PASSKEY, FactorMethod.RECOVERY]


async def test_a_first_passkey_ends_links_that_change_the_address(harness: Harness) -> None:
    """A login by password alone may have asked for it."""
    person = await harness.person()
    link = await harness.link(person, Purpose.CHANGE, new_address())
    await add_passkey(harness.services, person.caller, SoftAuthenticator())
    with pytest.raises(InvalidOneTimeSecret):
        await harness.services.accounts.email_changes.confirm_email(link, password=PASSWORD)


async def test_used_challenges_are_deleted_when_they_expire(harness: Harness) -> None:
    person = await harness.person()
    with travel_to(now()) as clock:
        await add_passkey(harness.services, person.caller, SoftAuthenticator())
        for minutes, left in ((4, 1), (2, 0)):
            clock.shift(minutes * MINUTE)
            await harness.services.cleanup.run_once()
            async with harness.services.database.read() as store:
                table = store.tables.used_challenges
                assert len((await store.connection.execute(table.select())).all()) == left


async def test_what_expires_unused_is_deleted(harness: Harness) -> None:
    person, other = await harness.person(), await harness.person()
    with travel_to(now()) as clock:
        await add_authenticator(harness.services, person.caller)
        pending = await begin_login(harness, person.user)
        await harness.services.factors.totp.begin(other.caller)
        clock.shift(timedelta(minutes=11))
        await harness.services.cleanup.run_once()
        clock.shift(-timedelta(minutes=11))
        assert await tickets(harness, pending) == 0
        async with harness.services.database.read() as store:
            assert await store.totp_factors.find_enrolment(other.id, now=now()) is None
    assert await methods_of(harness, person) == [FactorMethod.TOTP, FactorMethod.RECOVERY]
