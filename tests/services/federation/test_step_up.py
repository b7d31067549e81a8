"""Step-up at a provider, on both databases."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from authapi.clock import now
from authapi.crypto.secrets import hash_secret, new_secret
from authapi.domain.events import EventFilter, EventType
from authapi.domain.federation.flow import FlowIntent
from authapi.domain.federation.person import Person
from authapi.domain.session import SessionKind
from authapi.errors import InvalidCredential, LoginFlowInvalid, ProviderAnswerRefused
from tests.services.authenticators import add_authenticator
from tests.services.federated_people import a_flow, a_person, caller_of
from tests.services.federation.harness import federation
from tests.services.operations import Harness
from tests.services.operations import Person as Account


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[Harness]:
    async with federation(database_url) as found:
        yield found


async def linked(harness: Harness) -> tuple[Account, Person]:
    owner, person = await harness.person(), a_person(auth_time=now())
    flow = a_flow(FlowIntent.LINK, owner.caller)
    await harness.services.federation.links.link(person, flow, owner.caller)
    return owner, person


async def test_a_recent_login_at_the_provider_makes_the_session_recent(harness: Harness) -> None:
    owner, person = await linked(harness)
    flow, secret = a_flow(FlowIntent.STEP_UP, owner.caller), hash_secret(new_secret())
    prove = harness.services.federation.step_up.prove
    person = replace(person, auth_time=now())
    await prove(person, flow, owner.caller, new_secret_hash=secret)
    identify = harness.services.sessions.identify_by_secret
    caller = await identify(secret, SessionKind.SESSION, strategy="session")
    assert caller is not None
    assert caller.auth_time > owner.caller.auth_time
    assert person.auth_time is not None
    assert caller.auth_time == person.auth_time
    wanted = EventFilter(user_id=owner.id, type=EventType.REAUTHENTICATED)
    [event] = await harness.services.audit.search(wanted)
    assert event.detail == {"amr": ["fed"], "provider": "acme"}
    with pytest.raises(InvalidCredential):
        await prove(person, flow, owner.caller, new_secret_hash=None)
    flow = replace(flow, session_id=caller.session_id)
    with pytest.raises(LoginFlowInvalid):
        await prove(person, flow, caller, new_secret_hash=None)


@pytest.mark.parametrize("age", [None, timedelta(minutes=6), timedelta(days=1)])
async def test_an_old_login_at_the_provider_proves_nothing(
    harness: Harness, age: timedelta | None
) -> None:
    owner, person = await linked(harness)
    person = replace(person, auth_time=None if age is None else now() - age)
    flow = a_flow(FlowIntent.STEP_UP, owner.caller)
    with pytest.raises(ProviderAnswerRefused) as refusal:
        await harness.services.federation.step_up.prove(
            person, flow, owner.caller, new_secret_hash=None
        )
    assert refusal.value.reason == "stale"
    wanted = EventFilter(user_id=owner.id, type=EventType.REAUTHENTICATION_REFUSED)
    [event] = await harness.services.audit.search(wanted)
    assert event.detail == {"provider": "acme", "reason": "stale"}


async def test_another_person_proves_nothing(harness: Harness) -> None:
    owner, _ = await linked(harness)
    other, person = await linked(harness)
    flow = a_flow(FlowIntent.STEP_UP, owner.caller)
    prove = harness.services.federation.step_up.prove
    with pytest.raises(ProviderAnswerRefused) as refusal:
        await prove(person, flow, owner.caller, new_secret_hash=None)
    assert refusal.value.reason == "other_person"
    with pytest.raises(LoginFlowInvalid):
        await prove(person, flow, other.caller, new_secret_hash=None)


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_a_trusted_provider_also_proves_the_second_factor(
    harness: Harness, is_trusted: bool
) -> None:
    owner, person = await linked(harness)
    await add_authenticator(harness.services, owner.caller)
    caller = await caller_of(harness.services, owner.user)
    flow, secret = a_flow(FlowIntent.STEP_UP, caller), hash_secret(new_secret())
    person = replace(person, auth_time=now(), has_proved_mfa=is_trusted)
    await harness.services.federation.step_up.prove(person, flow, caller, new_secret_hash=secret)
    found = await harness.services.sessions.identify_by_secret(
        secret, SessionKind.SESSION, strategy="session"
    )
    assert found is not None
    assert ("mfa" in found.amr) == is_trusted
    assert (found.mfa_at is not None) == is_trusted
