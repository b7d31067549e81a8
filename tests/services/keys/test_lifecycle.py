"""The lifecycle of signing keys, with one and with several processes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import time_machine

from authapi.crypto.encryption import Cipher
from authapi.domain.email_address import parse_email
from authapi.domain.signing_key import KeyState, StoredKey
from authapi.errors import ConfigurationError, KeyNotPublished, NotFound, UnsupportedKey
from authapi.services import Services
from authapi.services.factors.proofs import WrongSecondFactor
from authapi.services.keys.key_set import decrypt_private_key, private_key_context
from authapi.settings import Settings
from tests.second_factors import add_second_factors
from tests.storage.rows import sql

START = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
NEXT, ACTIVE, RETIRED = KeyState.NEXT, KeyState.ACTIVE, KeyState.RETIRED


async def stored(services: Services) -> Sequence[StoredKey]:
    async with services.database.read() as store:
        return await store.signing_keys.all()


async def states(services: Services) -> dict[str, KeyState]:
    return {key.kid: key.state for key in await stored(services)}


async def key_in_state(services: Services, state: KeyState) -> StoredKey:
    [found] = [key for key in await stored(services) if key.state is state]
    return found


def events(services: Services) -> list[str]:
    return [
        row[0]
        for row in sql(
            services.settings.resolved_database_url,
            "SELECT type FROM authapi_events ORDER BY type DESC",
        )
    ]


@pytest.fixture
async def clock() -> AsyncIterator[time_machine.Traveller]:
    with time_machine.travel(START, tick=False) as found:
        yield found


@pytest.fixture
async def found(clock: time_machine.Traveller, database_url: str) -> AsyncIterator[Services]:
    """Started services with a stopped clock, on each database."""
    services = Services.build(Settings(database_url=database_url))  # type: ignore[arg-type]
    await services.start()
    yield services
    await services.stop()


async def test_the_first_start_creates_an_active_and_a_next_key(found: Services) -> None:
    active, upcoming = await key_in_state(found, ACTIVE), await key_in_state(found, NEXT)
    assert len(await stored(found)) == 2
    assert (active.created_at, active.activated_at, active.retired_at) == (START, START, None)
    assert (upcoming.created_at, upcoming.activated_at) == (START, None)
    for key in (active, upcoming):
        assert "d" not in key.public_jwk
        assert key.public_jwk["kid"] == key.kid
        assert key.private_key
        assert not key.kid.startswith("-")


async def test_processes_that_start_together_create_one_pair(database_url: str) -> None:
    built = [Services.build(Settings(database_url=database_url)) for _ in range(4)]  # type: ignore[arg-type]
    await asyncio.gather(*(services.keys.open() for services in built))
    try:
        assert sorted((await states(built[0])).values()) == [ACTIVE, NEXT]
        sets = [await services.keys.jwk_set() for services in built]
        assert all(one == other for one, other in pairwise(sets))
    finally:
        for services in built:
            await services.stop()


async def test_private_keys_are_encrypted_for_their_row(found: Services) -> None:
    own = (found.settings.data_dir / "secret").read_text().strip().encode()
    active, upcoming = await key_in_state(found, ACTIVE), await key_in_state(found, NEXT)
    for key in (active, upcoming):
        assert decrypt_private_key(key, Cipher(own)).verifying.kid == key.kid
        assert b"PRIVATE" not in (key.private_key or b"")
    async with found.database.transaction() as store:
        await store.signing_keys.reencrypt(active.kid, upcoming.private_key or b"")
    with pytest.raises(ConfigurationError):
        await Services.build(found.settings).start()
    # A private key of another row, encrypted for this one, is rejected too.
    der = Cipher(own).decrypt(
        upcoming.private_key or b"", context=private_key_context(upcoming.kid)
    )
    forged = Cipher(own).encrypt(der, context=private_key_context(active.kid))
    async with found.database.transaction() as store:
        await store.signing_keys.reencrypt(active.kid, forged)
    with pytest.raises(UnsupportedKey):
        decrypt_private_key(await key_in_state(found, ACTIVE), Cipher(own))
    with pytest.raises(ConfigurationError):
        await Services.build(found.settings).start()


async def test_a_rotation_advances_every_key(
    found: Services, clock: time_machine.Traveller
) -> None:
    active, upcoming = await key_in_state(found, ACTIVE), await key_in_state(found, NEXT)
    clock.shift(6 * MINUTE)
    assert (await found.keys.rotate()).kid == upcoming.kid
    retired, signs = await key_in_state(found, RETIRED), await key_in_state(found, ACTIVE)
    assert (retired.kid, signs.kid) == (active.kid, upcoming.kid)
    assert signs.activated_at == retired.retired_at == START + 6 * MINUTE
    assert retired.private_key is None, "a retired key does not sign"
    assert retired.published_until
    assert retired.published_until - START - 6 * MINUTE > found.settings.jwt_lifetime
    fresh = await key_in_state(found, NEXT)
    assert fresh.kid not in {active.kid, upcoming.kid}
    assert (await found.keys.key_set()).signing.verifying.kid == upcoming.kid  # type: ignore[union-attr]
    published = {key["kid"] for key in (await found.keys.jwk_set())["keys"]}
    assert published == {active.kid, upcoming.kid, fresh.kid}
    assert events(found) == ["key_rotated"]


async def test_a_key_is_not_activated_before_all_verifiers_have_read_it(
    found: Services, clock: time_machine.Traveller
) -> None:
    before = await states(found)
    for _ in range(2):
        with pytest.raises(KeyNotPublished):
            await found.keys.rotate()
        assert await states(found) == before
        clock.shift(3 * MINUTE - timedelta(seconds=0.5))
    await found.keys.rotate(early=True)
    clock.shift(6 * MINUTE)
    await found.keys.rotate()


async def test_a_retired_key_is_published_until_its_tokens_expire(
    found: Services, clock: time_machine.Traveller
) -> None:
    old = await key_in_state(found, ACTIVE)
    clock.shift(DAY)
    await found.keys.rotate()
    until = (await key_in_state(found, RETIRED)).published_until
    assert until
    for moment, there in ((until - timedelta(seconds=1), True), (until, False)):
        clock.move_to(moment, tick=False)
        found.identity_cache.clear()
        kids = {key["kid"] for key in (await found.keys.jwk_set())["keys"]}
        assert (old.kid in kids) == there
    clock.shift(timedelta(seconds=1))
    assert (await found.cleanup.run_once())["signing keys"] == 1
    assert sorted((await states(found)).values()) == [ACTIVE, NEXT]


async def test_retiring_the_active_key_activates_the_next_one(found: Services) -> None:
    active, upcoming = await key_in_state(found, ACTIVE), await key_in_state(found, NEXT)
    await found.keys.lifecycle.retire(active.kid)
    assert await states(found) == {
        upcoming.kid: ACTIVE,
        (await key_in_state(found, NEXT)).kid: NEXT,
    }
    key_set = await found.keys.key_set()
    assert key_set.signing.verifying.kid == upcoming.kid  # type: ignore[union-attr]
    assert active.kid not in key_set.verifying
    assert events(found) == ["key_rotated", "key_retired"]


async def test_retiring_the_next_key_replaces_it(found: Services) -> None:
    active, upcoming = await key_in_state(found, ACTIVE), await key_in_state(found, NEXT)
    await found.keys.lifecycle.retire(upcoming.kid)
    assert (await key_in_state(found, ACTIVE)).kid == active.kid
    assert (await key_in_state(found, NEXT)).kid != upcoming.kid
    assert events(found) == ["key_retired"]


async def test_a_retired_key_can_be_removed_early(found: Services) -> None:
    old = await key_in_state(found, ACTIVE)
    await found.keys.rotate(early=True)
    await found.keys.lifecycle.retire(old.kid)
    assert old.kid not in await states(found)
    with pytest.raises(NotFound):
        await found.keys.lifecycle.retire(old.kid)


async def test_one_process_rotates_a_key_by_age(
    found: Services, clock: time_machine.Traveller
) -> None:
    others = [Services.build(found.settings) for _ in range(3)]
    for other in others:
        await other.open()
    processes = [found, *others]
    try:
        upcoming = await key_in_state(found, NEXT)
        clock.shift(90 * DAY - timedelta(seconds=1))
        assert await found.keys.lifecycle.maintain() is None
        clock.shift(timedelta(seconds=1))
        done = await asyncio.gather(*(one.keys.lifecycle.maintain() for one in processes))
        assert [key.kid for key in done if key] == [upcoming.kid]
        assert sorted((await states(found)).values()) == [ACTIVE, NEXT, RETIRED]
        assert await found.keys.lifecycle.maintain() is None
    finally:
        for other in others:
            await other.stop()


async def test_a_rotation_by_age_waits_for_the_publication(
    clock: time_machine.Traveller, sqlite_url: str
) -> None:
    settings = Settings(database_url=sqlite_url, key_rotation=MINUTE)  # type: ignore[arg-type]
    services = Services.build(settings)
    await services.open()
    try:
        for _ in range(5):
            clock.shift(MINUTE)
            assert await services.keys.lifecycle.maintain() is None
        clock.shift(MINUTE)
        assert await services.keys.lifecycle.maintain() is not None
    finally:
        await services.stop()


async def test_the_next_key_has_the_algorithm_of_the_settings(
    found: Services, clock: time_machine.Traveller
) -> None:
    settings = found.settings.model_copy(update={"jwt_algorithm": "RS256"})
    services = Services.build(settings)
    await services.open()
    try:
        assert {key.algorithm for key in await stored(found)} == {"ES256"}
        assert await services.keys.lifecycle.maintain() is None
        assert (await key_in_state(found, ACTIVE)).algorithm == "ES256"
        assert (await key_in_state(found, NEXT)).algorithm == "RS256"
        clock.shift(6 * MINUTE)
        assert (await services.keys.rotate()).algorithm == "RS256"
        verifying = (await services.keys.key_set()).verifying
        assert sorted(key.algorithm for key in verifying.values()) == ["ES256", "RS256", "RS256"]
    finally:
        await services.stop()


async def test_rewrap_changes_the_secret_and_no_key(database_url: str) -> None:
    def build(letter: str) -> Services:
        return Services.build(Settings(database_url=database_url, secret=letter * 32))  # type: ignore[arg-type]

    old, new = build("x"), build("y")
    await old.open()
    before = await old.keys.jwk_set()
    new.keys.load_secret()
    with pytest.raises(ConfigurationError, match="another secret"):
        await new.keys.lifecycle.rewrap(b"z" * 32)
    assert await old.keys.lifecycle.rewrap(b"y" * 32) == 2
    await new.open()
    assert await new.keys.jwk_set() == before
    with pytest.raises(ConfigurationError, match="another secret"):
        await build("x").start()
    for services in (old, new):
        await services.stop()
    assert events(new) == ["keys_rewrapped"]


async def test_authenticator_apps_work_with_a_new_secret(database_url: str) -> None:
    def build(letter: str) -> Services:
        return Services.build(Settings(database_url=database_url, secret=letter * 32))  # type: ignore[arg-type]

    old, new = build("x"), build("y")
    await old.open()
    create = old.accounts.registration.create
    alice, bob = [await create(parse_email(f"{name}@example.com"), None) for name in "ab"]
    hers, his = [await add_second_factors(old, user) for user in (alice, bob)]
    async with old.database.transaction() as store:
        factor = await store.totp_factors.find(bob.id)
        assert factor is not None
        await store.totp_factors.reencrypt(factor.id, b"modified")
    assert await old.keys.lifecycle.rewrap(b"y" * 32) == 2
    await new.open()
    try:
        await new.factors.proofs.check(hers.user, code=hers.code())
        for services, factors in ((old, hers), (new, his)):
            with pytest.raises(WrongSecondFactor):
                await services.factors.proofs.check(factors.user, code=factors.code())
        async with new.database.read() as store:
            kept = await store.totp_factors.find(bob.id)
        assert kept is not None
        assert kept.secret == b"modified", "what cannot be decrypted stays"
    finally:
        for services in (old, new):
            await services.stop()


async def test_retire_all_allows_a_start_with_a_new_secret(database_url: str) -> None:
    def build(letter: str) -> Services:
        return Services.build(Settings(database_url=database_url, secret=letter * 32))  # type: ignore[arg-type]

    old, new = build("x"), build("y")
    await old.open()
    gone = set(await states(old))
    await old.stop()
    new.keys.load_secret()
    assert await new.keys.lifecycle.retire_all() == 2
    await new.open()
    assert gone.isdisjoint(await states(new))
    await new.stop()


async def test_the_task_refreshes_the_keys_and_survives_failures(
    found: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rounds: list[str] = []
    asleep = asyncio.Event()
    go = asyncio.Event()

    async def sleep(_: float) -> None:
        asleep.set()
        await go.wait()
        go.clear()

    async def maintain() -> None:
        rounds.append("maintain")
        if len(rounds) == 1:
            raise RuntimeError("driver error")
        if len(rounds) == 2:
            raise ConfigurationError("another secret")

    await found.keys.stop()
    monkeypatch.setattr("authapi.services.keys.signing.asyncio.sleep", sleep)
    monkeypatch.setattr(found.keys.lifecycle, "maintain", maintain)
    await found.keys.start()
    before: Any = found.keys._key_set
    for _ in range(3):
        await asleep.wait()
        asleep.clear()
        go.set()
    await asleep.wait()
    assert rounds == ["maintain"] * 3
    assert found.keys._key_set is not before
    assert "signing keys not refreshed, will retry" in caplog.text
    assert "another secret" in caplog.text
