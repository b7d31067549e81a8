"""Reset of second factors by an administrator, on both databases."""

import json
from dataclasses import replace

import pytest
from pydantic import SecretStr

from authapi.clock import now
from authapi.crypto.secrets import hash_secret
from authapi.domain.events import Event, EventType
from authapi.domain.session import SessionKind
from authapi.errors import (
    InsufficientAuthentication,
    InvalidCredentials,
    InvalidGrant,
    NotFound,
    OwnAccount,
    SuperuserRequired,
)
from authapi.services.logins.complete import PendingLogin
from tests.servers.webhooks import SECRET
from tests.services.authenticators import add_authenticator, proved_password
from tests.services.operations import Harness, Person, open_harness
from tests.web.mailbox import mail_kinds


async def resets(harness: Harness, person: Person) -> list[Event]:
    found = await harness.services.audit.page(person.id, before=None, limit=100)
    return [event for event in found if event.type is EventType.FACTORS_RESET]


async def test_factors_and_logins_end_and_the_owner_is_told(harness: Harness) -> None:
    person, services = await harness.person(), harness.services
    await add_authenticator(services, person.caller)
    reset = services.accounts.administration.reset_factors
    assert await reset(person.id, actor=harness.root) is True
    factors = await services.factors.changes.overview(person.user)
    assert (factors.totp, factors.recovery_codes) == (None, None)
    user = await services.accounts.profiles.find(person.id)
    assert not user.mfa
    assert await services.sessions.list_for_user(person.id) == []
    with pytest.raises(InvalidGrant):
        await services.tokens.refresh.refresh(person.refresh)
    identify = services.sessions.identify_by_secret
    for secret in (person.cookie, person.opaque):
        kind = SessionKind.SESSION if secret == person.cookie else SessionKind.TOKEN
        assert await identify(hash_secret(secret), kind, strategy="x") is None
    assert len(await services.tokens.personal.list_of(person.id)) == 1
    [event] = await resets(harness, person)
    assert (event.actor_id, event.outcome) == (harness.root.user.id, "success")
    assert (await mail_kinds(services, person.user.email))[-1] == "factors_reset"
    # The password alone completes the next login.
    proved = await proved_password(services, person.user)
    login = await services.logins.complete(proved, strategy="token", remember=False)
    assert not isinstance(login, PendingLogin)


async def test_logins_under_way_end(harness: Harness) -> None:
    person, services = await harness.person(), harness.services
    app = await add_authenticator(services, person.caller)
    proved = await proved_password(services, person.user)
    pending = await services.logins.complete(proved, strategy="token", remember=False)
    assert isinstance(pending, PendingLogin)
    found = await services.logins.prove_second_factor(ticket=pending.ticket, code=app.code())
    await services.accounts.administration.reset_factors(person.id)
    with pytest.raises(InvalidCredentials):
        await harness.create_session(found.login, SessionKind.TOKEN, secret=hash_secret("x"))
    assert await services.sessions.list_for_user(person.id) == []


async def test_an_account_without_factors_stays_as_it_is(harness: Harness) -> None:
    person, services = await harness.person(), harness.services
    await services.factors.totp.begin(person.caller)
    logins = len(await services.sessions.list_for_user(person.id))
    assert await services.accounts.administration.reset_factors(person.id) is False
    assert len(await services.sessions.list_for_user(person.id)) == logins
    assert await resets(harness, person) == []
    assert "factors_reset" not in await mail_kinds(services, person.user.email)
    async with services.database.read() as store:
        assert await store.totp_factors.find_enrolment(person.id, now=now()) is None


async def test_rows_that_do_not_match_are_repaired(harness: Harness) -> None:
    """In one direction no login can be completed, in the other the factor is not asked for."""
    locked_out, unasked = await harness.person(), await harness.person()
    services = harness.services
    await add_authenticator(services, unasked.caller)
    async with services.database.transaction() as store:
        await store.users.lock_all({locked_out.id, unasked.id})
        await store.users.set_mfa(locked_out.id, now(), at=now())
        await store.users.set_mfa(unasked.id, None, at=now())
    for person in (locked_out, unasked):
        assert await services.accounts.administration.reset_factors(person.id) is True
        assert len(await resets(harness, person)) == 1
        async with services.database.read() as store:
            assert list(await store.totp_factors.users_out_of_step(limit=9)) in ([], [unasked.id])
    async with services.database.read() as store:
        assert await store.totp_factors.users_out_of_step(limit=9) == []
        assert await store.totp_factors.find(unasked.id) is None


async def test_who_may_reset(harness: Harness) -> None:
    person, services = await harness.person(), harness.services
    reset = services.accounts.administration.reset_factors
    with pytest.raises(OwnAccount):
        await reset(harness.root.user.id, actor=harness.root)
    with pytest.raises(SuperuserRequired):
        await reset(harness.root.user.id, actor=person.caller)
    with pytest.raises(NotFound):
        await reset(person.session_id, actor=harness.root)
    # A superuser who has a factor must have proved it.
    other = await harness.person()
    await services.accounts.administration.change(other.id, {"is_superuser": True})
    app = await add_authenticator(services, other.caller)
    weak = replace(app.caller, amr=("pwd",))
    with pytest.raises(InsufficientAuthentication):
        await reset(person.id, actor=weak)
    assert await reset(person.id, actor=app.caller) is False


async def test_other_systems_are_told(database_url: str) -> None:
    urls, secret = ("https://hooks.example/",), SecretStr(SECRET)
    async with open_harness(database_url, webhook_urls=urls, webhook_secret=secret) as harness:
        person = await harness.person()
        await add_authenticator(harness.services, person.caller)
        await harness.services.accounts.administration.reset_factors(person.id, actor=harness.root)
        async with harness.services.database.read() as store:
            rows = await store.outbox.page(after=None, limit=1000)
        [row] = [item for item in rows if (item.kind, item.purpose) == ("webhook", "factors_reset")]
        body = json.loads(harness.services.outbox.decrypt_payload(row)["body"])
        assert body["data"]["user_id"] == str(person.id)
        assert "example.com" not in str(body["data"])
