"""Signing and verifying of access tokens in one and in several processes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from authapi.domain.session import Session
from authapi.domain.signing_key import KeyState
from authapi.domain.user import User
from authapi.errors import ConfigurationError, StorageUnavailable, TokenError, Unavailable
from authapi.services import Services
from authapi.services.keys import Keys
from authapi.settings import Settings
from tests.storage.rows import AT, a_session, a_user, sql

MINUTE = timedelta(minutes=1)
ALICE = a_user()


@asynccontextmanager
async def run_services(url: str, **settings: Any) -> AsyncIterator[Services]:
    services = Services.build(Settings(database_url=url, **settings))  # type: ignore[arg-type]
    await services.start()
    yield services
    await services.stop()


async def token(keys: Keys, user: User = ALICE, **session: Any) -> str:
    return await keys.sign_access_token(
        user, a_session(user, **session), issued=AT, expires=AT + 10 * MINUTE
    )


async def test_an_access_token_is_valid_until_it_expires(sqlite_url: str) -> None:
    session: Session = a_session(ALICE)
    async with run_services(
        sqlite_url, public_url="https://auth.example", jwt_audience="api"
    ) as found:
        keys = found.keys
        signed = await keys.sign_access_token(ALICE, session, issued=AT, expires=AT + 10 * MINUTE)
        verified = await keys.verify_access_token(signed, now=AT + 5 * MINUTE)
        second = int(AT.timestamp())
        assert {name: value for name, value in verified.claims.items() if name != "jti"} == {
            "iss": "https://auth.example",
            "aud": "api",
            "sub": str(ALICE.id),
            "sid": str(session.id),
            "client_id": "authapi",
            "iat": second,
            "exp": second + 600,
            "auth_time": second,
            "amr": ["pwd"],
            "acr": "urn:authapi:acr:1",
            "scope": "a b",
        }
        assert verified.key.kid == (await keys.key_set()).signing.verifying.kid  # type: ignore[union-attr]  # it has one
        with pytest.raises(TokenError):
            await keys.verify_access_token(signed, now=datetime.fromtimestamp(second + 600, UTC))
        plain = await keys.verify_access_token(await token(keys, scopes=frozenset()), now=AT)
        assert "scope" not in plain.claims
        assert await token(keys) != await token(keys)


async def test_a_token_for_another_audience_is_rejected(services: Services) -> None:
    keys, session = services.keys, a_session(ALICE)
    signed = await keys.sign_access_token(
        ALICE,
        session,
        issued=AT,
        expires=AT + MINUTE,
        scopes={"a"},
        audience="reports",
    )
    with pytest.raises(TokenError):
        await keys.verify_access_token(signed, now=AT)
    verified = await keys.verify_access_token(signed, now=AT, audiences=("reports",))
    assert (verified.claims["aud"], verified.claims["scope"]) == ("reports", "a")


async def test_a_token_that_lives_longer_than_jwt_lifetime_is_rejected(sqlite_url: str) -> None:
    async with (
        run_services(sqlite_url) as found,
        run_services(sqlite_url, jwt_lifetime=MINUTE) as strict,
    ):
        signed = await token(found.keys)
        await found.keys.verify_access_token(signed, now=AT)
        with pytest.raises(TokenError):
            await strict.keys.verify_access_token(signed, now=AT)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
async def test_both_algorithms_sign_and_verify(sqlite_url: str, algorithm: str) -> None:
    async with run_services(sqlite_url, jwt_algorithm=algorithm) as found:
        verified = await found.keys.verify_access_token(await token(found.keys), now=AT)
        assert verified.key.algorithm == algorithm
        assert {key["alg"] for key in (await found.keys.jwk_set())["keys"]} == {algorithm}


async def test_processes_on_one_database_share_the_keys(database_url: str) -> None:
    async with run_services(database_url) as one, run_services(database_url) as other:
        assert await one.keys.jwk_set() == await other.keys.jwk_set()
        await other.keys.verify_access_token(await token(one.keys), now=AT)


async def test_a_start_with_another_secret_fails(database_url: str) -> None:
    async with run_services(database_url, secret="x" * 32) as found:
        before = await found.keys.jwk_set()
    other = Services.build(Settings(database_url=database_url, secret="y" * 32))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="another secret") as caught:
        await other.start()
    assert "\n" not in str(caught.value)
    assert "y" * 32 not in str(caught.value)
    async with run_services(database_url, secret="x" * 32) as again:
        assert await again.keys.jwk_set() == before, "no key was created"


async def test_a_new_key_of_another_process_is_read(database_url: str) -> None:
    async with run_services(database_url) as one, run_services(database_url) as other:
        for _ in range(2):  # `other` has not read the second new key
            await one.keys.rotate(early=True)
            signed = await token(one.keys)
            await other.keys.verify_access_token(signed, now=AT)
            # An unknown key is queried once a second: skip that time.
            other.keys._unknown_key_at = -10
        assert await one.keys.jwk_set() == await other.keys.jwk_set()


async def test_a_process_signs_with_the_key_that_another_activated(sqlite_url: str) -> None:
    async with run_services(sqlite_url) as one, run_services(sqlite_url) as other:
        active = await one.keys.rotate(early=True)
        other.identity_cache.clear()
        signed = await other.keys.verify_access_token(await token(other.keys), now=AT)
        assert signed.key.kid == active.kid


async def test_without_the_database_keys_in_memory_still_work(sqlite_url: str) -> None:
    async with run_services(sqlite_url) as found:
        signed = await token(found.keys)

        def broken() -> Any:
            raise StorageUnavailable

        found.database.read = broken  # type: ignore[method-assign]
        await found.keys.verify_access_token(signed, now=AT)
        assert await token(found.keys)
        head = "eyJhbGciOiJFUzI1NiIsImtpZCI6IngiLCJ0eXAiOiJhdCtqd3QifQ"
        with pytest.raises(StorageUnavailable):
            await found.keys.verify_access_token(f"{head}.e30.AAAA", now=AT)


async def test_after_a_rewrap_a_running_process_verifies_but_cannot_sign_after_a_rotation(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_services(sqlite_url, secret="x" * 32) as old:
        signed = await token(old.keys)
        assert await old.keys.lifecycle.rewrap(b"y" * 32) == 2
        old.identity_cache.clear()
        assert await token(old.keys), "the key is in memory"
        async with run_services(sqlite_url, secret="y" * 32) as new:
            await new.keys.verify_access_token(signed, now=AT)
            await new.keys.rotate(early=True)
            theirs = await token(new.keys)
        old.identity_cache.clear()
        with pytest.raises(Unavailable):
            await token(old.keys)
        assert "another secret" in caplog.text
        assert "x" * 32 not in caplog.text
        await old.keys.verify_access_token(theirs, now=AT)
        with pytest.raises(ConfigurationError, match="another secret"):
            await old.keys.rotate(early=True)


async def test_concurrent_callers_share_one_read(services: Services) -> None:
    services.identity_cache.clear()
    reads = 0
    read = services.database.read

    def count_reads() -> Any:
        nonlocal reads
        reads += 1
        return read()

    services.database.read = count_reads  # type: ignore[method-assign]
    await asyncio.gather(*(services.keys.key_set() for _ in range(20)))
    assert reads == 1


async def test_a_start_with_a_damaged_row_fails(services: Services, sqlite_url: str) -> None:
    async with services.database.transaction() as store:
        for key in await store.signing_keys.all():
            if key.state is KeyState.ACTIVE:
                assert key.private_key
                await store.signing_keys.reencrypt(key.kid, key.private_key[:-1] + b"\0")
    other = Services.build(services.settings)
    with pytest.raises(ConfigurationError, match="another secret"):
        await other.start()


async def test_a_key_set_has_an_age(services: Services) -> None:
    key_set = await services.keys.key_set()
    assert 0 <= key_set.age < time.monotonic()


async def test_keys_cannot_be_used_before_the_start(services: Services) -> None:
    fresh = Services.build(services.settings)
    with pytest.raises(RuntimeError, match="lifespan"):
        await token(fresh.keys)
    with pytest.raises(RuntimeError, match="lifespan"):
        await fresh.keys.verify_access_token("a.b.c", now=AT)
    with pytest.raises(RuntimeError, match="lifespan"):
        await fresh.keys.rotate()
    await fresh.stop()


async def test_a_row_damaged_at_run_time_does_not_affect_other_keys(
    services: Services, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    signed = await token(services.keys)
    active = (await services.keys.key_set()).signing
    assert active
    sql(
        sqlite_url,
        "INSERT INTO authapi_signing_keys (kid, algorithm, state, public_jwk, created_at) "
        "VALUES ('x', 'ES256', 'next', '{}', '2026-01-01'), "
        "('y', 'ES256', 'asleep', '{}', '2026-01-01')",
    )
    services.identity_cache.clear()
    kids = {key["kid"] for key in (await services.keys.jwk_set())["keys"]}
    assert active.verifying.kid in kids
    assert kids.isdisjoint({"x", "y"})
    assert "damaged" in caplog.text
    await services.keys.verify_access_token(signed, now=AT)
    await services.keys.verify_access_token(await token(services.keys), now=AT)
