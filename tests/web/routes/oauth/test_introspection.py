"""POST /token/introspect (RFC 7662)."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from hypothesis import given

from authapi import Settings, create_app
from authapi.crypto.refresh import new_refresh_token
from authapi.crypto.secrets import new_opaque_token
from authapi.errors import StorageUnavailable
from authapi.testing import PASSWORD, Client, acting_as, client
from tests.conftest import SettingsFactory
from tests.security.attack import claims_of
from tests.strategies.contract import statements
from tests.web.answers import BEARER, METADATA, check_headers, problem
from tests.web.logins import STRATEGIES, sign_in
from tests.web.tokens import GARBAGE, OTHER, bearer, few, login, minted, refreshed, tokens_of

DEAD = b'{"active":false}'
SCOPES = {"reports:read": "Read reports", "b": "Another"}
ISSUER = "http://127.0.0.1:8000"


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[Client]:
    """On each database, with a superuser logged in."""
    changes = {"jwt_audiences": OTHER, "scopes": SCOPES}
    settings = Settings(database_url=database_url, **changes)  # type: ignore[arg-type]
    async with client(create_app(settings)) as api:
        await api.login(
            await api.create_user("root@example.com", is_superuser=True), strategy="jwt"
        )
        yield api


@pytest.fixture
async def small(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    """The same on SQLite."""
    app = create_app(make_settings(jwt_audiences=(OTHER,), scopes=SCOPES))
    async with client(app) as api:
        await api.login(
            await api.create_user("root@example.com", is_superuser=True), strategy="jwt"
        )
        yield api


async def ask(api: Client, token: str, **more: str) -> dict[str, object]:
    """What is told of an active token."""
    answer = await api.post("/token/introspect", data={"token": token, **more})
    assert answer.status_code == 200, answer.text
    check_headers(answer)
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, object] = answer.json()
    assert body["active"] is True, body
    return body


async def dead(api: Client, token: str) -> None:
    """Nothing is told of a token, to the byte."""
    answer = await api.post("/token/introspect", data={"token": token})
    assert (answer.status_code, answer.content) == (200, DEAD)
    check_headers(answer)


async def test_what_is_told_of_each_kind(house: Client) -> None:
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=5)
    with time_machine.travel(moment, tick=False):
        held = await tokens_of(house, await house.create_user("alice@example.com", name="Alice"))
        at = int(moment.timestamp())
        login = {"iss": ISSUER, "sub": str(held.user.id), "iat": at, "active": True}
        login |= {"client_id": "authapi"}
        login |= {"scope": "b reports:read", "auth_time": at, "amr": ["pwd"]}
        access = {**login, "token_type": "Bearer", "aud": "authapi"}
        claims = claims_of(held.jwt)
        jwt = {"jti": claims["jti"], "sid": claims["sid"], "exp": at + 600}
        assert await ask(house, held.jwt) == access | jwt
        # For another service, and of another login.
        claims = claims_of(held.minted)
        foreign = {"jti": claims["jti"], "sid": claims["sid"], "exp": at + 600, "aud": OTHER}
        assert await ask(house, held.minted) == access | foreign
        # No resource takes it for an access token: neither its type nor who it is for fits.
        month, fortnight = 30 * 86400, 14 * 86400
        assert await ask(house, held.refresh) == login | {
            "token_type": "refresh_token",
            "aud": ISSUER,
            "sid": jwt["sid"],
            "exp": at + fortnight,
        }
        told = await ask(house, held.opaque)
        assert told.pop("sid") not in (jwt["sid"], foreign["sid"])
        assert told == access | {"exp": at + month}
        # Nobody has logged in with this one, so it does not say when.
        told = await ask(house, held.personal)
        del told["sid"], access["auth_time"], access["amr"]
        assert told == access | {"exp": at + 90 * 86400}
        for token in held.all().values():
            text = str(await ask(house, token)).lower()
            assert "alice" not in text
            assert "email" not in text


async def test_a_jwt_does_what_it_says_and_no_more(small: Client) -> None:
    await small.create_user("alice@example.com")
    form = {"grant_type": "password", "username": "alice@example.com", "password": PASSWORD}
    granted = (await small.post("/token", data={**form, "scope": "b"})).json()
    assert (await ask(small, granted["access_token"]))["scope"] == "b"
    assert (await ask(small, granted["refresh_token"]))["scope"] == "b"


async def test_without_a_scope_there_is_no_member_scope(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings())) as api:
        root = await api.create_user(is_superuser=True)
        alice = await api.create_user()
        token = (await login(api, alice, "token"))["access_token"]
        await api.login(root, strategy="token")
        assert "scope" not in await ask(api, token)


async def test_a_refresh_token_is_only_looked_at(house: Client) -> None:
    alice = await house.create_user()
    first = (await login(house, alice, "jwt"))["refresh_token"]
    before = await ask(house, first)
    assert await ask(house, first) == before
    second = (await refreshed(house, first))["refresh_token"]
    # Within the grace it could be exchanged once more; it is not the token of this login any more.
    await dead(house, first)
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=5)):
        await dead(house, first)
        third = (await refreshed(house, second))["refresh_token"]
    assert await ask(house, third)
    events = await house.services.audit.page(alice.id, before=None, limit=50)
    assert {event.type.value for event in events} == {"account_registered", "login"}


async def test_a_refresh_token_that_is_looked_at_ends_unused_all_the_same(small: Client) -> None:
    root = await small.create_user(is_superuser=True)
    alice = await small.create_user()
    token = (await login(small, alice, "jwt"))["refresh_token"]
    began = datetime.now(UTC)
    for days, alive in ((10, True), (13, True), (15, False)):
        with time_machine.travel(began + timedelta(days=days)):
            headers = await sign_in(small.services, root, "token")
            answer = await small.post("/token/introspect", data={"token": token}, headers=headers)
            assert answer.json()["active"] is alive, days
            await small.services.activity.flush()


@pytest.mark.parametrize("kind", ["opaque", "personal"])
async def test_asking_for_an_opaque_token_is_a_use_of_it(house: Client, kind: str) -> None:
    held = await tokens_of(house, await house.create_user())
    token = held.all()[kind]
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=5), tick=False):
        with statements(house) as seen:
            told = await ask(house, token)
        assert not [text for text in seen.texts if not text.startswith("SELECT")]
        await house.services.activity.flush()
        async with house.services.database.read() as store:
            personal = await store.sessions.list_of(
                held.user.id, personal=kind == "personal", now=datetime.now(UTC)
            )
        [row] = [session for session in personal if str(session.id) == told["sid"]]
        assert row.last_seen_at == datetime.now(UTC)


async def test_what_is_dead_or_none_is_just_not_active(house: Client) -> None:
    held = await tokens_of(house, await house.create_user())
    head, claims, signature = held.jwt.split(".")
    last = "A" if signature[0] != "A" else "B"
    for text in (
        new_opaque_token(),
        new_refresh_token().text,
        held.opaque[:-1],
        held.refresh[:-1] + "!",
        f"{head}.{claims}.{last}{signature[1:]}",
        await minted(house.services, held.jwt, "https://nobody.example"),
        "x",
    ):
        await dead(house, text)
    for token in held.all().values():
        await house.post("/token/revoke", data={"token": token}, headers={"authorization": ""})
    for token in held.all().values():
        await dead(house, token)


async def test_what_has_had_its_time_is_not_active(small: Client) -> None:
    root, alice = await small.create_user(is_superuser=True), await small.create_user()
    held = await tokens_of(small, alice)
    began = datetime.now(UTC)
    ends = {"jwt": 600, "minted": 600, "refresh": 14 * 86400, "opaque": 30 * 86400}
    ends["personal"] = 90 * 86400
    for kind, seconds in ends.items():
        with time_machine.travel(began + timedelta(seconds=seconds + 2)):
            headers = await sign_in(small.services, root, "token")
            form = {"token": held.all()[kind]}
            answer = await small.post("/token/introspect", data=form, headers=headers)
            assert answer.content == DEAD, kind


async def test_the_tokens_of_a_deactivated_account_are_not_active(small: Client) -> None:
    held = await tokens_of(small, await small.create_user())
    async with small.services.database.transaction() as store:
        # Only the account: what the service does besides ends the sessions as well.
        await store.users.set_active(held.user.id, False, at=datetime.now(UTC))
    for token in held.all().values():
        await dead(small, token)


async def test_a_jwt_of_another_issuer_or_key_is_not_active(
    small: Client, make_settings: SettingsFactory
) -> None:
    # The same keys and rows under another name, and another service altogether.
    other = make_settings(public_url="https://other.example")
    async with client(create_app(other)) as api:
        token = (await login(api, await api.create_user(), "jwt"))["access_token"]
    await dead(small, token)


async def test_what_no_strategy_lets_in_is_not_active(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings())) as api:
        held = await tokens_of(api, await api.create_user())
        root = await login(api, await api.create_user(is_superuser=True), "jwt")
    async with client(create_app(make_settings(strategies=("session", "jwt")))) as api:
        api.headers["authorization"] = bearer(root["access_token"])["authorization"]
        assert await ask(api, held.jwt)
        for token in (held.opaque, held.personal):
            await dead(api, token)


@few
@given(text=GARBAGE)
async def test_garbage_is_no_failure(small: Client, text: str) -> None:
    await dead(small, text)


@pytest.mark.parametrize("form", [{"token": ""}, {"token": "x" * 8193}, {"x": "y"}])
async def test_a_request_that_names_no_token_is_told(small: Client, form: dict[str, str]) -> None:
    problem(await small.post("/token/introspect", data=form), 400, "invalid_request")


async def test_without_a_database_nothing_is_told(
    small: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await tokens_of(small, await small.create_user())
    assert await ask(small, held.opaque)

    def away() -> None:
        raise StorageUnavailable

    monkeypatch.setattr(small.services.database, "read", away)
    for token in held.all().values():
        answer = await small.post("/token/introspect", data={"token": token})
        problem(answer, 503, "database_unavailable")


# Who may ask


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_login_of_a_superuser_may_ask(api_on_each: Client, strategy: str) -> None:
    token = (await login(api_on_each, await api_on_each.create_user(), "token"))["access_token"]
    root = await api_on_each.create_user(is_superuser=True)
    headers = await sign_in(api_on_each.services, root, strategy)
    answer = await api_on_each.post("/token/introspect", data={"token": token}, headers=headers)
    assert answer.json()["active"] is True
    identity = (await api_on_each.get("/me/identity", headers=headers)).json()
    assert identity["scopes"] == ["introspect"]


async def test_a_superuser_may_ask_by_basic(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(strategies=("session", "basic")))) as api:
        await api.create_user("root@example.com", is_superuser=True)
        await api.create_user("alice@example.com")
        form = {"token": "x"}
        for name, status in (("root", 200), ("alice", 403)):
            auth = (f"{name}@example.com", PASSWORD)
            answer = await api.post("/token/introspect", data=form, auth=auth)
            assert answer.status_code == status


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_others_may_not(api: Client, strategy: str) -> None:
    alice = await api.create_user()
    headers = await sign_in(api.services, alice, strategy)
    own = (await login(api, alice, "token"))["access_token"]
    for token in ("x", own):
        answer = await api.post("/token/introspect", data={"token": token}, headers=headers)
        problem(answer, 403, "insufficient_scope")
        assert answer.headers.get_list("www-authenticate") == [
            f'{BEARER}, error="insufficient_scope", scope="introspect"'
        ]


async def test_v10_4_10_strangers_may_not(api: Client) -> None:
    for headers in ({}, bearer(new_opaque_token()), bearer(new_refresh_token().text)):
        answer = await api.post("/token/introspect", data={"token": "x"}, headers=headers)
        problem(answer, 401, "unauthenticated")
        assert METADATA in answer.headers["www-authenticate"]


async def test_a_token_made_for_it_may_ask(small: Client) -> None:
    del small.headers["authorization"]
    root = await small.create_user(is_superuser=True)
    session = await sign_in(small.services, root)
    made = []
    for scopes in (["introspect"], ["b"], None):
        body = {"name": "resource server"} | ({} if scopes is None else {"scopes": scopes})
        answer = await small.post("/me/tokens", json=body, headers=session)
        assert answer.status_code == 201, answer.text
        made.append(answer.json()["access_token"])
    # One that was made for something else may not, whoever has made it.
    for token, status in zip(made, (200, 403, 200), strict=True):
        form = {"token": made[0]}
        answer = await small.post("/token/introspect", data=form, headers=bearer(token))
        assert answer.status_code == status
    alice = await sign_in(small.services, await small.create_user())
    body = {"name": "x", "scopes": ["introspect"]}
    answer = await small.post("/me/tokens", json=body, headers=alice)
    problem(answer, 422, "validation_failed")


async def test_the_operator_may_give_it_to_everybody(make_settings: SettingsFactory) -> None:
    settings = make_settings(scopes={"introspect": "Look into tokens"})
    async with client(create_app(settings)) as api:
        headers = await sign_in(api.services, await api.create_user(), "jwt")
        answer = await api.post("/token/introspect", data={"token": "x"}, headers=headers)
        assert (answer.status_code, answer.content) == (200, DEAD)


async def test_a_grant_names_it_for_superusers_only(small: Client) -> None:
    await small.create_user("alice@example.com")
    form = {"grant_type": "password", "password": PASSWORD, "scope": "introspect"}
    answer = await small.post("/token", data={**form, "username": "root@example.com"})
    assert answer.json()["scope"] == "introspect"
    answer = await small.post("/token", data={**form, "username": "alice@example.com"})
    problem(answer, 400, "invalid_scope")
    answer = await small.post(
        "/token", data={**form, "username": "alice@example.com", "password": "wrong"}
    )
    problem(answer, 400, "invalid_grant")


async def test_acting_as_somebody_takes_the_scope(api: Client) -> None:
    alice = await api.create_user()
    with acting_as(alice, scopes={"introspect"}):
        assert (await api.post("/token/introspect", data={"token": "x"})).content == DEAD
    with acting_as(alice):
        answer = await api.post("/token/introspect", data={"token": "x"})
        problem(answer, 403, "insufficient_scope")
