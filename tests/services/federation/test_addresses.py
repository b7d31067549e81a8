"""Logins that wait for an address, on both databases."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
import time_machine

from authapi.clock import now
from authapi.domain.email_address import parse_email
from authapi.domain.email_token import Purpose
from authapi.domain.federation.flow import Flow
from authapi.domain.federation.person import Person
from authapi.errors import (
    EmailNeeded,
    InvalidOneTimeSecret,
    LinkRequired,
    LoginExpired,
    LoginFlowInvalid,
    RegistrationClosed,
)
from authapi.services.federation.addresses import ContinuedLogin
from authapi.services.logins.proved import Login
from tests.services.federated_people import a_flow, a_person, begin_session, complete, log_in
from tests.services.federation.harness import federation
from tests.services.operations import Harness, new_address
from tests.web.mailbox import mail_kinds, sent_mail


@pytest.fixture
async def opened(database_url: str) -> AsyncIterator[Harness]:
    async with federation(database_url) as found:
        yield found


@pytest.fixture
async def confirming(database_url: str) -> AsyncIterator[Harness]:
    async with federation(database_url, registration="confirm") as found:
        yield found


async def ticket_of(harness: Harness, person: Person, flow: Flow | None = None) -> str:
    with pytest.raises(EmailNeeded) as needed:
        await harness.services.federation.arrivals.arrive(person, flow or a_flow())
    assert needed.value.ticket is not None
    assert needed.value.expires_at > now() + timedelta(minutes=59)
    return needed.value.ticket


async def begin(harness: Harness, continued: ContinuedLogin | None) -> Login:
    assert continued is not None
    login = await complete(harness.services, continued.proved)
    assert isinstance(login, Login)
    await begin_session(harness.services, login)
    return login


async def test_open_registration_creates_the_account_at_once(opened: Harness) -> None:
    person, email = a_person(), new_address()
    ticket = await ticket_of(opened, person, a_flow(remember=True, continue_to="/next"))
    addresses = opened.services.federation.addresses
    continued = await addresses.give(ticket, email)
    assert continued is not None
    assert (continued.strategy, continued.remember, continued.continue_to) == (
        "token",
        True,
        "/next",
    )
    login = await begin(opened, continued)
    assert (login.user.email, login.user.email_confirmed_at) == (email.original, None)
    assert await mail_kinds(opened.services, email.canonical) == ["confirm"]
    assert (await log_in(opened.services, person)).user_id == login.user.id
    with pytest.raises(LoginExpired):
        await addresses.give(ticket, new_address())
    with pytest.raises(LoginFlowInvalid):
        await begin(opened, continued)


async def test_two_people_without_an_address_are_two_people(opened: Harness) -> None:
    addresses, users = opened.services.federation.addresses, set()
    for _ in range(2):
        ticket = await ticket_of(opened, a_person())
        users.add((await begin(opened, await addresses.give(ticket, new_address()))).user.id)
    assert len(users) == 2


async def test_a_taken_address_has_to_be_proved_first(opened: Harness) -> None:
    owner, ticket = await opened.person(), await ticket_of(opened, a_person())
    with pytest.raises(LinkRequired):
        await opened.services.federation.addresses.give(ticket, parse_email(owner.user.email))
    assert (await mail_kinds(opened.services, owner.user.email))[-1] == "identity_wanted"


async def test_mail_and_identity_together_make_the_account(confirming: Harness) -> None:
    person, email = a_person(), new_address()
    ticket = await ticket_of(confirming, person)
    addresses = confirming.services.federation.addresses
    assert await addresses.give(ticket, email) is None
    [mail] = await sent_mail(confirming.services, email.canonical)
    assert (mail.kind, mail.secret is not None) == ("confirm", True)
    # Until the mail is read, there is no login.
    await ticket_of(confirming, person)
    login = await begin(confirming, await addresses.confirm(ticket, mail.secret or ""))
    assert login.user.email_confirmed_at is not None
    assert login.user.name == "Ada Lovelace"
    assert (await log_in(confirming.services, person)).user_id == login.user.id
    with pytest.raises(InvalidOneTimeSecret):
        await addresses.confirm(ticket, mail.secret or "")


async def test_the_mail_alone_does_not_link_a_stranger(confirming: Harness) -> None:
    stranger, victim = a_person(), new_address()
    ticket = await ticket_of(confirming, stranger)
    await confirming.services.federation.addresses.give(ticket, victim)
    [mail] = await sent_mail(confirming.services, victim.canonical)
    await confirming.services.accounts.email_changes.confirm_email(
        mail.secret or "", entered_email=victim
    )
    await ticket_of(confirming, stranger)  # still no account
    with pytest.raises(InvalidOneTimeSecret):
        await confirming.services.federation.addresses.confirm(ticket, mail.secret or "")


async def test_a_registration_of_another_person_is_taken_over(confirming: Harness) -> None:
    squatter = await confirming.person(confirmed=False)
    ticket = await ticket_of(confirming, a_person())
    addresses, email = confirming.services.federation.addresses, parse_email(squatter.user.email)
    assert await addresses.give(ticket, email) is None
    mail = (await sent_mail(confirming.services, email.canonical))[-1]
    assert mail.kind == "confirm"
    login = await begin(confirming, await addresses.confirm(ticket, mail.secret or ""))
    assert login.user.id == squatter.id
    async with confirming.services.database.read() as store:
        row = await store.users.find_credentials(squatter.id)
        assert await store.sessions.find_owner_by_id(squatter.session_id) is None
    assert row is not None
    assert row.password_hash is None


async def test_a_confirmed_address_is_told_and_not_linked(confirming: Harness) -> None:
    owner, ticket = await confirming.person(), await ticket_of(confirming, a_person())
    addresses = confirming.services.federation.addresses
    assert await addresses.give(ticket, parse_email(owner.user.email)) is None
    assert (await mail_kinds(confirming.services, owner.user.email))[-1] == "identity_wanted"
    token = await confirming.link(owner, Purpose.CONFIRM)
    with pytest.raises(LinkRequired):
        await addresses.confirm(ticket, token)


async def test_a_ticket_works_for_an_hour_and_cannot_be_made(opened: Harness) -> None:
    at, addresses = now(), opened.services.federation.addresses
    with time_machine.travel(at, tick=False):
        ticket = await ticket_of(opened, a_person())
    for text in ("", "x", "A" * 60, ticket[:-4] + "AAAA", "A" * 9000):
        with pytest.raises(LoginExpired):
            await addresses.give(text, new_address())
    with time_machine.travel(at + timedelta(hours=1), tick=False), pytest.raises(LoginExpired):
        await addresses.give(ticket, new_address())


async def test_a_ticket_has_no_claims_that_a_cookie_cannot_hold(opened: Harness) -> None:
    claims = {f"claim {number}": f"{number * 7919**9:x}" for number in range(400)}
    person = a_person("x" * 200 + "@", name="é" * 300, claims=claims)
    assert len(await ticket_of(opened, replace(person, issuer="i" * 255))) < 3800


async def test_a_ticket_does_not_outlive_the_registration(database_url: str) -> None:
    async with federation(database_url) as harness:
        ticket = await ticket_of(harness, a_person())
    async with federation(database_url, registration="closed") as harness:
        with pytest.raises(RegistrationClosed):
            await harness.services.federation.addresses.give(ticket, new_address())
