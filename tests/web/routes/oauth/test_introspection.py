"""POST /token/introspect (RFC 7662)."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from hypothesis import given

from authapi import Settings, create_app
from authapi.crypto.refresh_tokens import new_refresh_token
from authapi.crypto.secrets import new_opaque_token
from authapi.errors import StorageUnavailable
from authapi.testing import PASSWORD, Client, acting_as, client
from authapi.testing.strategy_harness import statements
from tests.conftest import SettingsFactory
from tests.security.attack import claims_of
from tests.web.logins import STRATEGIES, sign_in
from tests.web.responses import BEARER, METADATA, check_headers, problem
from tests.web.tokens import GARBAGE, OTHER, bearer, few, login, minted, refreshed, tokens_of

DEAD = b'{"active":false}'
SCOPES = {"reports:read": "Read reports", "b": "Another"}
ISSUER = "http://127.0.0.1:8000"


@pytest.fixture
async def api_on_both(database_url: str) -> AsyncIterator[Client]:
    """The service on each database, with a superuser logged in."""
    changes = {"jwt_audiences": OTHER, "scopes": SCOPES}
    settings = Settings(database_url=database_url, **changes)  # type: ignore[arg-type]
    async with client(create_app(settings)) as api:
        await api.login(
            await api.create_user("root@example.com", is_superuser=True), strategy="jwt"
        )
        yield api


@pytest.fixture
async def api_on_sqlite(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    """The same on SQLite only."""
    app = create_app(make_settings(jwt_audiences=(OTHER,), scopes=SCOPES))
    async with client(app) as api:
        await api.login(
            await api.create_user("root@example.com", is_superuser=True), strategy="jwt"
        )
        yield api


async def introspect(api: Client, token: str, **fields: str) -> dict[str, object]:
    """The response for an active token."""
    answer = await api.post("/token/introspect", data={"token": token, **fields})
    assert answer.status_code == 200, answer.text
    check_headers(answer)
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, object] = answer.json()
    assert body["active"] is True, body
    return body


async def check_inactive(api: Client, token: str) -> None:
    """Check that the response is exactly that of an inactive token."""
    answer = await api.post("/token/introspect", data={"token": token})
    assert (answer.status_code, answer.content) == (200, DEAD)
    check_headers(answer)


async def test_each_kind_of_token_is_introspected(api_on_both: Client) -> None:
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=5)
    with time_machine.travel(moment, tick=False):
        held = await tokens_of(
            api_on_both, await api_on_both.create_user("alice@example.com", name="Alice")
        )
        at = int(moment.timestamp())
        login = {"iss": ISSUER, "sub": str(held.user.id), "iat": at, "active": True}
        login |= {"client_id": "authapi"}
        login |= {"scope": "b reports:read", "auth_time": at, "amr": ["pwd"]}
        login |= {"acr": "urn:authapi:acr:1"}
        access = {**login, "token_type": "Bearer", "aud": "authapi"}
        claims = claims_of(held.jwt)
        jwt = {"jti": claims["jti"], "sid": claims["sid"], "exp": at + 600}
        assert await introspect(api_on_both, held.jwt) == access | jwt
        # This JWT is for another service, and belongs to another login.
        claims = claims_of(held.minted)
        foreign = {"jti": claims["jti"], "sid": claims["sid"], "exp": at + 600, "aud": OTHER}
        assert await introspect(api_on_both, held.minted) == access | foreign
        # Resource servers refuse it: it has another `token_type`, and another audience.
        month, fortnight = 30 * 86400, 14 * 86400
        assert await introspect(api_on_both, held.refresh) == login | {
            "token_type": "refresh_token",
            "aud": ISSUER,
            "sid": jwt["sid"],
            "exp": at + fortnight,
        }
        claims = await introspect(api_on_both, held.opaque)
        assert claims.pop("sid") not in (jwt["sid"], foreign["sid"])
        assert claims == access | {"exp": at + month}
        # A personal access token is not the result of a login, so it has none of these.
        claims = await introspect(api_on_both, held.personal)
        del claims["sid"], access["auth_time"], access["amr"], access["acr"]
        assert claims == access | {"exp": at + 90 * 86400}
        for token in held.all().values():
            text = str(await introspect(api_on_both, token)).lower()
            assert "alice" not in text
            assert "email" not in text


async def test_a_jwt_keeps_its_signed_scopes(api_on_sqlite: Client) -> None:
    await api_on_sqlite.create_user("alice@example.com")
    form = {"grant_type": "password", "username": "alice@example.com", "password": PASSWORD}
    granted = (await api_on_sqlite.post("/token", data={**form, "scope": "b"})).json()
    assert (await introspect(api_on_sqlite, granted["access_token"]))["scope"] == "b"
    assert (await introspect(api_on_sqlite, granted["refresh_token"]))["scope"] == "b"


async def test_an_empty_scope_is_omitted(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings())) as api:
        root = await api.create_user(is_superuser=True)
        alice = await api.create_user()
        token = (await login(api, alice, "token"))["access_token"]
        await api.login(root, strategy="token")
        assert "scope" not in await introspect(api, token)


async def test_introspection_does_not_use_up_a_refresh_token(api_on_both: Client) -> None:
    alice = await api_on_both.create_user()
    first = (await login(api_on_both, alice, "jwt"))["refresh_token"]
    before = await introspect(api_on_both, first)
    assert await introspect(api_on_both, first) == before
    second = (await refreshed(api_on_both, first))["refresh_token"]
    # It can still be exchanged in the grace period, but it is no longer the current token.
    await check_inactive(api_on_both, first)
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=5)):
        await check_inactive(api_on_both, first)
        third = (await refreshed(api_on_both, second))["refresh_token"]
    assert await introspect(api_on_both, third)
    events = await api_on_both.services.audit.page(alice.id, before=None, limit=50)
    assert {event.type.value for event in events} == {"account_registered", "login"}


async def test_introspection_does_not_extend_a_refresh_token(api_on_sqlite: Client) -> None:
    root = await api_on_sqlite.create_user(is_superuser=True)
    alice = await api_on_sqlite.create_user()
    token = (await login(api_on_sqlite, alice, "jwt"))["refresh_token"]
    began = datetime.now(UTC)
    for days, is_active in ((10, True), (13, True), (15, False)):
        with time_machine.travel(began + timedelta(days=days)):
            headers = await sign_in(api_on_sqlite.services, root, "token")
            answer = await api_on_sqlite.post(
                "/token/introspect", data={"token": token}, headers=headers
            )
            assert answer.json()["active"] is is_active, days
            await api_on_sqlite.services.last_used.flush()


@pytest.mark.parametrize("kind", ["opaque", "personal"])
async def test_introspection_counts_as_use_of_an_opaque_token(
    api_on_both: Client, kind: str
) -> None:
    held = await tokens_of(api_on_both, await api_on_both.create_user())
    token = held.all()[kind]
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=5), tick=False):
        with statements(api_on_both) as seen:
            claims = await introspect(api_on_both, token)
        assert not [text for text in seen if not text.startswith("SELECT")]
        await api_on_both.services.last_used.flush()
        async with api_on_both.services.database.read() as store:
            personal = await store.sessions.list_for_user(
                held.user.id, personal=kind == "personal", now=datetime.now(UTC)
            )
        [row] = [session for session in personal if str(session.id) == claims["sid"]]
        assert row.last_seen_at == datetime.now(UTC)


async def test_revoked_and_unknown_tokens_are_inactive(api_on_both: Client) -> None:
    held = await tokens_of(api_on_both, await api_on_both.create_user())
    head, claims, signature = held.jwt.split(".")
    last = "A" if signature[0] != "A" else "B"
    for text in (
        new_opaque_token(),
        new_refresh_token().text,
        held.opaque[:-1],
        held.refresh[:-1] + "!",
        f"{head}.{claims}.{last}{signature[1:]}",
        await minted(api_on_both.services, held.jwt, "https://other.example"),
        "x",
    ):
        await check_inactive(api_on_both, text)
    for token in held.all().values():
        await api_on_both.post(
            "/token/revoke", data={"token": token}, headers={"authorization": ""}
        )
    for token in held.all().values():
        await check_inactive(api_on_both, token)


async def test_expired_tokens_are_inactive(api_on_sqlite: Client) -> None:
    root, alice = (
        await api_on_sqlite.create_user(is_superuser=True),
        await api_on_sqlite.create_user(),
    )
    held = await tokens_of(api_on_sqlite, alice)
    began = datetime.now(UTC)
    ends = {"jwt": 600, "minted": 600, "refresh": 14 * 86400, "opaque": 30 * 86400}
    ends["personal"] = 90 * 86400
    for kind, seconds in ends.items():
        with time_machine.travel(began + timedelta(seconds=seconds + 2)):
            headers = await sign_in(api_on_sqlite.services, root, "token")
            form = {"token": held.all()[kind]}
            answer = await api_on_sqlite.post("/token/introspect", data=form, headers=headers)
            assert answer.content == DEAD, kind


async def test_tokens_of_a_deactivated_account_are_inactive(api_on_sqlite: Client) -> None:
    held = await tokens_of(api_on_sqlite, await api_on_sqlite.create_user())
    async with api_on_sqlite.services.database.transaction() as store:
        # Only the row of the account changes: the service would also end the sessions.
        await store.users.set_active(held.user.id, False, at=datetime.now(UTC))
    for token in held.all().values():
        await check_inactive(api_on_sqlite, token)


async def test_jwts_of_another_issuer_or_key_are_inactive(
    api_on_sqlite: Client, make_settings: SettingsFactory
) -> None:
    # A service with the same keys and rows but another issuer, and an independent service.
    other = make_settings(public_url="https://other.example")
    async with client(create_app(other)) as api:
        token = (await login(api, await api.create_user(), "jwt"))["access_token"]
    await check_inactive(api_on_sqlite, token)


async def test_tokens_without_an_installed_strategy_are_inactive(
    make_settings: SettingsFactory,
) -> None:
    async with client(create_app(make_settings())) as api:
        held = await tokens_of(api, await api.create_user())
        root = await login(api, await api.create_user(is_superuser=True), "jwt")
    async with client(create_app(make_settings(strategies=("session", "jwt")))) as api:
        api.headers["authorization"] = bearer(root["access_token"])["authorization"]
        assert await introspect(api, held.jwt)
        for token in (held.opaque, held.personal):
            await check_inactive(api, token)


@few
@given(text=GARBAGE)
async def test_malformed_tokens_are_inactive(api_on_sqlite: Client, text: str) -> None:
    await check_inactive(api_on_sqlite, text)


@pytest.mark.parametrize("form", [{"token": ""}, {"token": "x" * 8193}, {"x": "y"}])
async def test_a_request_without_a_token_is_refused(
    api_on_sqlite: Client, form: dict[str, str]
) -> None:
    problem(await api_on_sqlite.post("/token/introspect", data=form), 400, "invalid_request")


async def test_an_unavailable_database_is_a_503(
    api_on_sqlite: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await tokens_of(api_on_sqlite, await api_on_sqlite.create_user())
    assert await introspect(api_on_sqlite, held.opaque)

    def away() -> None:
        raise StorageUnavailable

    monkeypatch.setattr(api_on_sqlite.services.database, "read", away)
    for token in held.all().values():
        answer = await api_on_sqlite.post("/token/introspect", data={"token": token})
        problem(answer, 503, "database_unavailable")


# Authorization


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_superuser_logins_are_allowed(api_on_each: Client, strategy: str) -> None:
    token = (await login(api_on_each, await api_on_each.create_user(), "token"))["access_token"]
    root = await api_on_each.create_user(is_superuser=True)
    headers = await sign_in(api_on_each.services, root, strategy)
    answer = await api_on_each.post("/token/introspect", data={"token": token}, headers=headers)
    assert answer.json()["active"] is True
    identity = (await api_on_each.get("/me/identity", headers=headers)).json()
    assert identity["scopes"] == ["introspect"]


async def test_superusers_are_allowed_with_basic(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(strategies=("session", "basic")))) as api:
        await api.create_user("root@example.com", is_superuser=True)
        await api.create_user("alice@example.com")
        form = {"token": "x"}
        for name, status in (("root", 200), ("alice", 403)):
            auth = (f"{name}@example.com", PASSWORD)
            answer = await api.post("/token/introspect", data=form, auth=auth)
            assert answer.status_code == status


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_other_logins_are_refused(api: Client, strategy: str) -> None:
    alice = await api.create_user()
    headers = await sign_in(api.services, alice, strategy)
    own = (await login(api, alice, "token"))["access_token"]
    for token in ("x", own):
        answer = await api.post("/token/introspect", data={"token": token}, headers=headers)
        problem(answer, 403, "insufficient_scope")
        assert answer.headers.get_list("www-authenticate") == [
            f'{BEARER}, error="insufficient_scope", scope="introspect"'
        ]


async def test_v10_4_10_unauthenticated_callers_are_refused(api: Client) -> None:
    for headers in ({}, bearer(new_opaque_token()), bearer(new_refresh_token().text)):
        answer = await api.post("/token/introspect", data={"token": "x"}, headers=headers)
        problem(answer, 401, "unauthenticated")
        assert METADATA in answer.headers["www-authenticate"]


async def test_a_token_with_the_scope_is_allowed(api_on_sqlite: Client) -> None:
    del api_on_sqlite.headers["authorization"]
    root = await api_on_sqlite.create_user(is_superuser=True)
    session = await sign_in(api_on_sqlite.services, root)
    made = []
    for scopes in (["introspect"], ["b"], None):
        body = {"name": "resource server"} | ({} if scopes is None else {"scopes": scopes})
        answer = await api_on_sqlite.post("/me/tokens", json=body, headers=session)
        assert answer.status_code == 201, answer.text
        made.append(answer.json()["access_token"])
    # A token without the scope is refused, even if a superuser created it.
    for token, status in zip(made, (200, 403, 200), strict=True):
        form = {"token": made[0]}
        answer = await api_on_sqlite.post("/token/introspect", data=form, headers=bearer(token))
        assert answer.status_code == status
    alice = await sign_in(api_on_sqlite.services, await api_on_sqlite.create_user())
    body = {"name": "x", "scopes": ["introspect"]}
    answer = await api_on_sqlite.post("/me/tokens", json=body, headers=alice)
    problem(answer, 422, "validation_failed")


async def test_the_scope_can_be_granted_to_all_users(make_settings: SettingsFactory) -> None:
    settings = make_settings(scopes={"introspect": "Look into tokens"})
    async with client(create_app(settings)) as api:
        headers = await sign_in(api.services, await api.create_user(), "jwt")
        answer = await api.post("/token/introspect", data={"token": "x"}, headers=headers)
        assert (answer.status_code, answer.content) == (200, DEAD)


async def test_only_superusers_can_request_the_scope(api_on_sqlite: Client) -> None:
    await api_on_sqlite.create_user("alice@example.com")
    form = {"grant_type": "password", "password": PASSWORD, "scope": "introspect"}
    answer = await api_on_sqlite.post("/token", data={**form, "username": "root@example.com"})
    assert answer.json()["scope"] == "introspect"
    answer = await api_on_sqlite.post("/token", data={**form, "username": "alice@example.com"})
    problem(answer, 400, "invalid_scope")
    answer = await api_on_sqlite.post(
        "/token", data={**form, "username": "alice@example.com", "password": "wrong"}
    )
    problem(answer, 400, "invalid_grant")


async def test_acting_as_requires_the_scope(api: Client) -> None:
    alice = await api.create_user()
    with acting_as(alice, scopes={"introspect"}):
        assert (await api.post("/token/introspect", data={"token": "x"})).content == DEAD
    with acting_as(alice):
        answer = await api.post("/token/introspect", data={"token": "x"})
        problem(answer, 403, "insufficient_scope")
