"""Arrivals of people whom an account is linked to, or who get one, on both databases."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

from authapi.clock import now
from authapi.domain.email_address import parse_email
from authapi.domain.events import EventFilter, EventType
from authapi.domain.federation.flow import Flow, FlowIntent
from authapi.domain.federation.person import Person, Provision
from authapi.errors import (
    EmailNeeded,
    InvalidCredentials,
    LoginFlowInvalid,
    ProviderAnswerRefused,
    RegistrationClosed,
    TooManyAttempts,
)
from authapi.services.accounts.administration import AccountChanges
from authapi.services.hooks import HookError, Hooks
from authapi.services.logins.complete import PendingLogin
from authapi.services.logins.proved import Login
from tests.services.authenticators import add_authenticator
from tests.services.federated_people import (
    a_flow,
    a_person,
    begin_session,
    caller_of,
    complete,
    log_in,
)
from tests.services.federation.harness import federation
from tests.services.operations import Harness, new_address

VERIFIED = {"email_verified": True, "is_authoritative": True}


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[Harness]:
    async with federation(database_url) as found:
        yield found


def newcomer(**changes: object) -> Person:
    return a_person(new_address().canonical, **{**VERIFIED, **changes})


async def test_a_known_person_logs_in_to_the_same_account(harness: Harness) -> None:
    person = newcomer()
    first = await log_in(harness.services, person)
    moved = replace(person, email="moved@example.com", name="Countess")
    second = await log_in(harness.services, moved)
    assert second.user_id == first.user_id
    [linked] = await harness.services.federation.links.list_of(first.user_id)
    # What the provider says now is shown, and the account keeps its own.
    assert (linked.email, linked.name) == ("moved@example.com", "Countess")
    assert linked.last_login_at is not None
    async with harness.services.database.read() as store:
        user = await store.users.find(first.user_id)
    assert user is not None
    assert (user.email, user.name) == (person.email, "Ada Lovelace")
    wanted = EventFilter(user_id=user.id, type=EventType.LOGIN)
    events = await harness.services.audit.search(wanted)
    assert [event.detail["provider"] for event in events] == ["acme", "acme"]


async def test_the_same_subject_of_another_issuer_is_another_person(harness: Harness) -> None:
    person = newcomer()
    first = await log_in(harness.services, person)
    other = replace(
        person, provider="other", issuer="https://id.other.example", email=new_address().canonical
    )
    second = await log_in(harness.services, other, a_flow(provider="other"))
    assert second.user_id != first.user_id


@pytest.mark.parametrize(
    "flow",
    [
        a_flow(intent=FlowIntent.LINK),
        a_flow(provider="other"),
        a_flow(expires_at=now() - timedelta(1)),
    ],
)
async def test_a_flow_for_something_else_leads_nowhere(harness: Harness, flow: Flow) -> None:
    with pytest.raises(LoginFlowInvalid):
        await harness.services.federation.arrivals.arrive(newcomer(), flow)


@pytest.mark.parametrize("subject", ["a\nb", "a\x00b", "\ud800"])
async def test_a_subject_that_is_no_line_of_text_is_refused(harness: Harness, subject: str) -> None:
    with pytest.raises(ProviderAnswerRefused):
        await harness.services.federation.arrivals.arrive(newcomer(subject=subject), a_flow())


async def test_texts_of_a_provider_are_bounded(harness: Harness) -> None:
    session = await log_in(harness.services, newcomer(name="<b>" + "x" * 10_000))
    async with harness.services.database.read() as store:
        user = await store.users.find(session.user_id)
    assert user is not None
    assert user.name == ("<b>" + "x" * 10_000)[:200]
    invisible = await log_in(harness.services, newcomer(name="\u200b\n"))
    async with harness.services.database.read() as store:
        user = await store.users.find(invisible.user_id)
    assert user is not None
    assert user.name is None


async def test_text_that_is_no_address_counts_as_none(harness: Harness) -> None:
    with pytest.raises(EmailNeeded):
        await harness.services.federation.arrivals.arrive(
            a_person("no address", **VERIFIED), a_flow()
        )


async def test_one_flow_begins_one_session(harness: Harness) -> None:
    person, flow = newcomer(), a_flow()
    arrive = harness.services.federation.arrivals.arrive
    logins = [await complete(harness.services, await arrive(person, flow)) for _ in range(3)]
    ends: list[str] = []

    async def begin(login: object) -> None:
        assert isinstance(login, Login)
        try:
            await begin_session(harness.services, login)
            ends.append("session")
        except (LoginFlowInvalid, InvalidCredentials) as error:
            ends.append(error.code)

    async with anyio.create_task_group() as group:
        for login in logins:
            group.start_soon(begin, login)
    assert sorted(ends) == ["login_flow_invalid", "login_flow_invalid", "session"]


async def test_fifty_callbacks_create_one_account(harness: Harness) -> None:
    person = newcomer()
    users = set()

    async def arrive() -> None:
        session = await log_in(harness.services, person)
        users.add(session.user_id)

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(arrive)
    assert len(users) == 1


async def test_a_failure_before_the_session_leaves_the_flow_usable(harness: Harness) -> None:
    person, flow = newcomer(), a_flow()
    await harness.services.federation.arrivals.arrive(person, flow)
    assert (await log_in(harness.services, person, flow)).amr == ("fed",)


@pytest.mark.parametrize("state", ["deactivated", "unconfirmed"])
async def test_an_account_that_may_not_log_in_by_password_may_not_here(
    database_url: str, state: str
) -> None:
    async with federation(database_url) as harness:
        person = a_person(new_address().canonical)  # an address that the provider does not prove
        session = await log_in(harness.services, person)
    registration = "confirm" if state == "unconfirmed" else "open"
    async with federation(database_url, registration=registration) as harness:
        if state == "deactivated":
            await harness.services.accounts.administration.change(
                session.user_id, AccountChanges(is_active=False)
            )
        with pytest.raises(InvalidCredentials):
            await harness.services.federation.arrivals.arrive(person, a_flow())
        wanted = EventFilter(type=EventType.FEDERATED_LOGIN_REFUSED)
        [event] = await harness.services.audit.search(wanted)
        assert (event.detail, event.outcome) == (
            {"provider": "acme", "reason": "invalid_credentials"},
            "refused",
        )


async def test_the_age_of_the_proof_is_that_of_the_provider(harness: Harness) -> None:
    at = now() - timedelta(days=40)
    session = await log_in(harness.services, newcomer(auth_time=at))
    assert session.auth_time == at
    assert session.created_at > now() - timedelta(minutes=1)
    assert session.expires_at > now() + timedelta(hours=23)
    ahead = await log_in(harness.services, newcomer(auth_time=now() + timedelta(minutes=1)))
    assert ahead.auth_time <= now()


@pytest.mark.parametrize(
    ("age", "is_trusted"),
    [(timedelta(hours=11), True), (timedelta(hours=13), False), (None, False)],
)
async def test_a_second_factor_of_a_trusted_provider_counts_for_twelve_hours(
    harness: Harness, age: timedelta | None, is_trusted: bool
) -> None:
    person = newcomer()
    session = await log_in(harness.services, person)
    async with harness.services.database.read() as store:
        user = await store.users.find(session.user_id)
    assert user is not None
    await add_authenticator(harness.services, await caller_of(harness.services, user))
    at = None if age is None else now() - age
    proved = await harness.services.federation.arrivals.arrive(
        replace(person, has_proved_mfa=True, auth_time=at), a_flow()
    )
    login = await complete(harness.services, proved)
    if is_trusted:
        assert isinstance(login, Login)
        assert (login.amr, login.mfa_at) == (("fed", "mfa"), at)
    else:
        assert isinstance(login, PendingLogin)


async def test_a_ticket_keeps_the_flow_and_the_age_of_the_proof(harness: Harness) -> None:
    person, at = newcomer(auth_time=now() - timedelta(hours=3)), now() - timedelta(hours=3)
    session = await log_in(harness.services, person)
    async with harness.services.database.read() as store:
        user = await store.users.find(session.user_id)
    assert user is not None
    app = await add_authenticator(harness.services, await caller_of(harness.services, user))
    flow = a_flow()
    proved = await harness.services.federation.arrivals.arrive(person, flow)
    pending = await complete(harness.services, proved)
    assert isinstance(pending, PendingLogin)
    with pytest.raises(LoginFlowInvalid):
        await complete(harness.services, proved)  # the ticket has used the flow up
    completed = await harness.services.logins.prove_second_factor(
        ticket=pending.ticket, code=app.code()
    )
    second = await begin_session(harness.services, completed.login)
    assert abs(second.auth_time - at) < timedelta(minutes=1)
    assert second.mfa_at is not None
    assert second.mfa_at > now() - timedelta(minutes=1)
    [linked] = await harness.services.federation.links.list_of(user.id)
    await harness.services.federation.links.unlink_as_administrator(
        user.id, linked.id, actor=harness.root
    )
    async with harness.services.database.read() as store:
        assert await store.sessions.find_owner_by_id(second.id) is None


async def test_hooks_decide_about_accounts(database_url: str) -> None:
    hooks, seen = Hooks(5), list[object]()

    async def may(provider: str, claims: Mapping[str, object]) -> bool:
        seen.append((provider, dict(claims)))
        return claims.get("group") == "staff"

    async def provision(person: Person) -> Provision:
        return Provision(name=f"{person.name} of staff", roles=frozenset({"editor"}))

    hooks.may_provision(may)
    hooks.on_provision(provision)
    roles = {"editor": ["a"]}
    async with federation(database_url, hooks=hooks, roles=roles) as harness:
        with pytest.raises(RegistrationClosed):
            await log_in(harness.services, newcomer())
        session = await log_in(harness.services, newcomer(claims={"group": "staff"}))
        async with harness.services.database.read() as store:
            user = await store.users.find(session.user_id)
        assert user is not None
        assert (user.name, user.roles) == ("Ada Lovelace of staff", frozenset({"editor"}))
        assert seen == [("acme", {}), ("acme", {"group": "staff"})]


@pytest.mark.parametrize(
    "returned", [Provision(roles=frozenset({"king"})), Provision(name="\n"), {"name": "x"}]
)
async def test_an_unusable_provision_creates_nothing(database_url: str, returned: object) -> None:
    hooks, person = Hooks(5), newcomer()

    async def provision(_: Person) -> object:
        return returned

    hooks.on_provision(provision)  # type: ignore[arg-type]  # what it returns is wrong
    async with federation(database_url, hooks=hooks) as harness:
        with pytest.raises(HookError):
            await log_in(harness.services, person)
        assert person.email is not None
        async with harness.services.database.read() as store:
            canonical = parse_email(person.email).canonical
            assert await store.users.find_by_email(canonical) is None


async def test_hooks_before_logins_and_registrations_run_with_the_request(
    database_url: str,
) -> None:
    hooks, seen = Hooks(5), list[tuple[str, object, str]]()

    async def before_register(request: object, email: str) -> None:
        seen.append(("register", request, email))

    async def before_login(request: object, email: str) -> None:
        seen.append(("login", request, email))

    hooks.before_register(before_register)
    hooks.before_login(before_login)
    async with federation(database_url, hooks=hooks) as harness:
        person, request = newcomer(), object()
        for _ in range(2):
            await harness.services.federation.arrivals.arrive(person, a_flow(), request=request)
    assert seen == [("register", request, person.email), ("login", request, person.email)]


async def test_a_sign_up_counts_as_a_registration(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[object] = []

    async def count(client: object) -> None:
        counted.append(client)
        if len(counted) > 1:
            raise TooManyAttempts(retry_after=60)

    monkeypatch.setattr(harness.services.rate_limits, "consume_registration", count)
    person = newcomer()
    await log_in(harness.services, person)
    await log_in(harness.services, person)
    with pytest.raises(TooManyAttempts):
        await log_in(harness.services, newcomer())
