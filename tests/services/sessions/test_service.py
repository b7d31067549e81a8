"""Sessions: lifetimes, data, and permission to end them."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import time_machine

from authapi.crypto.secrets import SecretHash, hash_secret
from authapi.domain.identity import Identity
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User
from authapi.errors import InvalidCredential, InvalidInput, NotFound
from authapi.services import Lifetime, Login, Services
from authapi.services.jobs import pruning
from authapi.settings import Settings
from tests.storage.rows import a_session, a_user, store_user

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SECRET = hash_secret("the secret")


@pytest.fixture
async def services(database_url: str) -> AsyncIterator[Services]:
    """Services on each database. They are not started, as these tests hash no passwords."""
    settings = Settings(database_url=database_url, scopes={"a": "", "b": ""})  # type: ignore[arg-type]
    found = Services.build(settings)
    yield found
    await found.database.close()


@pytest.fixture
async def alice(services: Services) -> User:
    return await store_user(services.database, a_user())


async def create(services: Services, user: User, **options: Any) -> Session:
    chosen: dict[str, Any] = {"lifetime": Lifetime(7 * DAY, DAY), "secret": SECRET}
    login = Login(user=user, credentials_version=0, auth_time=datetime.now(UTC), amr=("pwd",))
    return await services.sessions.create(login, SessionKind.SESSION, **(chosen | options))


async def identify(services: Services, secret: SecretHash = SECRET) -> Identity | None:
    return await services.sessions.identify_by_secret(
        secret, SessionKind.SESSION, strategy="session"
    )


async def merge_data(services: Services, changes: Mapping[str, object]) -> Mapping[str, object]:
    caller = await identify(services)
    assert caller is not None
    return await services.sessions.merge_data(caller, changes)


async def test_secret_identifies_its_session(services: Services, alice: User) -> None:
    session = await create(services, alice)
    assert await identify(services) == Identity(
        user=alice,
        strategy="session",
        session_id=session.id,
        scopes=frozenset({"a", "b"}),
        auth_time=session.auth_time,
        amr=("pwd",),
        expires_at=session.expires_at,
    )
    assert await identify(services, hash_secret("another")) is None


async def test_signed_session_is_identified_by_id_and_kind(services: Services, alice: User) -> None:
    login = Login(user=alice, credentials_version=0, auth_time=datetime.now(UTC), amr=("pwd",))
    lifetime = Lifetime(DAY)
    signed = await services.sessions.create(login, SessionKind.JWT, lifetime=lifetime)
    cookie = await create(services, alice)
    await services.keys.open()
    kid = (await services.keys.jwk_set())["keys"][0]["kid"]

    async def identify_by_id(session: Session, kind: SessionKind, user: User) -> Identity | None:
        return await services.sessions.identify_by_id(
            session.id,
            kind,
            user_id=user.id,
            strategy=kind.value,
            credential=hash_secret("signed"),
            kid=kid,
            expires_at=signed.expires_at,
            scopes=signed.scopes or (),
            snapshot=services.sessions.snapshot(),
        )

    found = await identify_by_id(signed, SessionKind.JWT, alice)
    assert found is not None
    assert found.session_id == signed.id
    assert await identify_by_id(cookie, SessionKind.JWT, alice) is None
    assert await identify_by_id(signed, SessionKind.SESSION, alice) is None
    assert await identify_by_id(signed, SessionKind.JWT, a_user()) is None, (
        "the session of another user"
    )


async def test_idle_session_ends(services: Services, alice: User) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        await create(services, alice)
        clock.move_to(NOON + DAY - SECOND)
        assert await identify(services) is not None
        # This counts as a use, so the session lasts for another day.
        clock.move_to(NOON + 2 * DAY - 2 * SECOND)
        assert await identify(services) is not None
        clock.move_to(NOON + 3 * DAY - 2 * SECOND)
        assert await identify(services) is None


async def test_written_use_counts_for_other_processes(
    services: Services, alice: User, database_url: str
) -> None:
    other = Services.build(Settings(database_url=database_url))  # type: ignore[arg-type]
    with time_machine.travel(NOON, tick=False) as clock:
        await create(services, alice)
        clock.move_to(NOON + DAY - SECOND)
        assert await identify(services) is not None
        await services.last_used.flush()
        clock.move_to(NOON + DAY + HOUR)
        assert await identify(other) is not None
        [listed] = await other.sessions.list_for_user(alice.id)
        assert listed.last_seen_at == NOON + DAY + HOUR
    await other.database.close()


async def test_used_session_ends_at_its_absolute_lifetime(services: Services, alice: User) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        await create(services, alice, lifetime=Lifetime(3 * HOUR, HOUR))
        for step in range(1, 6):
            clock.move_to(NOON + step * HOUR / 2)
            assert await identify(services) is not None
        clock.move_to(NOON + 3 * HOUR - SECOND)
        assert await identify(services) is not None
        clock.move_to(NOON + 3 * HOUR)
        assert await identify(services) is None


async def test_session_without_idle_limit_ends_at_its_absolute_lifetime(
    services: Services, alice: User
) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        await create(services, alice, lifetime=Lifetime(30 * DAY))
        clock.move_to(NOON + 30 * DAY - SECOND)
        assert await identify(services) is not None
        clock.move_to(NOON + 30 * DAY)
        assert await identify(services) is None


async def test_login_replaces_the_session_of_the_browser(services: Services, alice: User) -> None:
    first, second = hash_secret("first"), hash_secret("second")
    await create(services, alice, secret=first)
    await create(services, alice, secret=second, replaces=first)
    # A request with the first cookie may still be in transit: it is rejected, and the response does
    # not delete the cookie.
    with pytest.raises(InvalidCredential):
        await identify(services, first)
    assert await identify(services, second) is not None
    with time_machine.travel(datetime.now(UTC) + 2 * MINUTE, tick=False):
        assert await identify(services, first) is None
        assert await identify(services, second) is not None
    # Only a session of the same kind is replaced: a cookie login does not end a token.
    token = a_session(alice, kind=SessionKind.TOKEN, name="script")
    async with services.database.transaction() as store:
        await store.sessions.add(token, first)
    await create(services, alice, secret=hash_secret("third"), replaces=first)
    assert [found.id for found in await services.tokens.personal.list_of(alice.id)] == []
    async with services.database.read() as store:
        assert await store.sessions.find_by_secret(first, SessionKind.TOKEN) is not None


async def test_data_is_merged_and_null_removes_a_key(services: Services, alice: User) -> None:
    session = await create(services, alice)
    get_data, merge = services.sessions.get_data, partial(merge_data, services)
    assert await get_data(session.id) == {}
    assert await merge({"a": 1, "b": {"c": [None]}}) == {"a": 1, "b": {"c": [None]}}
    changed = await merge({"a": None, "b": {"d": "é"}, "missing": None, "z": False})
    assert changed == {"b": {"d": "é"}, "z": False}
    assert await get_data(session.id) == changed
    assert await merge({}) == changed


@pytest.mark.parametrize("letter", ["x", "é", "🐎", "\\", "\n"], ids=range(5))
async def test_data_is_limited_in_bytes_of_json(
    services: Services, alice: User, letter: str
) -> None:
    session = await create(services, alice)
    size = len(json.dumps({"k": letter}, separators=(",", ":"), ensure_ascii=False).encode())
    each = size - len(b'{"k":""}')
    most = letter * ((4096 - len(b'{"k":""}')) // each)
    merge = partial(merge_data, services)
    assert await merge({"k": most}) == {"k": most}
    for changes in ({"k": most + letter}, {"other": "x" * 9}, {"other": ["x"] * 2000}):
        with pytest.raises(InvalidInput) as caught:
            await merge(changes)
        [problem] = caught.value.errors
        assert problem.code == "session_data_too_large"
        assert await services.sessions.get_data(session.id) == {"k": most}
    # Data at the limit can still be removed.
    assert await merge({"k": None, "other": "x"}) == {"other": "x"}


async def test_data_of_an_ended_session_is_not_found(services: Services, alice: User) -> None:
    session = await create(services, alice)
    caller = await identify(services)
    assert caller is not None
    assert await services.sessions.end(session.id) == 1
    assert await services.sessions.end(session.id) == 0
    with pytest.raises(NotFound):
        await services.sessions.get_data(session.id)
    with pytest.raises(InvalidCredential):
        await services.sessions.merge_data(caller, {"a": 1})
    with pytest.raises(NotFound):
        await services.sessions.merge_data(replace(caller, session_id=None), {"a": 1})


async def test_only_the_owner_can_end_a_session(services: Services, alice: User) -> None:
    bob = await store_user(services.database, a_user(), email="bob@example.com")
    session = await create(services, alice)
    await create(services, bob, secret=hash_secret("his"))
    hers, his = await identify(services), await identify(services, hash_secret("his"))
    assert hers is not None
    assert his is not None
    for attempt in (
        services.sessions.end_own(session.id, his),
        services.sessions.end_own(bob.id, hers),
        services.tokens.personal.end_own(session.id, hers),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await identify(services) is not None
    await services.sessions.end_own(session.id, hers)
    assert await identify(services) is None


async def test_end_others_keeps_the_current_session_and_tokens(
    services: Services, alice: User
) -> None:
    kept = await create(services, alice)
    for number in range(3):
        await create(services, alice, secret=hash_secret(str(number)))
    caller = await identify(services)
    assert caller is not None
    await services.tokens.personal.create(caller, name="x", scopes=None, lifetime=None)
    assert await services.sessions.end_others(caller) == 3
    assert [found.id for found in await services.sessions.list_for_user(alice.id)] == [kept.id]
    assert len(await services.tokens.personal.list_of(alice.id)) == 1
    without_session = replace(caller, session_id=None)
    assert await services.sessions.end_others(without_session) == 1
    assert await services.sessions.end_all(alice.id) == 1


async def test_pruning_keeps_live_sessions(
    services: Services, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "BATCH", 2)
    with time_machine.travel(NOON, tick=False):
        ages = [-30 * DAY, -DAY, -2 * HOUR, -HOUR - SECOND, -3 * HOUR, -HOUR, -SECOND, SECOND, DAY]
        made = [a_session(alice, expires_at=NOON + age, idle_expires_at=None) for age in ages]
        idle = a_session(alice, expires_at=NOON + DAY, idle_expires_at=NOON - 30 * DAY)
        async with services.database.transaction() as store:
            for session in (*made, idle):
                await store.sessions.add(session, hash_secret(str(session.id)))
        assert await services.sessions.prune() == 5
        assert await services.sessions.prune() == 0
        async with services.database.read() as store:
            left = await store.sessions.list_for_user(alice.id, personal=False, now=NOON - 99 * DAY)
    kept = {session.id for session, age in zip(made, ages, strict=True) if age >= -HOUR}
    assert {session.id for session in left} == kept | {idle.id}


async def test_list_includes_uses_that_are_not_written_yet(services: Services, alice: User) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        await create(services, alice)
        clock.shift(HOUR)
        await identify(services)
        [listed] = await services.sessions.list_for_user(alice.id)
        assert listed.last_seen_at == NOON + HOUR
        assert listed.created_at == NOON


async def test_concurrent_uses_of_a_session_are_one_session(
    services: Services, alice: User
) -> None:
    session = await create(services, alice)
    found = await asyncio.gather(*(identify(services) for _ in range(30)))
    assert {identity and identity.session_id for identity in found} == {session.id}
