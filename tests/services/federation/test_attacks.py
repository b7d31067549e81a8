"""Attacks on accounts by people at providers, and races with other ways in, on both databases."""

import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import anyio
import pyotp
import pytest

from authapi.clock import now
from authapi.domain.email_address import parse_email
from authapi.domain.email_token import Purpose
from authapi.domain.events import EventFilter, EventType
from authapi.domain.factors.values import TicketPurpose
from authapi.domain.federation.flow import Flow, FlowIntent
from authapi.domain.federation.person import Person
from authapi.errors import (
    EmailNeeded,
    EmailTaken,
    InvalidCredential,
    InvalidCredentials,
    LastWayIn,
    LinkRequired,
    LoginExpired,
    LoginFlowInvalid,
    ProviderAnswerRefused,
    TooManyAttempts,
    Unavailable,
)
from authapi.services.accounts.administration import AccountChanges
from authapi.services.federation.owners import owner_of
from authapi.services.hooks import Hooks
from authapi.services.logins.complete import PendingLogin
from authapi.services.logins.proved import Login
from authapi.services.restores import AllSessions
from authapi.testing import PASSWORD
from tests.clocks import travel_to
from tests.services.authenticators import add_authenticator
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
from tests.services.operations import Harness, login_enrolment, new_address
from tests.services.operations import Person as Account
from tests.services.passkey_owners import add_passkey
from tests.soft_authenticator import SoftAuthenticator
from tests.web.mailbox import mail_kinds, secret_in

VERIFIED = {"email_verified": True, "is_authoritative": True}
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[Harness]:
    async with federation(database_url) as found:
        yield found


@pytest.fixture
async def verifying(database_url: str) -> AsyncIterator[Harness]:
    async with federation(database_url, federation_linking="verified") as found:
        yield found


async def ticket_of(harness: Harness, person: Person, flow: Flow | None = None) -> EmailNeeded:
    with pytest.raises(EmailNeeded) as needed:
        await harness.services.federation.arrivals.arrive(person, flow or a_flow())
    return needed.value


async def linked_to(harness: Harness, person: Person) -> object:
    async with harness.services.database.read() as store:
        found = await store.identities.find(person.issuer, person.subject)
    return None if found is None else found.user_id


# Addresses


@pytest.mark.parametrize("spelling", ["{0}@EXAMPLE.com", "{1}@example.COM"])
async def test_an_address_in_other_letters_is_the_same_address(
    verifying: Harness, spelling: str
) -> None:
    owner = await verifying.person()
    local = owner.user.email.partition("@")[0]
    person = a_person(spelling.format(local, local.upper()), **VERIFIED)
    session = await log_in(verifying.services, person)
    assert session.user_id == owner.id


@pytest.mark.parametrize(
    "spelling",
    [
        *("{0}@ex\u00adample.com", "{0}@example.com.", "{0}@ｅxample.com", "\u0131{0}@example.com"),
        *(" {0}@example.com", "<{0}@example.com>", "{0}@example.com\n", "{0}@example。com"),
        *('"{0}"@example.com', "{0}@@example.com", "a@evil.example,{0}@example.com"),
    ],
)
async def test_text_that_looks_like_the_address_of_an_account_is_not_that_address(
    verifying: Harness, spelling: str
) -> None:
    owner = await verifying.person()
    person = a_person(spelling.format(owner.user.email.partition("@")[0]), **VERIFIED)
    try:
        session = await log_in(verifying.services, person)
    except EmailNeeded:
        assert await linked_to(verifying, person) is None
    else:
        assert session.user_id != owner.id


async def test_an_address_that_another_account_asks_for_stays_free(verifying: Harness) -> None:
    """The attacker waits for the owner of an address with a change of address under way."""
    attacker, victim = await verifying.person(), new_address()
    changes = verifying.services.accounts.email_changes
    await changes.request_email_change(attacker.caller, victim, password=PASSWORD)
    await verifying.handle_requests()
    link = await verifying.link(attacker, Purpose.CHANGE, victim)
    session = await log_in(verifying.services, a_person(victim.canonical, **VERIFIED))
    assert session.user_id != attacker.id
    with pytest.raises(EmailTaken):
        await changes.confirm_email(link, password=PASSWORD)


async def test_a_reverted_change_of_address_unlinks_what_was_linked_since(
    verifying: Harness,
) -> None:
    """A thief of a session moves the account to an address of their own, and links themselves."""
    owner, mine, his = await verifying.person(), a_person(), new_address()
    links = verifying.services.federation.links
    await links.link(mine, a_flow(FlowIntent.LINK, owner.caller), owner.caller)
    changes = verifying.services.accounts.email_changes
    early, late = a_person(), a_person(his.canonical, **VERIFIED)
    with travel_to(now() + MINUTE):
        await changes.request_email_change(owner.caller, his, password=PASSWORD)
        await verifying.handle_requests()
    with travel_to(now() + 2 * MINUTE):
        await links.link(early, a_flow(FlowIntent.LINK, owner.caller), owner.caller)
    with travel_to(now() + 3 * MINUTE):
        link = await verifying.link(owner, Purpose.CHANGE, his)
        await changes.confirm_email(link, password=PASSWORD)
        # The account has the address of the thief now.
        assert (await log_in(verifying.services, late)).user_id == owner.id
        # In the meantime, no other person gets an account with the address of the owner.
        with pytest.raises(LinkRequired):
            await log_in(verifying.services, a_person(owner.user.email, **VERIFIED))
    with travel_to(now() + 4 * MINUTE):
        secret = await secret_in(verifying.services, "email_changed", owner.user.email)
        await changes.revert_email_change(secret, entered_email=parse_email(owner.user.email))
        assert await session_ids(verifying.services, owner.id) == set()
        assert await linked_to(verifying, mine) == owner.id
        assert await linked_to(verifying, early) is None
        assert await linked_to(verifying, late) is None
    wanted = EventFilter(user_id=owner.id, type=EventType.IDENTITY_UNLINKED)
    [event] = await verifying.services.audit.search(wanted)
    assert event.detail == {"because": "email_change_reverted"}


async def test_every_question_about_an_address_counts(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With open registration, the answer tells whether the address has an account."""
    owner = await harness.person()
    email = parse_email(owner.user.email)
    ticket = (await ticket_of(harness, a_person())).ticket or ""

    async def refuse(_: object) -> None:
        raise TooManyAttempts(retry_after=60)

    monkeypatch.setattr(harness.services.rate_limits, "consume_registration", refuse)
    for address in (email, new_address()):
        with pytest.raises(TooManyAttempts):
            await harness.services.federation.addresses.give(ticket, address)
        with pytest.raises(TooManyAttempts):
            await harness.services.federation.arrivals.arrive(a_person(address.canonical), a_flow())
    # Who owns the address learns nothing new.
    with pytest.raises(LinkRequired):
        await harness.services.federation.arrivals.arrive(
            a_person(email.canonical, **VERIFIED), a_flow()
        )


async def test_a_deactivated_account_stays_so(verifying: Harness) -> None:
    owner, person = await verifying.person(), a_person(auth_time=now())
    links = verifying.services.federation
    await links.links.link(person, a_flow(FlowIntent.LINK, owner.caller), owner.caller)
    proved = await links.arrivals.arrive(person, a_flow())
    code = await links.codes.issue(proved, strategy="token", remember=False)
    again = await links.arrivals.arrive(person, a_flow())
    administration = verifying.services.accounts.administration
    await administration.change(owner.id, AccountChanges(is_active=False))
    with pytest.raises(LoginFlowInvalid):
        await links.codes.redeem(code.text)
    login = await complete(verifying.services, again)
    assert isinstance(login, Login)
    with pytest.raises(InvalidCredentials):
        await begin_session(verifying.services, login)
    for other in (person, a_person(owner.user.email, **VERIFIED)):
        with pytest.raises(InvalidCredentials):
            await links.arrivals.arrive(other, a_flow())
    async with verifying.services.database.read() as store:
        user = await store.users.find(owner.id)
    assert user is not None
    assert not user.is_active


# Second factors


async def test_a_person_who_is_only_being_linked_proves_no_second_factor(
    verifying: Harness,
) -> None:
    owner = await verifying.person()
    app = await add_authenticator(verifying.services, owner.caller)
    person = a_person(owner.user.email, **VERIFIED, auth_time=now(), has_proved_mfa=True)
    proved = await verifying.services.federation.arrivals.arrive(person, a_flow())
    assert (proved.amr, proved.mfa_at) == (("fed",), None)
    code = await verifying.services.federation.codes.issue(proved, strategy="token", remember=False)
    redeemed = await verifying.services.federation.codes.redeem(code.text)
    pending = await complete(verifying.services, redeemed.proved)
    assert isinstance(pending, PendingLogin)
    assert await linked_to(verifying, person) is None
    await verifying.services.logins.prove_second_factor(ticket=pending.ticket, code=app.code())
    # The proof alone links nothing: only the session that it leads to.
    assert await linked_to(verifying, person) is None


async def test_a_second_factor_at_the_provider_is_not_from_the_future(harness: Harness) -> None:
    owner, ahead = await harness.person(), now() + timedelta(days=365)
    person = a_person(auth_time=ahead, has_proved_mfa=True)
    links = harness.services.federation
    await links.links.link(person, a_flow(FlowIntent.LINK, owner.caller), owner.caller)
    proved = await links.arrivals.arrive(person, a_flow())
    assert proved.amr == ("fed",)
    assert proved.auth_time <= now()
    flow = a_flow(FlowIntent.STEP_UP, owner.caller)
    with pytest.raises(ProviderAnswerRefused):
        await links.step_up.prove(person, flow, owner.caller, new_secret_hash=None)
    nearly = replace(person, auth_time=now() + timedelta(seconds=30))
    await links.step_up.prove(nearly, flow, owner.caller, new_secret_hash=None)


async def test_a_second_factor_at_the_provider_grows_old_in_a_ticket(harness: Harness) -> None:
    start = now()
    at = start - timedelta(hours=11, minutes=30)
    give = harness.services.federation.addresses.give
    for minutes, amr in ((20, ("fed", "mfa")), (40, ("fed",))):
        with travel_to(start):
            needed = await ticket_of(harness, a_person(auth_time=at, has_proved_mfa=True))
        with travel_to(start + minutes * MINUTE):
            continued = await give(needed.ticket or "", new_address())
            assert continued is not None
            assert continued.proved.amr == amr


@pytest.mark.parametrize("is_linked", [True, False])
async def test_a_login_at_a_provider_adds_the_factor_that_the_account_must_have(
    database_url: str, is_linked: bool
) -> None:
    async with federation(
        database_url, federation_linking="verified", mfa_required_superusers=True
    ) as harness:
        owner = await harness.person()
        person = a_person(owner.user.email, **VERIFIED, auth_time=now(), has_proved_mfa=True)
        if is_linked:
            await harness.services.federation.links.link(
                person, a_flow(FlowIntent.LINK, owner.caller), owner.caller
            )
        await harness.services.accounts.administration.change(
            owner.id, AccountChanges(is_superuser=True)
        )
        proved = await harness.services.federation.arrivals.arrive(person, a_flow())
        login = await complete(harness.services, proved)
        if is_linked:
            # The owner trusts the provider, and it has asked for a second factor.
            assert isinstance(login, Login)
            assert login.amr == ("fed", "mfa")
            return
        assert isinstance(login, PendingLogin)
        assert login.purpose is TicketPurpose.ENROL
        _, enrolment = login_enrolment(harness.services)
        begun = await enrolment.begin_totp(ticket=login.ticket)
        code = pyotp.TOTP(begun.secret).now()
        done, _ = await enrolment.confirm_totp(code, ticket=login.ticket)
        assert await linked_to(harness, person) is None
        session = await begin_session(harness.services, done.login)
        assert session.amr == ("fed", "otp", "mfa")
        assert await linked_to(harness, person) == owner.id
        [linked] = await harness.services.federation.links.list_of(owner.id)
        await harness.services.federation.links.unlink_as_administrator(
            owner.id, linked.id, actor=None
        )
        assert session.id not in await session_ids(harness.services, owner.id)


# Tickets and codes


async def test_all_tickets_of_a_flow_end_together(harness: Harness) -> None:
    """The use of one is remembered until it ends: another one must not outlive that."""
    person, flow = a_person(), a_flow()
    first = await ticket_of(harness, person, flow)
    with travel_to(now() + 9 * MINUTE):
        second = await ticket_of(harness, person, flow)
    assert first.expires_at == second.expires_at
    give = harness.services.federation.addresses.give
    continued = await give(first.ticket or "", new_address())
    assert continued is not None
    login = await complete(harness.services, continued.proved)
    assert isinstance(login, Login)
    await begin_session(harness.services, login)
    with pytest.raises(LoginFlowInvalid):
        await begin_session(harness.services, login)
    for ticket in (first.ticket, second.ticket):
        with pytest.raises(LoginExpired):
            await give(ticket or "", new_address())


async def test_a_ticket_does_not_log_in_to_an_account_that_is_linked_by_now(
    harness: Harness,
) -> None:
    """The sessions of the account may have ended since the person was at the provider."""
    owner, person = await harness.person(), a_person()
    ticket = (await ticket_of(harness, person)).ticket or ""
    await harness.services.federation.links.link(
        person, a_flow(FlowIntent.LINK, owner.caller), owner.caller
    )
    with pytest.raises(LoginExpired):
        await harness.services.federation.addresses.give(ticket, new_address())


async def test_a_ticket_of_a_person_is_no_code_and_a_code_no_ticket(harness: Harness) -> None:
    ticket = (await ticket_of(harness, a_person())).ticket or ""
    with pytest.raises(LoginFlowInvalid):
        await harness.services.federation.codes.redeem(ticket)
    proved = await harness.services.federation.arrivals.arrive(
        a_person(new_address().canonical, **VERIFIED), a_flow()
    )
    code = await harness.services.federation.codes.issue(proved, strategy="jwt", remember=False)
    with pytest.raises(LoginExpired):
        await harness.services.federation.addresses.give(code.text, new_address())


async def test_long_texts_of_a_provider_fit_into_tickets_and_codes(harness: Harness) -> None:
    noise = secrets.token_hex(10_000)
    ticket = await ticket_of(harness, a_person(noise, name=noise))
    assert len(ticket.ticket or "") < 3000
    person = a_person(noise, name=noise)
    owner = await harness.person()
    await harness.services.federation.links.link(
        person, a_flow(FlowIntent.LINK, owner.caller), owner.caller
    )
    proved = await harness.services.federation.arrivals.arrive(person, a_flow())
    code = await harness.services.federation.codes.issue(proved, strategy="jwt", remember=False)
    assert len(code.text) < 3000
    redeemed = await harness.services.federation.codes.redeem(code.text)
    assert redeemed.proved.user.id == owner.id


# Links with a token


async def test_a_link_with_a_copied_token_ends_with_the_next_proof_of_the_owner(
    harness: Harness,
) -> None:
    owner = await harness.person()

    async def begin() -> Flow:
        caller = replace(owner.caller, strategy="jwt", session_id=owner.refreshable.id)
        return a_flow(FlowIntent.LINK, caller, strategy="jwt")

    flow = await begin()
    found = await owner_of(harness.services.database, flow)
    assert (found.user.id, found.session_id) == (owner.id, owner.refreshable.id)
    await _prove_again(harness, owner)
    with pytest.raises(InvalidCredential):
        await owner_of(harness.services.database, flow)
    flow = await begin()
    await owner_of(harness.services.database, flow)
    jwt = replace(found, auth_time=await _auth_time(harness, owner))
    await harness.services.accounts.passwords.change(
        jwt, current=PASSWORD, new="another horse, another battery", new_secret_hash=None
    )
    # The session goes on until its access token ends, and links nothing any more.
    assert owner.refreshable.id in await session_ids(harness.services, owner.id)
    with pytest.raises(InvalidCredential):
        await owner_of(harness.services.database, flow)


async def _prove_again(harness: Harness, owner: Account) -> None:
    async with harness.services.database.transaction() as store:
        await store.sessions.set_auth_time(owner.refreshable.id, auth_time=now())


async def _auth_time(harness: Harness, owner: Account) -> datetime:
    async with harness.services.database.read() as store:
        found = await store.sessions.find_with_user(owner.refreshable.id)
    assert found is not None
    return found[0].auth_time


# Races


@pytest.mark.parametrize("registration", ["open", "confirm"])
async def test_a_sign_up_by_password_and_one_at_a_provider_make_one_account(
    database_url: str, registration: str
) -> None:
    async with federation(database_url, registration=registration) as harness:
        email, ends = new_address(), Counter[str]()
        person = a_person(email.canonical, **VERIFIED)

        async def by_password() -> None:
            try:
                await harness.services.accounts.registration.register(email, PASSWORD, name="Mal")
                ends["password"] += 1
            except EmailTaken as error:
                ends[error.code] += 1

        async def at_the_provider() -> None:
            try:
                await log_in(harness.services, person)
                ends["provider"] += 1
            except LinkRequired as error:
                ends[error.code] += 1

        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(by_password if number % 10 == 0 else at_the_provider)
        await harness.handle_requests()
        assert ends.total() == 50
        async with harness.services.database.read() as store:
            row = await store.users.find_credentials_by_email(email.canonical)
        assert row is not None
        if await linked_to(harness, person) is None:
            # The password was first: nothing is linked to its account.
            assert ends["provider"] == 0
            assert row.user.email_confirmed_at is None
        else:
            # The person was first: no password of another person logs in to the account.
            assert await linked_to(harness, person) == row.user.id
            assert row.password_hash is None
            assert row.user.name == "Ada Lovelace"
            assert ends["link_required"] == 0


async def test_a_take_over_and_a_confirmation_leave_one_owner(verifying: Harness) -> None:
    """The person at the provider and the reader of the mail may be two people at the same time."""
    for _ in range(5):
        squatter = await verifying.person(confirmed=False)
        email = parse_email(squatter.user.email)
        person = a_person(email.canonical, **VERIFIED)
        link = await verifying.link(squatter, Purpose.CONFIRM)
        ends: list[str] = []

        async def take(person: Person = person, ends: list[str] = ends) -> None:
            try:
                await log_in(verifying.services, person)
                ends.append("taken")
            except InvalidCredentials as error:
                ends.append(error.code)

        async def confirm(
            link: str = link, account: Account = squatter, ends: list[str] = ends
        ) -> None:
            changes = verifying.services.accounts.email_changes
            try:
                await changes.confirm_email(link, password=PASSWORD)
                ends.append("confirmed")
            except Exception as error:
                ends.append(getattr(error, "code", repr(error)))

        async with anyio.create_task_group() as group:
            group.start_soon(take)
            group.start_soon(confirm)
        async with verifying.services.database.read() as store:
            row = await store.users.find_credentials(squatter.id)
        assert row is not None
        assert row.user.email_confirmed_at is not None
        if "confirmed" in ends and row.password_hash is not None:
            continue  # the password knew the link: the account is of one person, and was linked
        assert row.password_hash is None
        assert squatter.session_id not in await session_ids(verifying.services, squatter.id)


async def test_fifty_logins_link_a_person_once(verifying: Harness) -> None:
    owner, ends = await verifying.person(), Counter[str]()
    person = a_person(owner.user.email, **VERIFIED)

    async def arrive() -> None:
        try:
            session = await log_in(verifying.services, person)
            assert session.user_id == owner.id
            ends["session"] += 1
        except InvalidCredentials as error:
            ends[error.code] += 1  # the account has changed since the callback

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(arrive)
    assert ends.total() == 50
    assert ends["session"] >= 1
    assert len(await verifying.services.federation.links.list_of(owner.id)) == 1
    wanted = EventFilter(user_id=owner.id, type=EventType.IDENTITY_LINKED)
    assert len(await verifying.services.audit.search(wanted)) == 1


async def test_of_a_passkey_and_an_identity_that_are_removed_at_once_one_stays(
    harness: Harness,
) -> None:
    for _ in range(5):
        person = a_person(new_address().canonical, **VERIFIED)
        user_id = (await log_in(harness.services, person)).user_id
        async with harness.services.database.read() as store:
            user = await store.users.find(user_id)
        assert user is not None
        authenticator = SoftAuthenticator(origin="https://app.example.com")
        caller = await caller_of(harness.services, user)
        added, strong = await add_passkey(harness.services, caller, authenticator)
        [linked] = await harness.services.federation.links.list_of(user_id)
        ends: list[str] = []
        changes = (
            partial(harness.services.federation.links.unlink, strong, linked.id),
            partial(harness.services.factors.passkeys.remove, strong, added.id),
        )

        async def attempt(change: Callable[[], Awaitable[object]], ends: list[str] = ends) -> None:
            try:
                await change()
                ends.append("removed")
            except LastWayIn as error:
                ends.append(error.code)

        async with anyio.create_task_group() as group:
            for change in changes:
                group.start_soon(attempt, change)
        assert sorted(ends) == ["last_way_in", "removed"]


# Hooks


async def test_a_hook_that_hangs_or_fails_leaves_nothing(database_url: str) -> None:
    hooks, released = Hooks(0.2), anyio.Event()

    async def provision(person: Person) -> None:
        if person.name == "Slow":
            await released.wait()
        if person.name == "Wrong":
            raise ZeroDivisionError

    hooks.on_provision(provision)
    async with federation(database_url, hooks=hooks) as harness:
        for name, error in (("Slow", Unavailable), ("Wrong", ZeroDivisionError)):
            person = a_person(new_address().canonical, **VERIFIED, name=name)
            flow = a_flow()
            with pytest.raises(error):
                await log_in(harness.services, person, flow)
            assert await linked_to(harness, person) is None
            # The flow can be used again, and the address is free.
            await log_in(harness.services, replace(person, name="Ada"), flow)
    released.set()


# What is left of an account


async def test_a_deleted_account_leaves_nothing_and_the_person_is_new(harness: Harness) -> None:
    person = a_person(new_address().canonical, **VERIFIED)
    first = await log_in(harness.services, person)
    proved = await harness.services.federation.arrivals.arrive(person, a_flow())
    code = await harness.services.federation.codes.issue(proved, strategy="jwt", remember=False)
    await harness.services.accounts.deletion.delete(first.user_id)
    assert await linked_to(harness, person) is None
    with pytest.raises(LoginFlowInvalid):
        await harness.services.federation.codes.redeem(code.text)
    second = await log_in(harness.services, person)
    assert second.user_id != first.user_id
    assert await mail_kinds(harness.services, person.email or "") == []


async def test_the_end_of_all_sessions_ends_those_of_identities_and_tickets(
    harness: Harness,
) -> None:
    owner, person = await harness.person(), a_person()
    await harness.services.federation.links.link(
        person, a_flow(FlowIntent.LINK, owner.caller), owner.caller
    )
    session = await log_in(harness.services, person)
    await add_authenticator(harness.services, owner.caller)
    proved = await harness.services.federation.arrivals.arrive(person, a_flow())
    pending = await complete(harness.services, proved)
    assert isinstance(pending, PendingLogin)
    await AllSessions(harness.services.database, harness.services.audit).end()
    assert session.id not in await session_ids(harness.services, owner.id)
    with pytest.raises(LoginExpired):
        await harness.services.logins.prove_second_factor(ticket=pending.ticket, code="123456")
    assert await linked_to(harness, person) == owner.id
