"""What ends with the sessions of an account: all that a login left behind, on both databases.

Whichever way they end, nothing that was issued before gives a credential afterwards.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from authapi.clock import now
from authapi.crypto.secrets import hash_secret, new_secret
from authapi.domain.email_token import Purpose
from authapi.domain.federation.flow import FlowIntent
from authapi.domain.federation.person import Person as Federated
from authapi.errors import (
    EmailNeeded,
    InvalidCredential,
    InvalidCredentials,
    LoginExpired,
    LoginFlowInvalid,
    ProviderAnswerRefused,
)
from authapi.services.accounts.administration import AccountChanges
from authapi.services.logins.complete import PendingLogin
from authapi.services.logins.proved import Login
from authapi.services.restores import AllSessions
from authapi.testing import PASSWORD
from tests.clocks import travel_to
from tests.services.authenticators import add_authenticator, proved_password
from tests.services.federated_people import a_flow, a_person, begin_session, caller_of, complete
from tests.services.federation.harness import federation
from tests.services.operations import Harness, Person, new_address

OTHER = "correct horse battery stapler"
End = Callable[[Harness, Person], Awaitable[object]]


async def end_all(harness: Harness, _: Person) -> None:
    services = harness.services
    await AllSessions(services.database, services.audit).end()


async def end_what_is_old(harness: Harness, _: Person) -> None:
    services, before = harness.services, now() + timedelta(seconds=1)
    await AllSessions(services.database, services.audit).end(before=before, keep_tokens=True)


async def deactivate_and_activate(harness: Harness, owner: Person) -> None:
    administration = harness.services.accounts.administration
    for is_active in (False, True):
        await administration.change(owner.id, AccountChanges(is_active=is_active))


async def reset_password(harness: Harness, owner: Person) -> None:
    token = await harness.link(owner, Purpose.RESET)
    await harness.services.accounts.passwords.reset(token, OTHER)


async def link_another(harness: Harness, owner: Person) -> None:
    caller = await caller_of(harness.services, owner.user)
    if owner.user.mfa:
        caller = owner.caller
    flow = a_flow(FlowIntent.LINK, caller)
    await harness.services.federation.links.link(a_person(), flow, caller)


async def unlink_all(harness: Harness, owner: Person) -> None:
    links = harness.services.federation.links
    for linked in await links.list_of(owner.id):
        await links.unlink_as_administrator(owner.id, linked.id, actor=harness.root)


ENDS: dict[str, End] = {
    "sessions end --all": end_all,
    "sessions end --all --before": end_what_is_old,
    "sessions end --user": lambda it, owner: it.services.accounts.administration.end_sessions(
        owner.id
    ),
    "by a superuser": lambda it, owner: it.services.accounts.administration.end_sessions(
        owner.id, actor=it.root
    ),
    "by code of the application": lambda it, owner: it.services.sessions.end_all(owner.id),
    "all others by the owner": lambda it, owner: it.services.sessions.end_others(owner.caller),
    "deactivated, and activated again": deactivate_and_activate,
    "another password by an operator": lambda it, owner: it.services.accounts.passwords.set(
        owner.id, OTHER
    ),
    "another password by the owner": lambda it, owner: it.services.accounts.passwords.change(
        owner.caller, current=PASSWORD, new=OTHER, new_secret_hash=hash_secret(new_secret())
    ),
    "another password by mail": reset_password,
    "another identity is linked": link_another,
    "an identity is unlinked": unlink_all,
}


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[Harness]:
    async with federation(database_url) as found:
        yield found


async def linked_owner(harness: Harness) -> tuple[Person, Federated]:
    """An account, and the person at a provider who is linked to it."""
    owner, person = await harness.person(), a_person()
    flow = a_flow(FlowIntent.LINK, owner.caller)
    await harness.services.federation.links.link(person, flow, owner.caller)
    return owner, person


@pytest.mark.parametrize("name", ENDS)
async def test_a_code_gives_no_credential_after_an_end(harness: Harness, name: str) -> None:
    owner, person = await linked_owner(harness)
    codes, arrive = harness.services.federation.codes, harness.services.federation.arrivals.arrive
    held, redeemed = [
        await codes.issue(await arrive(person, a_flow()), strategy="token", remember=False)
        for _ in range(2)
    ]
    login = await complete(harness.services, (await codes.redeem(redeemed.text)).proved)
    assert isinstance(login, Login)
    await ENDS[name](harness, owner)
    with pytest.raises(LoginFlowInvalid):
        await codes.redeem(held.text)
    # Also in a request that had read the code before.
    with pytest.raises((LoginFlowInvalid, InvalidCredentials)):
        await begin_session(harness.services, login)


@pytest.mark.parametrize("name", ENDS)
async def test_a_login_does_not_go_on_with_its_second_factor_after_an_end(
    harness: Harness, name: str
) -> None:
    owner, _ = await linked_owner(harness)
    app = await add_authenticator(harness.services, owner.caller)
    owner = replace(owner, caller=app.caller, user=app.caller.user)
    pending = await complete(harness.services, await proved_password(harness.services, owner.user))
    assert isinstance(pending, PendingLogin)
    await ENDS[name](harness, owner)
    with pytest.raises(LoginExpired):
        await harness.services.logins.prove_second_factor(ticket=pending.ticket, code=app.code())


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("intent", [FlowIntent.LINK, FlowIntent.STEP_UP])
async def test_a_flow_changes_nothing_after_an_end(
    harness: Harness, name: str, intent: FlowIntent
) -> None:
    owner, person = await linked_owner(harness)
    async with harness.services.database.read() as store:
        row = await store.users.find_credentials(owner.id)
    assert row is not None
    other = await caller_of(harness.services, owner.user)
    flow = a_flow(intent, other, credentials_version=row.version)
    await ENDS[name](harness, owner)
    federation_ = harness.services.federation
    if intent is FlowIntent.LINK:
        with pytest.raises(InvalidCredential):
            await federation_.links.link(a_person(), flow, other)
        return
    proved = replace(person, auth_time=now())
    # The person may be linked to no account by now.
    with pytest.raises((InvalidCredential, ProviderAnswerRefused)):
        await federation_.step_up.prove(proved, flow, other, new_secret_hash=None)


@pytest.mark.parametrize("name", ["sessions end --all", "sessions end --all --before"])
async def test_a_ticket_for_an_address_ends_with_all_sessions(harness: Harness, name: str) -> None:
    owner, federation_ = await harness.person(), harness.services.federation
    with pytest.raises(EmailNeeded) as needed:
        await federation_.arrivals.arrive(a_person(), a_flow())
    code = federation_.codes.issue_for_address(needed.value)
    await ENDS[name](harness, owner)
    with pytest.raises(LoginExpired):
        await federation_.addresses.give(needed.value.ticket or "", new_address())
    with pytest.raises(LoginExpired):
        await federation_.addresses.confirm(needed.value.ticket or "", "A" * 43)
    with pytest.raises(LoginFlowInvalid):
        await federation_.codes.redeem(code.text)


async def test_what_begins_after_an_end_is_not_ended(harness: Harness) -> None:
    services, at = harness.services, now()
    owner, person = await linked_owner(harness)
    await AllSessions(services.database, services.audit).end()
    with travel_to(at + timedelta(seconds=10)):
        proved = await services.federation.arrivals.arrive(person, a_flow())
        code = await services.federation.codes.issue(proved, strategy="token", remember=False)
        with pytest.raises(EmailNeeded) as needed:
            await services.federation.arrivals.arrive(a_person(), a_flow())
        sealed = services.federation.codes.issue_for_address(needed.value)
        # It ends what is older than the restored backup.
        await AllSessions(services.database, services.audit).end(before=at)
        assert (await services.federation.codes.redeem(code.text)).proved.user.id == owner.id
        with pytest.raises(EmailNeeded):
            await services.federation.codes.redeem(sealed.text)
        ticket = needed.value.ticket or ""
        assert await services.federation.addresses.give(ticket, new_address()) is not None
