"""What strangers cause is refused each time, and written down so often a minute and no more."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from authapi.errors import StorageUnavailable
from authapi.identity import Client, EventType, on_behalf_of
from authapi.services.audit.floods import BY_STRANGERS, MOST, MOST_OF_NO_ACCOUNT, Floods
from authapi.storage import models
from authapi.storage.tables.events import EventTable
from authapi.testing import PASSWORD
from tests.clocks import Monotonic, clock_is_set
from tests.conftest import SettingsFactory
from tests.security.peers import Service, guess, serving

NOON = datetime(2031, 5, 6, 12, tzinfo=UTC)
FAR_MORE = 395
ORIGIN = {"Origin": "https://evil.example"}


@pytest.fixture
async def service(
    make_settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Service]:
    """The shipped application, with metrics; to count events, the whole test is one minute."""
    monkeypatch.setattr("authapi.services.audit.floods.monotonic", Monotonic())
    async with serving(make_settings(metrics_path="/metrics")) as found:
        yield found


async def rows(service: Service) -> Counter[str]:
    """How many events there are of each type."""
    query = sa.select(models.events.c.type, sa.func.count()).group_by(models.events.c.type)
    async with service.api.services.database.engine.connect() as connection:
        return Counter({kind: count async for kind, count in await connection.stream(query)})


def network(number: int) -> str:
    return f"2001:db8:{number // 250:x}:{number % 250:x}::1"


async def dropped(service: Service, kind: str) -> float:
    text = (await service.api.get("/metrics")).text
    name = f'authapi_events_dropped_total{{type="{kind}"}} '
    return sum(float(line[len(name) :]) for line in text.splitlines() if line.startswith(name))


def test_refusals_are_capped_and_nothing_that_an_owner_does() -> None:
    kept = set(EventType) - BY_STRANGERS
    assert {EventType.LOGIN, EventType.LOGOUT, EventType.REFRESH_REUSE} <= kept
    floods = Floods()
    for kind in kept:
        assert all(floods.admit(kind, names_account=True) for _ in range(3 * MOST)), kind
    for kind in BY_STRANGERS:
        admitted = [floods.admit(kind, names_account=True) for _ in range(3 * MOST)]
        assert admitted == [True] * MOST + [False] * 2 * MOST, kind


def test_what_names_no_account_leaves_room_for_what_does() -> None:
    floods = Floods()
    refused = EventType.LOGIN_REFUSED
    made_up = [floods.admit(refused, names_account=False) for _ in range(FAR_MORE)]
    assert sum(made_up) == MOST_OF_NO_ACCOUNT
    owned = [floods.admit(refused, names_account=True) for _ in range(FAR_MORE)]
    assert sum(owned) == MOST - MOST_OF_NO_ACCOUNT


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_minute_later_there_is_room_again_whatever_the_clock_is_set_to(
    hours: int, caplog: pytest.LogCaptureFixture
) -> None:
    floods = Floods()
    kind = EventType.ACCESS_REFUSED
    with clock_is_set(NOON) as (clock, monotonic):
        for minute in range(3):
            admitted = [floods.admit(kind, names_account=True) for _ in range(2 * MOST)]
            assert sum(admitted) == MOST
            clock.shift(timedelta(hours=hours))
            monotonic.seconds += 59
            assert not floods.admit(kind, names_account=True)
            assert floods.dropped[kind] == (minute + 1) * (MOST + 1)
            monotonic.seconds += 1
    lines = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == 3, "one line a minute"
    assert [line.__dict__["event_type"] for line in lines] == ["access_refused"] * 3


@pytest.mark.slow
async def test_refused_logins_from_many_networks(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    alice = await service.api.create_user()
    for number in range(FAR_MORE):
        email = f"nobody{number}@example.com" if number % 5 else alice.email
        answer = await guess(service.at(network(number)), email)
        assert answer.status_code == 401, "refused as ever"
    found = await rows(service)
    assert found["login_refused"] == MOST
    assert await dropped(service, "login_refused") == FAR_MORE - MOST
    lines = [record for record in caplog.records if record.name == "authapi.services.audit.floods"]
    assert len(lines) == 1
    assert alice.email not in caplog.text
    # What owners do is written down all the same.
    await service.api.login(alice)
    await service.api.post("/logout")
    found = await rows(service)
    assert (found["login"], found["logout"]) == (1, 1)


async def test_foreign_pages_from_many_networks(service: Service) -> None:
    bodies = {"email": "nobody@example.com", "password": PASSWORD}
    for number in range(FAR_MORE):
        visitor = service.at(network(number))
        answer = await visitor.post("/login", json=bodies, headers=ORIGIN)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    found = await rows(service)
    assert 0 < found["access_refused"] <= MOST_OF_NO_ACCOUNT
    assert await dropped(service, "access_refused") == FAR_MORE - found["access_refused"]


async def test_throttling_of_many_networks(service: Service) -> None:
    audit = service.api.services.audit
    for number in range(FAR_MORE):
        client = Client(ip=network(number))
        with on_behalf_of(lambda client=client: client):  # type: ignore[misc]
            await audit.throttled("nobody@example.com" if number % 2 else None)
    assert (await rows(service))["throttled"] == MOST_OF_NO_ACCOUNT
    assert await dropped(service, "throttled") == FAR_MORE - MOST_OF_NO_ACCOUNT


@pytest.mark.slow
async def test_requests_for_mail_to_many_accounts(service: Service) -> None:
    users = [await service.api.create_user() for _ in range(MOST + 20)]
    for number, user in enumerate(users):
        visitor = service.at(network(number))
        assert (await visitor.post("/password/forgot", json={"email": user.email})).is_success
    assert len(await service.api.outbox()) == MOST + 20, "every owner is written to"
    assert (await rows(service))["password_reset_requested"] == MOST
    assert await dropped(service, "password_reset_requested") == 20


async def test_passwords_asked_for_again(service: Service) -> None:
    audit = service.api.services.audit
    alice = await service.api.create_user()
    for kind in (EventType.REAUTHENTICATION_REFUSED, EventType.PASSWORD_CHANGE_REFUSED):
        work = [audit.record_alone(kind, user_id=alice.id) for _ in range(MOST + 20)]
        await asyncio.gather(*work[:5])
        for one in work[5:]:
            await one
        assert (await rows(service))[kind.value] == MOST
        assert await dropped(service, kind.value) == 20


async def test_an_owner_is_shown_guesses_beside_a_flood_at_addresses_that_are_made_up(
    service: Service,
) -> None:
    alice = await service.api.create_user()
    for number in range(2 * MOST):
        await guess(service.at(network(number)), f"made-up-{number}@example.com")
    await guess(service.at("192.0.2.1"), alice.email)
    await service.api.login(alice)
    shown = await service.api.get("/me/events")
    assert shown.status_code == 200
    assert '"login_refused"' in shown.text


def test_what_is_not_written_down_takes_no_place() -> None:
    floods, kind = Floods(), EventType.LOGIN_REFUSED
    for names_account in (True, False):
        for _ in range(3 * MOST):
            assert floods.admit(kind, names_account=names_account)
            floods.withdraw(kind, names_account=names_account)
    assert floods.dropped[kind] == 0
    floods.withdraw(EventType.THROTTLED, names_account=True)  # before its first window


async def test_refusals_while_the_database_is_away_leave_room_for_those_after(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await service.api.create_user()
    audit = service.api.services.audit

    async def fail(*_: object) -> None:
        raise StorageUnavailable

    with monkeypatch.context() as away:
        away.setattr(EventTable, "add_alone", fail)
        for _ in range(2 * MOST):
            assert not await audit.record_alone(EventType.LOGIN_REFUSED, user_id=user.id)
    assert await audit.record_alone(EventType.LOGIN_REFUSED, user_id=user.id)
    assert (await rows(service))["login_refused"] == 1


async def test_what_is_told_once_and_could_not_be_is_told_the_next_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await service.api.create_user()
    audit = service.api.services.audit
    add = EventTable.add_alone

    async def fail(*_: object) -> None:
        raise StorageUnavailable

    async def is_cancelled(*_: object) -> None:
        raise asyncio.CancelledError

    for broken in (fail, is_cancelled):
        monkeypatch.setattr(EventTable, "add_alone", broken)
        with suppress(asyncio.CancelledError):
            await audit.login_without_session(user.id, "basic")
        with suppress(asyncio.CancelledError):
            await audit.access_refused("insufficient_scope", None)
    monkeypatch.setattr(EventTable, "add_alone", add)
    for _ in range(2):
        await audit.login_without_session(user.id, "basic")
        await audit.access_refused("insufficient_scope", None)
    found = await rows(service)
    assert (found["login"], found["access_refused"]) == (1, 1)


async def test_a_refusal_that_a_deletion_overtakes_names_no_account(service: Service) -> None:
    """What told of its owner was taken out by then, and comes in no more."""
    user = await service.api.create_user()
    await service.api.services.accounts.delete(user.id)
    audit = service.api.services.audit
    assert await audit.record_alone(EventType.LOGIN_REFUSED, user_id=user.id)
    query = sa.select(models.events.c.user_id).where(models.events.c.type == "login_refused")
    async with service.api.services.database.engine.connect() as connection:
        assert (await connection.execute(query)).scalars().all() == [None]
