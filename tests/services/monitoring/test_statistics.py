"""The numbers that an operator looks at, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest
import time_machine

from authapi import Settings
from authapi.clock import now
from authapi.crypto.ids import first_id_at, new_id
from authapi.domain.client import Client
from authapi.domain.email_address import parse_email
from authapi.domain.events import Event, EventType
from authapi.domain.monitoring.statistics import EventCount
from authapi.domain.session import SessionKind
from authapi.domain.signing_key import KeyState
from authapi.services import Services
from authapi.storage import migrations
from authapi.storage.inspection import record_statements
from authapi.storage.tables.monitoring import counts
from authapi.testing import PASSWORD
from tests.second_factors import add_second_factors
from tests.storage.rows import sql
from tests.web.logins import sign_in


@pytest.fixture
async def services(database_url: str) -> AsyncIterator[Services]:
    found = Services.build(Settings(database_url=database_url))  # type: ignore[arg-type]  # pydantic parses it
    await found.open()
    yield found
    await found.stop()


async def add_events(services: Services, kind: EventType, *ages: timedelta) -> None:
    """Adds events as if they were recorded that long ago."""
    async with services.database.transaction() as store:
        for age in ages:
            at = now() - age
            key = UUID(int=first_id_at(at).int | new_id().int & (1 << 62) - 1)
            await store.events.add(
                Event(key, at, kind, None, None, None, Client(ip="192.0.2.1"), {})
            )


async def test_an_empty_service_counts_nothing(services: Services) -> None:
    found = await services.statistics.counts()
    assert (found.accounts.total, found.accounts.deactivated) == (0, 0)
    assert (found.sessions.personal_tokens, set(found.sessions.logins.values())) == (0, {0})
    assert found.events.is_complete
    assert (found.waiting, found.given_up, found.oldest_at) == (0, 0, None)
    assert found.keys.by_state == {KeyState.NEXT: 1, KeyState.ACTIVE: 1, KeyState.RETIRED: 0}


async def test_accounts_are_counted_by_state(services: Services) -> None:
    create = services.accounts.registration.create
    root = await create(parse_email("root@example.com"), None, is_superuser=True)
    bob, carol = [await create(parse_email(f"{name}@example.com"), None) for name in ("b", "c")]
    await services.accounts.administration.change(bob.id, {"is_active": False})
    await add_second_factors(services, carol)
    url = services.settings.resolved_database_url
    sql(url, "UPDATE authapi_users SET email_confirmed_at = created_at WHERE is_superuser")
    found = (await services.statistics.counts()).accounts
    assert (found.total, found.active, found.deactivated) == (3, 2, 1)
    assert (found.confirmed, found.superusers, found.mfa) == (1, 1, 1)
    assert root.is_superuser


async def test_live_logins_are_counted_by_kind(services: Services) -> None:
    alice = await services.accounts.registration.create(parse_email("a@example.com"), PASSWORD)
    for strategy in ("session", "session", "token", "jwt"):
        await sign_in(services, alice, strategy)
    found = (await services.statistics.counts()).sessions
    assert found.logins == {SessionKind.SESSION: 2, SessionKind.TOKEN: 1, SessionKind.JWT: 1}
    assert found.personal_tokens == 0
    with time_machine.travel(now() + timedelta(days=400), tick=False):
        expired = (await services.statistics.counts()).sessions
    assert set(expired.logins.values()) == {0}


async def test_personal_tokens_are_no_logins(services: Services) -> None:
    alice = await services.accounts.registration.create(parse_email("a@example.com"), PASSWORD)
    await sign_in(services, alice, "token")
    url = services.settings.resolved_database_url
    sql(url, "UPDATE authapi_sessions SET name = 'script'")
    found = (await services.statistics.counts()).sessions
    assert (found.personal_tokens, found.logins[SessionKind.TOKEN]) == (1, 0)


async def test_events_are_counted_by_hour(services: Services) -> None:
    minute, hour = timedelta(minutes=1), timedelta(hours=1)
    with time_machine.travel(now().replace(microsecond=0), tick=False):
        await add_events(services, EventType.LOGIN, minute, 59 * minute, 61 * minute)
        await add_events(services, EventType.LOGIN_REFUSED, minute, 23 * hour + 59 * minute)
        await add_events(services, EventType.PASSKEY_REFUSED, 2 * hour + minute)
        await add_events(services, EventType.SECOND_FACTOR_REFUSED, 2 * hour + minute)
        await add_events(services, EventType.LOGOUT, minute, 25 * hour)
        # The clock of another process may be ahead.
        await add_events(services, EventType.LOGIN, -minute)
        found = (await services.statistics.counts()).events
    assert found.is_complete
    assert len(found.by_hour) == 24
    assert found.last_hour == EventCount(events=5, sign_ins=3, refused_sign_ins=1)
    assert found.by_hour[-2] == EventCount(events=1, sign_ins=1)
    assert found.by_hour[-3] == EventCount(events=2, refused_sign_ins=2)
    assert found.by_hour[0] == EventCount(events=1, refused_sign_ins=1)
    assert found.last_day == EventCount(events=9, sign_ins=4, refused_sign_ins=4)


async def test_of_too_many_events_the_newest_are_counted(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "MAX_EVENTS", 2)
    hour = timedelta(hours=1)
    await add_events(services, EventType.LOGIN, hour / 2, 3 * hour / 2)
    assert (await services.statistics.counts()).events.is_complete
    await add_events(services, EventType.LOGIN, *[5 * hour / 2] * 3)
    found = (await services.statistics.counts()).events
    assert not found.is_complete
    assert found.last_hour.events == 1


async def test_the_outbox_is_counted_by_kind(services: Services) -> None:
    alice = await services.accounts.registration.create(parse_email("a@example.com"), None)
    for _ in range(3):
        await services.accounts.administration.send_reset_link(alice.id)
    url, begin = services.settings.resolved_database_url, now()
    sql(
        url,
        "UPDATE authapi_outbox SET failed_at = created_at"
        " WHERE id = (SELECT id FROM authapi_outbox ORDER BY id DESC LIMIT 1)",
    )
    found = await services.statistics.counts()
    [queue] = found.queues
    assert (queue.kind, queue.waiting, queue.given_up) == ("mail", 2, 1)
    assert (found.waiting, found.given_up, found.oldest_at) == (2, 1, queue.oldest_at)
    assert queue.oldest_at is not None
    assert queue.oldest_at <= begin


async def test_the_next_rotation_is_told(services: Services) -> None:
    keys = await services.keys.list_stored()
    activated = next(key.activated_at for key in keys if key.state is KeyState.ACTIVE)
    assert activated is not None
    expected = activated + services.settings.key_rotation
    assert (await services.statistics.counts()).keys.next_rotation_at == expected
    await services.keys.rotate(early=True)
    keys = await services.keys.list_stored()
    active = next(key for key in keys if key.state is KeyState.ACTIVE)
    found = (await services.statistics.counts()).keys
    assert found.by_state == {KeyState.NEXT: 1, KeyState.ACTIVE: 1, KeyState.RETIRED: 1}
    assert active.activated_at is not None
    assert found.next_rotation_at == active.activated_at + services.settings.key_rotation


async def test_there_is_one_statement_for_each_table(services: Services) -> None:
    with record_statements(services.database) as statements:
        await services.statistics.counts()
    assert len(statements) == 5


async def test_versions_name_the_database(services: Services) -> None:
    found = await services.statistics.versions()
    is_sqlite = services.database.is_sqlite
    assert found.database.startswith("SQLite 3." if is_sqlite else "PostgreSQL ")
    url = services.settings.resolved_database_url
    assert await asyncio.to_thread(migrations.current, url) == found.schema
    assert found.authapi
    assert found.python
