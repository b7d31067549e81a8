"""Events that unauthenticated clients cause are recorded up to a limit a minute."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from authapi.domain.client import Client, on_behalf_of
from authapi.domain.events import EventType
from authapi.errors import StorageUnavailable
from authapi.services.audit.event_rate_limiter import (
    LIMITED_TYPES,
    MAX_ROWS,
    MAX_ROWS_WITHOUT_ACCOUNT,
    EventRateLimiter,
)
from authapi.storage.tables.events import EventTable
from authapi.testing import PASSWORD
from tests.clocks import MonotonicClock, set_system_clock
from tests.conftest import SettingsFactory
from tests.security.peers import Service, guess, serving
from tests.tables import events as event_rows

NOON = datetime(2031, 5, 6, 12, tzinfo=UTC)
FAR_MORE = 395
ORIGIN = {"Origin": "https://evil.example"}


@pytest.fixture
async def service(
    make_settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Service]:
    """The shipped application with metrics. The whole test runs in one window of the limiter."""
    monkeypatch.setattr("authapi.services.audit.event_rate_limiter.monotonic", MonotonicClock())
    async with serving(make_settings(metrics_path="/metrics")) as found:
        yield found


async def rows(service: Service) -> Counter[str]:
    """The number of stored events of each type."""
    query = sa.select(event_rows.c.type, sa.func.count()).group_by(event_rows.c.type)
    async with service.api.services.database.engine.connect() as connection:
        return Counter({kind: count async for kind, count in await connection.stream(query)})


def network(number: int) -> str:
    return f"2001:db8:{number // 250:x}:{number % 250:x}::1"


async def dropped(service: Service, kind: str) -> float:
    text = (await service.api.get("/metrics")).text
    name = f'authapi_events_dropped_total{{type="{kind}"}} '
    return sum(float(line[len(name) :]) for line in text.splitlines() if line.startswith(name))


def test_only_refusals_are_limited() -> None:
    kept = set(EventType) - LIMITED_TYPES
    assert {EventType.LOGIN, EventType.LOGOUT, EventType.REFRESH_REUSE} <= kept
    limiter = EventRateLimiter()
    for kind in kept:
        assert all(limiter.allow(kind, names_account=True) for _ in range(3 * MAX_ROWS)), kind
    for kind in LIMITED_TYPES:
        allowed = [limiter.allow(kind, names_account=True) for _ in range(3 * MAX_ROWS)]
        assert allowed == [True] * MAX_ROWS + [False] * 2 * MAX_ROWS, kind


def test_events_without_an_account_have_a_lower_limit() -> None:
    limiter = EventRateLimiter()
    refused = EventType.LOGIN_REFUSED
    made_up = [limiter.allow(refused, names_account=False) for _ in range(FAR_MORE)]
    assert sum(made_up) == MAX_ROWS_WITHOUT_ACCOUNT
    owned = [limiter.allow(refused, names_account=True) for _ in range(FAR_MORE)]
    assert sum(owned) == MAX_ROWS - MAX_ROWS_WITHOUT_ACCOUNT


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_window_ends_after_a_minute_of_the_monotonic_clock(
    hours: int, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = EventRateLimiter()
    kind = EventType.ACCESS_REFUSED
    with set_system_clock(NOON) as (clock, monotonic):
        for minute in range(3):
            allowed = [limiter.allow(kind, names_account=True) for _ in range(2 * MAX_ROWS)]
            assert sum(allowed) == MAX_ROWS
            clock.shift(timedelta(hours=hours))
            monotonic.seconds += 59
            assert not limiter.allow(kind, names_account=True)
            assert limiter.dropped[kind] == (minute + 1) * (MAX_ROWS + 1)
            monotonic.seconds += 1
    lines = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == 3, "one line a minute"
    assert [line.__dict__["event_type"] for line in lines] == ["access_refused"] * 3


@pytest.mark.slow
async def test_refused_logins_from_many_networks_are_limited(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    alice = await service.api.create_user()
    for number in range(FAR_MORE):
        email = f"unknown{number}@example.com" if number % 5 else alice.email
        answer = await guess(service.at(network(number)), email)
        assert answer.status_code == 401, "the response does not change"
    found = await rows(service)
    assert found["login_refused"] == MAX_ROWS
    assert await dropped(service, "login_refused") == FAR_MORE - MAX_ROWS
    lines = [
        record
        for record in caplog.records
        if record.name == "authapi.services.audit.event_rate_limiter"
    ]
    assert len(lines) == 1
    assert alice.email not in caplog.text
    # The events of owners are recorded as before.
    await service.api.login(alice)
    await service.api.post("/logout")
    found = await rows(service)
    assert (found["login"], found["logout"]) == (1, 1)


async def test_foreign_origins_from_many_networks_are_limited(service: Service) -> None:
    bodies = {"email": "unknown@example.com", "password": PASSWORD}
    for number in range(FAR_MORE):
        visitor = service.at(network(number))
        answer = await visitor.post("/login", json=bodies, headers=ORIGIN)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    found = await rows(service)
    assert 0 < found["access_refused"] <= MAX_ROWS_WITHOUT_ACCOUNT
    assert await dropped(service, "access_refused") == FAR_MORE - found["access_refused"]


async def test_throttling_of_many_networks_is_limited(service: Service) -> None:
    audit = service.api.services.audit
    for number in range(FAR_MORE):
        client = Client(ip=network(number))
        with on_behalf_of(lambda client=client: client):  # type: ignore[misc]
            await audit.record_throttled("unknown@example.com" if number % 2 else None)
    assert (await rows(service))["throttled"] == MAX_ROWS_WITHOUT_ACCOUNT
    assert await dropped(service, "throttled") == FAR_MORE - MAX_ROWS_WITHOUT_ACCOUNT


@pytest.mark.slow
async def test_password_reset_requests_for_many_accounts_are_limited(service: Service) -> None:
    users = [await service.api.create_user() for _ in range(MAX_ROWS + 20)]
    for number, user in enumerate(users):
        visitor = service.at(network(number))
        assert (await visitor.post("/password/forgot", json={"email": user.email})).is_success
    assert len(await service.api.outbox()) == MAX_ROWS + 20, "every owner gets a mail"
    assert (await rows(service))["password_reset_requested"] == MAX_ROWS
    assert await dropped(service, "password_reset_requested") == 20


async def test_refused_password_confirmations_are_limited(service: Service) -> None:
    audit = service.api.services.audit
    alice = await service.api.create_user()
    for kind in (EventType.REAUTHENTICATION_REFUSED, EventType.PASSWORD_CHANGE_REFUSED):
        work = [audit.record_separately(kind, user_id=alice.id) for _ in range(MAX_ROWS + 20)]
        await asyncio.gather(*work[:5])
        for one in work[5:]:
            await one
        assert (await rows(service))[kind.value] == MAX_ROWS
        assert await dropped(service, kind.value) == 20


async def test_an_owner_sees_guesses_during_an_attack_on_invented_addresses(
    service: Service,
) -> None:
    alice = await service.api.create_user()
    for number in range(2 * MAX_ROWS):
        await guess(service.at(network(number)), f"made-up-{number}@example.com")
    await guess(service.at("192.0.2.1"), alice.email)
    await service.api.login(alice)
    shown = await service.api.get("/me/events")
    assert shown.status_code == 200
    assert '"login_refused"' in shown.text


def test_a_refund_frees_the_place_of_an_event() -> None:
    limiter, kind = EventRateLimiter(), EventType.LOGIN_REFUSED
    for names_account in (True, False):
        for _ in range(3 * MAX_ROWS):
            assert limiter.allow(kind, names_account=names_account)
            limiter.refund(kind, names_account=names_account)
    assert limiter.dropped[kind] == 0
    limiter.refund(EventType.THROTTLED, names_account=True)  # before its first window


async def test_events_that_could_not_be_stored_do_not_count(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await service.api.create_user()
    audit = service.api.services.audit

    async def fail(*_: object) -> None:
        raise StorageUnavailable

    with monkeypatch.context() as away:
        away.setattr(EventTable, "add_without_lock", fail)
        for _ in range(2 * MAX_ROWS):
            assert not await audit.record_separately(EventType.LOGIN_REFUSED, user_id=user.id)
    assert await audit.record_separately(EventType.LOGIN_REFUSED, user_id=user.id)
    assert (await rows(service))["login_refused"] == 1


async def test_a_sampled_event_that_could_not_be_stored_is_recorded_the_next_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await service.api.create_user()
    audit = service.api.services.audit
    add = EventTable.add_without_lock

    async def fail(*_: object) -> None:
        raise StorageUnavailable

    async def is_cancelled(*_: object) -> None:
        raise asyncio.CancelledError

    for broken in (fail, is_cancelled):
        monkeypatch.setattr(EventTable, "add_without_lock", broken)
        with suppress(asyncio.CancelledError):
            await audit.record_login_without_session(user.id, "basic")
        with suppress(asyncio.CancelledError):
            await audit.record_access_refused("insufficient_scope", None)
    monkeypatch.setattr(EventTable, "add_without_lock", add)
    for _ in range(2):
        await audit.record_login_without_session(user.id, "basic")
        await audit.record_access_refused("insufficient_scope", None)
    found = await rows(service)
    assert (found["login"], found["access_refused"]) == (1, 1)


async def test_a_refusal_after_the_deletion_of_the_account_names_no_account(
    service: Service,
) -> None:
    """The deletion has anonymized the events of the account; none may name it afterwards."""
    user = await service.api.create_user()
    await service.api.services.accounts.deletion.delete(user.id)
    audit = service.api.services.audit
    assert await audit.record_separately(EventType.LOGIN_REFUSED, user_id=user.id)
    query = sa.select(event_rows.c.user_id).where(event_rows.c.type == "login_refused")
    async with service.api.services.database.engine.connect() as connection:
        assert (await connection.execute(query)).scalars().all() == [None]
