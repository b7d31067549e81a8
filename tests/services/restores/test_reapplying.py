"""Events that cannot be repeated, or that a restored database does not need."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.domain.events import EventFilter, EventType
from authapi.domain.federation.flow import FlowIntent
from authapi.errors import StorageUnavailable
from authapi.services.restores import EventReplay, RecordedEvent, Replayed
from authapi.services.restores.reapplying import BY_HAND, REAPPLIED
from tests.services.federated_people import a_flow, a_person, log_in
from tests.services.operations import Harness, open_harness


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[Harness]:
    async with open_harness(database_url) as found:
        yield found


def an_event(
    kind: EventType, user_id: UUID | None, session_id: UUID | None = None
) -> RecordedEvent:
    return RecordedEvent(new_id(), now(), kind, user_id, session_id)


async def run(harness: Harness, *events: RecordedEvent) -> Replayed:
    services = harness.services
    replay = EventReplay(services.database, services.audit, services.hooks, services.settings)
    return await replay.run(events, since=now() - timedelta(days=1))


def test_no_event_is_both_repeated_and_left_to_the_operator() -> None:
    assert not REAPPLIED & BY_HAND


@pytest.mark.parametrize("is_named", [True, False])
async def test_an_unlinked_identity_is_unlinked_again(harness: Harness, is_named: bool) -> None:
    one, two = await harness.person(), await harness.person()
    links = harness.services.federation.links
    linked = []
    for owner in (one, one, two):
        flow = a_flow(FlowIntent.LINK, owner.caller)
        linked.append(await links.link(a_person(), flow, owner.caller))
    person = replace(
        a_person(), provider=linked[0].provider, issuer=linked[0].issuer, subject=linked[0].subject
    )
    session = await log_in(harness.services, person)
    event = an_event(EventType.IDENTITY_UNLINKED, one.id)
    if is_named:
        event = replace(event, identity_id=linked[0].id)
    # An identity that was linked after the event stays.
    async with harness.services.database.transaction() as store:
        later = replace(
            linked[0], id=new_id(), subject="later", created_at=event.at + timedelta(seconds=1)
        )
        await store.identities.add(later, auth_context=None)
    result = await run(harness, event)
    assert result.applied == Counter({EventType.IDENTITY_UNLINKED: 1})
    left = {found.id for found in await links.list_of(one.id)}
    assert left == ({linked[1].id, later.id} if is_named else {later.id})
    assert [found.id for found in await links.list_of(two.id)] == [linked[2].id]
    live = {found.id for found in await harness.services.sessions.list_for_user(one.id)}
    assert session.id not in live
    assert one.session_id in live
    again = await run(harness, replace(event, id=new_id(), identity_id=linked[2].id))
    assert again.applied.total() == 1
    assert len(await links.list_of(two.id)) == 1, "an event of one account unlinks no other one"


async def test_the_last_superuser_stays_and_is_reported(harness: Harness) -> None:
    root = harness.root.user.id
    events = [
        an_event(kind, root)
        for kind in (
            EventType.ACCOUNT_DEACTIVATED,
            EventType.SUPERUSER_REVOKED,
            EventType.ACCOUNT_DELETED,
        )
    ]
    result = await run(harness, *events)
    assert [event for event, _ in result.refused] == events
    assert all(reason for _, reason in result.refused)
    assert result.applied.total() == 0
    async with harness.services.database.read() as store:
        user = await store.users.find(root)
    assert user is not None
    assert user.is_active
    assert user.is_superuser


async def test_a_session_of_another_account_is_not_ended(harness: Harness) -> None:
    one, two = await harness.person(), await harness.person()
    await run(harness, an_event(EventType.LOGOUT, one.id, two.session_id))
    assert len(await harness.services.sessions.list_for_user(two.id)) == 3


async def test_events_without_an_account_and_of_other_types_change_nothing(
    harness: Harness,
) -> None:
    person = await harness.person()
    result = await run(
        harness,
        an_event(EventType.SESSION_ENDED, None, new_id()),
        an_event(EventType.PASSWORD_CHANGED, new_id()),
        an_event(EventType.LOGIN, person.id),
        an_event(EventType.ACCOUNT_ACTIVATED, person.id),
        an_event(EventType.ROLES_CHANGED, person.id),
        an_event(EventType.ROLES_CHANGED, person.id),
    )
    assert result.without_account == 2
    assert result.applied.total() == 0
    assert result.by_hand == Counter({EventType.ROLES_CHANGED: 2})
    assert len(await harness.services.sessions.list_for_user(person.id)) == 3


async def test_a_stored_event_has_no_client(harness: Harness) -> None:
    person = await harness.person()
    event = an_event(EventType.LOGOUT, person.id, person.session_id)
    await run(harness, event)
    async with harness.services.database.read() as store:
        [stored] = await store.events.search(
            EventFilter(user_id=person.id, type=EventType.LOGOUT), before=None, limit=10
        )
    assert (stored.id, stored.at, stored.session_id) == (event.id, event.at, event.session_id)
    assert stored.client.ip is None
    assert stored.detail == {"reapplied": True}


async def test_a_failure_midway_leaves_what_was_done(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = await harness.person(), await harness.person()
    events = [an_event(EventType.PASSWORD_CHANGED, person.id) for person in (one, two)]
    real = EventReplay._apply

    async def fail_second(
        self: EventReplay, store: object, event: RecordedEvent, *args: object, **more: object
    ) -> None:
        if event is events[1]:
            raise StorageUnavailable
        await real(self, store, event, *args, **more)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(EventReplay, "_apply", fail_second)
    with pytest.raises(StorageUnavailable):
        await run(harness, *events)
    monkeypatch.undo()
    result = await run(harness, *events)
    assert (result.known, result.applied.total()) == (1, 1)
    for person in (one, two):
        assert not (await harness.services.accounts.passwords.state(person.id)).is_set


async def test_progress_is_reported(harness: Harness) -> None:
    person = await harness.person()
    seen: list[tuple[int, int]] = []
    services = harness.services
    replay = EventReplay(services.database, services.audit, services.hooks, services.settings)
    await replay.run(
        [an_event(EventType.LOGOUT, person.id), an_event(EventType.LOGOUT, person.id)],
        since=now(),
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 2), (2, 2)]
