"""Personal access tokens: limits on scopes and lifetime, and their owner."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from authapi.crypto.secrets import hash_secret, is_opaque_token
from authapi.domain.client import Client, on_behalf_of
from authapi.domain.identity import Identity
from authapi.domain.session import SessionKind
from authapi.errors import InvalidInput, NotFound
from authapi.services import Services
from authapi.settings import Settings
from tests.storage.rows import AT, a_user, sql, store_user

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


@pytest.fixture
async def services(database_url: str) -> AsyncIterator[Services]:
    """Services on each database. No password is hashed, so they are not started."""
    found = Services.build(
        Settings(
            database_url=database_url,  # type: ignore[arg-type]
            scopes={"read": "", "write": "", "admin": ""},
            personal_token_lifetime=30 * DAY,
            personal_token_max_lifetime=60 * DAY,
        )
    )
    yield found
    await found.database.close()


@pytest.fixture
async def owner(services: Services) -> Identity:
    return Identity(
        user=await store_user(services.database, a_user()),
        strategy="session",
        session_id=None,
        scopes=frozenset({"read", "write"}),
        auth_time=AT,
        amr=("pwd",),
        expires_at=None,
    )


async def identify(services: Services, secret: str) -> Identity | None:
    return await services.sessions.identify_by_secret(
        hash_secret(secret), SessionKind.TOKEN, strategy="token"
    )


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (None, {"read", "write"}),
        ([], set()),
        (["read"], {"read"}),
        (["write", "read"], {"read", "write"}),
    ],
    ids=range(4),
)
async def test_a_token_has_the_requested_scopes(
    services: Services, owner: Identity, asked: list[str] | None, given: set[str]
) -> None:
    with on_behalf_of(lambda: Client("::1", "curl")):
        token, secret = await services.tokens.personal.create(
            owner, name="script", scopes=asked, lifetime=None
        )
    assert is_opaque_token(secret)
    assert (token.kind, token.name, token.client) == (
        SessionKind.TOKEN,
        "script",
        Client("::1", "curl"),
    )
    found = await identify(services, secret)
    assert found is not None
    assert found.scopes == given
    assert found.user == owner.user
    # Its `auth_time` is that of the login of its owner, and its `amr` is empty: never fresh.
    assert (found.auth_time, found.amr) == (AT, ())
    assert await services.tokens.personal.list_of(owner.user.id) == [token]


@pytest.mark.parametrize("scopes", [["admin"], ["read", "admin"], ["unknown"], ["READ"], [""]])
async def test_scopes_are_limited_to_those_of_the_owner(
    services: Services, owner: Identity, scopes: list[str]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await services.tokens.personal.create(owner, name="x", scopes=scopes, lifetime=None)
    [problem] = caught.value.errors
    assert (problem.loc, problem.code) == (("body", "scopes"), "scope_not_allowed")
    assert await services.tokens.personal.list_of(owner.user.id) == []


@pytest.mark.parametrize(
    ("asked", "given"), [(None, 30 * DAY), (60 * DAY, 60 * DAY), (SECOND, SECOND)], ids=range(3)
)
async def test_a_token_has_the_requested_lifetime(
    services: Services, owner: Identity, asked: timedelta | None, given: timedelta
) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        token, secret = await services.tokens.personal.create(
            owner, name="x", scopes=None, lifetime=asked
        )
        assert token.expires_at == NOON + given
        clock.move_to(NOON + given - timedelta(microseconds=1))
        assert await identify(services, secret) is not None
        clock.move_to(NOON + given)
        assert await identify(services, secret) is None
        assert await services.tokens.personal.list_of(owner.user.id) == []


async def test_a_lifetime_above_the_setting_is_refused(services: Services, owner: Identity) -> None:
    for lifetime in (60 * DAY + SECOND, timedelta(seconds=10**10)):
        with pytest.raises(InvalidInput) as caught:
            await services.tokens.personal.create(owner, name="x", scopes=None, lifetime=lifetime)
        [problem] = caught.value.errors
        assert (problem.loc, problem.code) == (("body", "expires_in"), "lifetime_too_long")


async def test_the_secret_is_not_stored(
    services: Services, owner: Identity, database_url: str
) -> None:
    _, secret = await services.tokens.personal.create(owner, name="x", scopes=None, lifetime=None)
    for table in ("sessions", "users"):
        for row in sql(database_url, f"SELECT * FROM authapi_{table}"):
            assert secret not in str(row)
            assert secret.encode().hex() not in str(row)


async def test_create_is_refused_for_deleted_and_deactivated_accounts(
    services: Services, owner: Identity
) -> None:
    await services.accounts.administration.change(owner.user.id, {"is_active": False})
    stranger = replace(owner, user=a_user())
    for maker in (owner, stranger):
        with pytest.raises(NotFound):
            await services.tokens.personal.create(maker, name="x", scopes=None, lifetime=None)


async def test_only_the_owner_can_end_a_token(services: Services, owner: Identity) -> None:
    bob = await store_user(services.database, a_user(), email="bob@example.com")
    token, secret = await services.tokens.personal.create(
        owner, name="x", scopes=None, lifetime=None
    )
    for attempt in (
        services.tokens.personal.end_own(token.id, replace(owner, user=bob, session_id=None)),
        services.sessions.end_own(token.id, owner),
        services.tokens.personal.end_own(bob.id, owner),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await identify(services, secret) is not None
    await services.tokens.personal.end_own(token.id, owner)
    assert await identify(services, secret) is None
    with pytest.raises(NotFound):
        await services.tokens.personal.end_own(token.id, owner)
