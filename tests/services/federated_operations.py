"""Operations on accounts by people at providers, for tests of lock order, races and conflicts."""

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from authapi.clock import now
from authapi.crypto.secrets import hash_secret, new_secret
from authapi.domain.email_address import parse_email, stored_email
from authapi.domain.email_token import Purpose
from authapi.domain.federation.flow import FlowIntent
from authapi.domain.user import User
from authapi.errors import EmailNeeded, InvalidOneTimeSecret, LinkRequired
from authapi.services.logins.proved import Login
from tests.services.federated_people import a_flow, a_person, begin_session, complete, log_in

if TYPE_CHECKING:
    from tests.services.operations import Harness, Person

VERIFIED = {"email_verified": True, "is_authoritative": True}


def _address() -> str:
    return f"{new_secret()[:12].lower().replace('_', 'a').replace('-', 'b')}@example.com"


async def _unconfirmed(harness: "Harness") -> User:
    """A new account without a session, which an operation that ends all sessions would end."""
    return await harness.services.accounts.registration.create(parse_email(_address()), None)


async def sign_up_and_log_in(harness: "Harness", _: "Person", __: "Person") -> None:
    """A new person signs up, and logs in again."""
    person = a_person(_address(), **VERIFIED)
    for _round in range(2):
        await log_in(harness.services, person)


async def want_an_account(harness: "Harness", one: "Person", _: "Person") -> None:
    """A person with the address of the account is refused, and its owner is told."""
    person = a_person(stored_email(one.user.email).canonical, **VERIFIED)
    with suppress(LinkRequired):
        await harness.services.federation.arrivals.arrive(person, a_flow())


async def link_log_in_and_unlink(harness: "Harness", one: "Person", _: "Person") -> None:
    links, people = harness.services.federation.links, (a_person(), a_person())
    linked = [
        await links.link(person, a_flow(FlowIntent.LINK, one.caller), one.caller)
        for person in people
    ]
    await log_in(harness.services, people[0])
    await links.unlink(one.caller, linked[0].id)
    await links.unlink_as_administrator(one.id, linked[1].id, actor=harness.root)


async def step_up_at_a_provider(harness: "Harness", one: "Person", _: "Person") -> None:
    federation, person = harness.services.federation, a_person(auth_time=now())
    await federation.links.link(person, a_flow(FlowIntent.LINK, one.caller), one.caller)
    flow = a_flow(FlowIntent.STEP_UP, one.caller)
    secret = hash_secret(new_secret())
    await federation.step_up.prove(person, flow, one.caller, new_secret_hash=secret)


async def fetch_by_code(harness: "Harness", _: "Person", __: "Person") -> None:
    federation, person = harness.services.federation, a_person(_address(), **VERIFIED)
    proved = await federation.arrivals.arrive(person, a_flow())
    code = await federation.codes.issue(proved, strategy="token", remember=False)
    redeemed = await federation.codes.redeem(code.text)
    login = await complete(harness.services, redeemed.proved)
    assert isinstance(login, Login)
    await begin_session(harness.services, login)
    needed = EmailNeeded(ticket="ticket", expires_at=now())
    with suppress(EmailNeeded):
        await federation.codes.redeem(federation.codes.issue_for_address(needed).text)


async def take_over(harness: "Harness", _: "Person", __: "Person") -> None:
    """A person takes an account over whose address was never confirmed."""
    taken = await _unconfirmed(harness)
    email = stored_email(taken.email)
    person = a_person(email.canonical, **VERIFIED)
    sign_up = harness.services.federation.arrivals._sign_up
    await sign_up.take_over(person, email, taken.id)


async def give_an_address(harness: "Harness", one: "Person", _: "Person") -> None:
    """People without an address enter one: a free one, a taken one, and one that they confirm."""
    addresses, arrivals = (
        harness.services.federation.addresses,
        harness.services.federation.arrivals,
    )

    async def ticket() -> str:
        try:
            await arrivals.arrive(a_person(), a_flow())
        except EmailNeeded as needed:
            return needed.ticket or ""
        raise AssertionError("a person without an address must be asked for one")

    await addresses.give(await ticket(), parse_email(_address()))
    with suppress(LinkRequired):
        await addresses.give(await ticket(), stored_email(one.user.email))
    unconfirmed = replace(one, user=await _unconfirmed(harness))
    with suppress(InvalidOneTimeSecret):
        token = await harness.link(unconfirmed, Purpose.CONFIRM)
        await addresses.confirm(await ticket(), token)
    deferred = harness.services.accounts.deferred_requests
    for email in (parse_email(_address()), stored_email(one.user.email)):
        await deferred.submit_provision(email, "acme", "Acme")
    await harness.handle_requests()


FEDERATED = {
    "sign up at a provider": sign_up_and_log_in,
    "want an account": want_an_account,
    "link and unlink": link_log_in_and_unlink,
    "step up at a provider": step_up_at_a_provider,
    "fetch by a code": fetch_by_code,
    "take over for a provider": take_over,
    "give an address": give_an_address,
}
