"""Linking and unlinking, their events, mails and races, on both databases."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import anyio
import pytest

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.secrets import hash_secret, new_secret
from authapi.domain.email_address import parse_email
from authapi.domain.email_token import Purpose
from authapi.domain.events import EventFilter, EventType
from authapi.domain.federation.flow import FlowIntent
from authapi.domain.federation.person import Person
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.errors import (
    IdentityTaken,
    InsufficientAuthentication,
    InvalidCredential,
    InvalidCredentials,
    LastWayIn,
    LoginExpired,
    LoginFlowInvalid,
    NotFound,
    OwnAccount,
)
from authapi.services.logins.complete import PendingLogin
from authapi.services.logins.proved import Login
from authapi.testing import PASSWORD
from tests.services.authenticators import add_authenticator, proved_password
from tests.services.federated_people import (
    a_flow,
    a_person,
    begin_session,
    caller_of,
    complete,
    log_in,
    session_ids,
)
from tests.services.federation.harness import federation
from tests.services.operations import Harness, new_address
from tests.services.passkey_owners import add_passkey
from tests.soft_authenticator import SoftAuthenticator
from tests.web.mailbox import mail_kinds

VERIFIED = {"email_verified": True, "is_authoritative": True}


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[Harness]:
    async with federation(database_url) as found:
        yield found


async def newcomer(harness: Harness) -> tuple[Person, User]:
    """A person with an account without a password."""
    person = a_person(new_address().canonical, **VERIFIED)
    session = await log_in(harness.services, person)
    async with harness.services.database.read() as store:
        user = await store.users.find(session.user_id)
    assert user is not None
    return person, user


async def link(harness: Harness, person: Person, caller: Identity) -> None:
    flow = a_flow(FlowIntent.LINK, caller)
    await harness.services.federation.links.link(person, flow, caller)


async def test_a_link_is_a_way_in_that_ends_with_its_sessions(harness: Harness) -> None:
    owner, person = await harness.person(), a_person("else@example.com")
    links = harness.services.federation.links
    flow = a_flow(FlowIntent.LINK, owner.caller)
    linked = await links.link(person, flow, owner.caller)
    assert await links.list_of(owner.id) == [linked]
    assert (linked.provider, linked.issuer, linked.subject) == (
        person.provider,
        person.issuer,
        person.subject,
    )
    session = await log_in(harness.services, person)
    assert session.user_id == owner.id
    before = await session_ids(harness.services, owner.id)
    assert session.id in before
    await links.unlink(owner.caller, linked.id)
    assert await session_ids(harness.services, owner.id) == before - {session.id}
    assert await links.list_of(owner.id) == []
    kinds = await mail_kinds(harness.services, owner.user.email)
    assert [kind for kind in kinds if kind.startswith("identity")] == [
        "identity_linked",
        "identity_unlinked",
    ]
    told = {}
    for kind in (EventType.IDENTITY_LINKED, EventType.IDENTITY_UNLINKED):
        [event] = await harness.services.audit.search(EventFilter(user_id=owner.id, type=kind))
        assert event.session_id == owner.session_id
        told[kind] = event.detail
    assert told == {
        EventType.IDENTITY_LINKED: {"provider": "acme"},
        EventType.IDENTITY_UNLINKED: {
            "provider": "acme",
            "identity_id": str(linked.id),
            "sessions": 1,
        },
    }


async def test_linking_and_unlinking_end_logins_under_way(harness: Harness) -> None:
    owner, person = await harness.person(), a_person()
    before = await proved_password(harness.services, owner.user)
    await link(harness, person, owner.caller)
    between = await proved_password(harness.services, owner.user)
    [linked] = await harness.services.federation.links.list_of(owner.id)
    await harness.services.federation.links.unlink(owner.caller, linked.id)
    after = await proved_password(harness.services, owner.user)
    versions = [proved.credentials_version for proved in (before, between, after)]
    assert versions == [owner.version, owner.version + 1, owner.version + 2]
    login = await complete(harness.services, between)
    assert isinstance(login, Login)
    with pytest.raises(InvalidCredentials):
        await begin_session(harness.services, login)


async def test_a_login_does_not_survive_that_its_identity_is_unlinked(harness: Harness) -> None:
    owner, person = await harness.person(), a_person()
    await link(harness, person, owner.caller)
    proved = await harness.services.federation.arrivals.arrive(person, a_flow())
    login = await complete(harness.services, proved)
    assert isinstance(login, Login)
    [linked] = await harness.services.federation.links.list_of(owner.id)
    await harness.services.federation.links.unlink(owner.caller, linked.id)
    with pytest.raises(InvalidCredentials):
        await begin_session(harness.services, login)


@pytest.mark.parametrize("what", ["intent", "user", "session", "provider", "old"])
async def test_a_flow_links_for_the_session_that_began_it(harness: Harness, what: str) -> None:
    owner, other = await harness.person(), await harness.person()
    flow = a_flow(FlowIntent.LINK, owner.caller)
    flow = {
        "intent": replace(flow, intent=FlowIntent.STEP_UP),
        "user": replace(flow, user_id=other.id),
        "session": replace(flow, session_id=new_id()),
        "provider": replace(flow, provider="other"),
        "old": replace(flow, expires_at=now() - timedelta(seconds=1)),
    }[what]
    with pytest.raises(LoginFlowInvalid):
        await harness.services.federation.links.link(a_person(), flow, owner.caller)
    assert await harness.services.federation.links.list_of(owner.id) == []


async def test_a_flow_links_once(harness: Harness) -> None:
    owner = await harness.person()
    flow, links = a_flow(FlowIntent.LINK, owner.caller), harness.services.federation.links
    await links.link(a_person(), flow, owner.caller)
    with pytest.raises(LoginFlowInvalid):
        await links.link(a_person(), flow, owner.caller)
    assert len(await links.list_of(owner.id)) == 1


async def test_a_session_that_has_changed_gets_nothing(harness: Harness) -> None:
    owner = await harness.person()
    flow = a_flow(FlowIntent.LINK, owner.caller)
    await harness.services.accounts.authentication.reauthenticate(
        owner.caller, PASSWORD, new_secret_hash=hash_secret(new_secret())
    )
    with pytest.raises(InvalidCredential):
        await harness.services.federation.links.link(a_person(), flow, owner.caller)
    assert await harness.services.federation.links.list_of(owner.id) == []


async def test_a_second_factor_is_asked_for(harness: Harness) -> None:
    owner, person = await harness.person(), a_person()
    await add_authenticator(harness.services, owner.caller)
    weak = await caller_of(harness.services, owner.user)
    with pytest.raises(InsufficientAuthentication):
        await link(harness, person, weak)
    with pytest.raises(InsufficientAuthentication):
        await harness.services.federation.links.unlink(weak, new_id())


async def test_an_identity_belongs_to_one_account(harness: Harness) -> None:
    one, two, person = await harness.person(), await harness.person(), a_person()
    await link(harness, person, one.caller)
    await link(harness, person, one.caller)  # again: nothing happens
    with pytest.raises(IdentityTaken):
        await link(harness, person, two.caller)
    kinds = await mail_kinds(harness.services, one.user.email)
    assert kinds.count("identity_linked") == 1
    assert await harness.services.federation.links.list_of(two.id) == []


async def test_fifty_links_of_one_identity_to_two_accounts(harness: Harness) -> None:
    one, two, person = await harness.person(), await harness.person(), a_person()
    refused: list[str] = []

    async def attempt(caller: Identity) -> None:
        try:
            await link(harness, person, caller)
        except IdentityTaken as error:
            refused.append(error.code)

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(attempt, (one if number % 2 else two).caller)
    links = harness.services.federation.links
    assert len(await links.list_of(one.id)) + len(await links.list_of(two.id)) == 1
    assert len(refused) == 25


async def test_the_last_way_in_stays(harness: Harness) -> None:
    person, user = await newcomer(harness)
    caller, links = await caller_of(harness.services, user), harness.services.federation.links
    [linked] = await links.list_of(user.id)
    with pytest.raises(LastWayIn):
        await links.unlink(caller, linked.id)
    other = a_person(provider="other", issuer="https://id.other.example")
    await links.link(other, a_flow(FlowIntent.LINK, caller, provider="other"), caller)
    await links.unlink(caller, linked.id)
    [left] = await links.list_of(user.id)
    with pytest.raises(LastWayIn):
        await links.unlink(caller, left.id)
    assert person.subject != left.subject


async def test_a_provider_that_is_gone_is_no_way_in(database_url: str) -> None:
    async with federation(database_url) as harness:
        _, user = await newcomer(harness)
        caller = await caller_of(harness.services, user)
        other = a_person(provider="other", issuer="https://id.other.example")
        flow = a_flow(FlowIntent.LINK, caller, provider="other")
        await harness.services.federation.links.link(other, flow, caller)
    only = {"acme": {"client_id": "authapi", "issuer": "https://id.acme.example"}}
    async with federation(database_url, providers=only) as harness:
        caller = await caller_of(harness.services, user)
        first, _ = await harness.services.federation.links.list_of(user.id)
        with pytest.raises(LastWayIn):
            await harness.services.federation.links.unlink(caller, first.id)


@pytest.mark.parametrize(("passkeys", "is_enough"), [("on", True), ("second_factor", False)])
async def test_a_passkey_is_a_way_in_if_it_logs_in_alone(
    database_url: str, passkeys: str, is_enough: bool
) -> None:
    async with federation(database_url, passkeys=passkeys) as harness:
        _, user = await newcomer(harness)
        caller = await caller_of(harness.services, user)
        passkey = SoftAuthenticator(origin="https://app.example.com")
        _, strong = await add_passkey(harness.services, caller, passkey)
        links = harness.services.federation.links
        [linked] = await links.list_of(user.id)
        if is_enough:
            await links.unlink(strong, linked.id)
        else:
            with pytest.raises(LastWayIn):
                await links.unlink(strong, linked.id)


async def test_of_two_ways_in_one_stays_when_both_are_removed_at_once(harness: Harness) -> None:
    _, user = await newcomer(harness)
    caller, links = await caller_of(harness.services, user), harness.services.federation.links
    await link(harness, a_person(), caller)
    ends: list[str] = []

    async def unlink(identity_id: UUID) -> None:
        try:
            await links.unlink(caller, identity_id)
            ends.append("unlinked")
        except LastWayIn as error:
            ends.append(error.code)

    async with anyio.create_task_group() as group:
        for linked in await links.list_of(user.id):
            group.start_soon(unlink, linked.id)
    assert sorted(ends) == ["last_way_in", "unlinked"]


async def test_an_administrator_unlinks_also_the_last_way_in(harness: Harness) -> None:
    _, user = await newcomer(harness)
    links = harness.services.federation.links
    [linked] = await links.list_as_administrator(user.id)
    other = await harness.person()
    with pytest.raises(NotFound):
        await links.unlink_as_administrator(other.id, linked.id, actor=harness.root)
    await links.unlink_as_administrator(user.id, linked.id, actor=harness.root)
    assert await session_ids(harness.services, user.id) == set()
    wanted = EventFilter(user_id=user.id, type=EventType.IDENTITY_UNLINKED)
    [event] = await harness.services.audit.search(wanted)
    assert event.actor_id == harness.root.user.id
    assert "identity_unlinked" in await mail_kinds(harness.services, user.email)
    with pytest.raises(OwnAccount):
        await links.unlink_as_administrator(harness.root.user.id, linked.id, actor=harness.root)
    with pytest.raises(NotFound):
        await links.list_as_administrator(new_id())


async def test_an_identity_of_another_account_is_not_found(harness: Harness) -> None:
    one, two = await harness.person(), await harness.person()
    await link(harness, a_person(), one.caller)
    [linked] = await harness.services.federation.links.list_of(one.id)
    with pytest.raises(NotFound):
        await harness.services.federation.links.unlink(two.caller, linked.id)


async def test_a_ticket_ends_when_an_identity_is_unlinked(harness: Harness) -> None:
    owner, person = await harness.person(), a_person()
    await link(harness, person, owner.caller)
    app = await add_authenticator(harness.services, owner.caller)
    proved = await harness.services.federation.arrivals.arrive(person, a_flow())
    pending = await complete(harness.services, proved)
    assert isinstance(pending, PendingLogin)
    [linked] = await harness.services.federation.links.list_of(owner.id)
    await harness.services.federation.links.unlink(app.caller, linked.id)
    with pytest.raises(LoginExpired):
        await harness.services.logins.prove_second_factor(ticket=pending.ticket, code=app.code())


async def test_the_owner_of_the_mailbox_gets_an_unconfirmed_account_without_links(
    harness: Harness,
) -> None:
    victim = new_address()
    person = a_person(victim.canonical)  # whose address the provider does not prove
    session = await log_in(harness.services, person)
    async with harness.services.database.transaction() as store:
        row = await store.users.lock(session.user_id)
        assert row is not None
        tokens = harness.services.accounts.email_changes._email_tokens
        token = await tokens.issue(store, row.user, Purpose.CONFIRM)
    await harness.services.accounts.email_changes.confirm_email(
        token.text, entered_email=parse_email(victim.canonical)
    )
    assert await harness.services.federation.links.list_of(session.user_id) == []
    assert await session_ids(harness.services, session.user_id) == set()


async def test_deleting_an_account_frees_its_identities(harness: Harness) -> None:
    person, user = await newcomer(harness)
    await harness.services.accounts.administration.delete(user.id)
    again = await log_in(harness.services, person)
    assert again.user_id != user.id
