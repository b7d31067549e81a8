"""Token exchange: limits on audience, scopes and lifetime, and live sessions only."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from authapi.clock import now
from authapi.crypto.secrets import hash_secret, new_secret
from authapi.domain.identity import Identity
from authapi.domain.session import SessionKind
from authapi.errors import InvalidCredential, InvalidInput, TokenError
from authapi.services import Lifetime, Login, Services
from authapi.services.tokens import ExchangedToken
from authapi.settings import Settings
from tests.storage.rows import a_user, sql, store_user

NOON = datetime(2026, 5, 1, 12, 0, 0, 600_000, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)


@pytest.fixture
async def services(database_url: str) -> AsyncIterator[Services]:
    found = Services.build(
        Settings(
            database_url=database_url,  # type: ignore[arg-type]  # pydantic converts
            scopes={"read": "", "write": "", "admin": ""},
            jwt_audiences=("billing", "reports"),
        )
    )
    await found.keys.open()
    yield found
    await found.database.close()


@pytest.fixture
async def caller(services: Services) -> Identity:
    return await log_in(services)


async def log_in(
    services: Services,
    lifetime: Lifetime = Lifetime(DAY),  # noqa: B008  # frozen
    scopes: frozenset[str] = frozenset({"read", "write"}),
) -> Identity:
    """The identity of a new cookie session."""
    user = await store_user(services.database, a_user(), email=f"{new_secret()}@example.com")
    secret = hash_secret(new_secret())
    login = Login(user, 0, now(), ("pwd",), scopes=scopes)
    kind = SessionKind.SESSION
    await services.sessions.create(login, kind, lifetime=lifetime, secret=secret)
    found = await services.sessions.identify_by_secret(secret, kind, strategy="session")
    assert found is not None
    return found


async def claims(services: Services, token: ExchangedToken) -> Mapping[str, object]:
    found = await services.keys.verify_access_token(
        token.text, now=now(), audiences=(token.audience,)
    )
    return found.claims


async def test_the_jwt_names_the_caller(services: Services, caller: Identity) -> None:
    token = await services.tokens.exchange.exchange(caller, audience="billing")
    told = await claims(services, token)
    assert told.keys() == {
        *("iss", "sub", "aud", "exp", "iat", "jti", "client_id"),
        *("sid", "auth_time", "amr", "acr", "scope"),
    }
    assert told["client_id"] == "authapi"
    assert (told["sub"], told["sid"]) == (str(caller.user.id), str(caller.session_id))
    assert (told["aud"], told["scope"], told["amr"]) == ("billing", "read write", ["pwd"])
    assert told["auth_time"] == int(caller.auth_time.timestamp())
    assert token.scopes == {"read", "write"}
    for other in ("reports", "authapi"):
        with pytest.raises(TokenError):
            await services.keys.verify_access_token(token.text, now=now(), audiences=(other,))
    again = await services.tokens.exchange.exchange(caller, audience="billing")
    assert (await claims(services, again))["jti"] != told["jti"]


@pytest.mark.parametrize("audience", ["authapi", "", "BILLING", "billing ", "billing,reports"])
async def test_other_audiences_are_refused(
    services: Services, caller: Identity, audience: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await services.tokens.exchange.exchange(caller, audience=audience)
    [problem] = caught.value.errors
    assert (problem.loc, problem.code) == (("body", "audience"), "audience_not_allowed")
    assert audience not in problem.message or not audience


async def test_scopes_are_limited_to_those_of_the_caller(
    services: Services, caller: Identity
) -> None:
    for scopes in (["admin"], ["read", "admin"], ["unknown"], [""]):
        with pytest.raises(InvalidInput) as caught:
            await services.tokens.exchange.exchange(caller, audience="billing", scopes=scopes)
        assert caught.value.errors[0].code == "scope_not_allowed"
    # A JWT that was narrowed at its refresh has fewer scopes than its session.
    narrow = replace(caller, scopes=frozenset({"read"}))
    with pytest.raises(InvalidInput):
        await services.tokens.exchange.exchange(narrow, audience="billing", scopes=["write"])
    assert (await services.tokens.exchange.exchange(narrow, audience="billing")).scopes == {"read"}
    none = await services.tokens.exchange.exchange(caller, audience="billing", scopes=[])
    assert "scope" not in await claims(services, none)


@pytest.mark.parametrize(
    ("asked", "given"), [(None, 600), (600 * SECOND, 600), (SECOND, 1)], ids=range(3)
)
async def test_the_lifetime_is_limited_by_the_settings(
    services: Services, asked: timedelta | None, given: int
) -> None:
    with time_machine.travel(NOON, tick=False):
        caller = await log_in(services)
        token = await services.tokens.exchange.exchange(caller, audience="billing", lifetime=asked)
        told = await claims(services, token)
        assert told["iat"] == int(NOON.timestamp())
        assert told["exp"] == int(NOON.timestamp()) + given
        assert token.expires_at - token.issued_at == given * SECOND
        with pytest.raises(InvalidInput) as caught:
            await services.tokens.exchange.exchange(
                caller, audience="billing", lifetime=601 * SECOND
            )
        assert caught.value.errors[0].code == "lifetime_too_long"


async def test_the_jwt_expires_no_later_than_its_session_and_credential(services: Services) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        caller = await log_in(services, Lifetime(MINUTE))
        token = await services.tokens.exchange.exchange(caller, audience="billing")
        assert token.expires_at == (NOON + MINUTE).replace(microsecond=0)
        # An access token expires before its session.
        brief = replace(caller, expires_at=NOON + 5 * SECOND)
        token = await services.tokens.exchange.exchange(brief, audience="billing")
        assert token.expires_at == (NOON + 5 * SECOND).replace(microsecond=0)
        # A JWT that would expire at once is not issued.
        clock.shift(59 * SECOND + timedelta(milliseconds=500))
        with pytest.raises(InvalidCredential):
            await services.tokens.exchange.exchange(caller, audience="billing")


async def test_an_ended_session_is_refused(services: Services, caller: Identity) -> None:
    await services.tokens.exchange.exchange(caller, audience="billing")
    assert caller.session_id is not None
    await services.sessions.end(caller.session_id)
    # The identity is from before the end of the session, as in the cache of another process.
    with pytest.raises(InvalidCredential):
        await services.tokens.exchange.exchange(caller, audience="billing")


async def test_a_replaced_secret_is_refused(services: Services, caller: Identity) -> None:
    assert caller.session_id is not None
    async with services.database.transaction() as store:
        await store.sessions.replace_secret(
            caller.session_id, hash_secret("another"), auth_time=now() + SECOND
        )
    with pytest.raises(InvalidCredential):
        await services.tokens.exchange.exchange(caller, audience="billing")


async def test_a_deactivated_or_idle_caller_is_refused(
    services: Services, caller: Identity
) -> None:
    idle = await log_in(services, Lifetime(DAY, idle=MINUTE))
    for stranger in (
        replace(caller, session_id=None),
        replace(caller, user=idle.user),
        replace(idle, session_id=caller.session_id),
    ):
        with pytest.raises(InvalidCredential):
            await services.tokens.exchange.exchange(stranger, audience="billing")
    with time_machine.travel(now() + 2 * MINUTE), pytest.raises(InvalidCredential):
        await services.tokens.exchange.exchange(idle, audience="billing")
    with time_machine.travel(now() + 2 * DAY), pytest.raises(InvalidCredential):
        await services.tokens.exchange.exchange(caller, audience="billing")
    await services.accounts.administration.change(idle.user.id, {"is_active": False})
    with pytest.raises(InvalidCredential):
        await services.tokens.exchange.exchange(idle, audience="billing")


async def test_a_jwt_for_a_personal_access_token_is_not_fresh(
    services: Services, caller: Identity
) -> None:
    _, secret = await services.tokens.personal.create(
        caller, name="x", scopes=["read"], lifetime=None
    )
    personal = await services.sessions.identify_by_secret(
        hash_secret(secret), SessionKind.TOKEN, strategy="token"
    )
    assert personal is not None
    told = await claims(
        services, await services.tokens.exchange.exchange(personal, audience="billing")
    )
    assert (told["amr"], told["scope"], told["sid"]) == ([], "read", str(personal.session_id))


async def test_nothing_is_written(services: Services, caller: Identity, database_url: str) -> None:
    tables = ("sessions", "events", "refresh_families", "users")
    before = [sql(database_url, f"SELECT * FROM authapi_{table}") for table in tables]
    await services.tokens.exchange.exchange(caller, audience="billing")
    assert [sql(database_url, f"SELECT * FROM authapi_{table}") for table in tables] == before
