"""POST /me/tokens with the `kind` `jwt`: an authenticated caller gets a JWT for another service."""

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import time_machine

from authapi import Settings, create_app
from authapi.testing import PASSWORD, Client, acting_as, client
from authapi.testing.strategy_harness import statements
from tests.conftest import SettingsFactory
from tests.web.logins import STRATEGIES, Headers, sign_in
from tests.web.responses import check_headers, input_errors, problem, unnamed

SCOPES = {"reports:read": "Read reports", "reports:write": "Write reports"}
MEMBERS = {
    "kind",
    "access_token",
    "token_type",
    "expires_in",
    "expires_at",
    "audience",
    "scopes",
}
EXCHANGE = {"kind": "jwt", "audience": "billing"}


@pytest.fixture
async def api_on_both(database_url: str) -> AsyncIterator[Client]:
    """A service with audiences, on SQLite and on PostgreSQL."""
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]  # pydantic converts
        scopes=SCOPES,
        jwt_audiences=("billing", "urn:reports"),
    )
    async with client(create_app(settings)) as found:
        yield found


@pytest.fixture
async def api(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    """The same on SQLite only, with HTTP Basic."""
    settings = make_settings(
        scopes=SCOPES,
        jwt_audiences=("billing", "urn:reports"),
        strategies=("session", "token", "jwt", "basic"),
    )
    async with client(create_app(settings)) as found:
        yield found


async def exchange(api: Client, headers: Headers, **members: object) -> httpx.Response:
    return await api.post("/me/tokens", json={**EXCHANGE, **members}, headers=headers)


async def personal(api: Client, headers: Headers, **members: object) -> Headers:
    created = await api.post("/me/tokens", json={"name": "x", **members}, headers=headers)
    return {"authorization": f"Bearer {created.json()['access_token']}"}


def claims_of(token: str) -> dict[str, object]:
    payload = token.split(".")[1]
    found: dict[str, object] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return found


@pytest.mark.parametrize("strategy", [*STRATEGIES, "personal"])
async def test_each_credential_gets_a_jwt(api_on_both: Client, strategy: str) -> None:
    alice = await api_on_both.create_user()
    if strategy == "personal":
        headers = await personal(api_on_both, await sign_in(api_on_both.services, alice))
    else:
        headers = await sign_in(api_on_both.services, alice, strategy)
    identity = (await api_on_both.get("/me/identity", headers=headers)).json()
    with statements(api_on_both) as seen:
        response = await exchange(api_on_both, headers, audience="urn:reports")
    assert response.status_code == 201
    check_headers(response)
    assert all(text.startswith("SELECT") for text in seen), "nothing is written"
    body = response.json()
    assert body.keys() == MEMBERS
    assert (body["kind"], body["token_type"]) == ("jwt", "bearer")
    assert (body["audience"], body["scopes"]) == ("urn:reports", sorted(SCOPES))
    claims = claims_of(body["access_token"])
    assert (claims["aud"], claims["sub"]) == ("urn:reports", str(alice.id))
    assert claims["sid"] == identity["session_id"]
    assert claims["amr"] == ([] if strategy == "personal" else ["pwd"])
    assert claims["exp"] == int(datetime.fromisoformat(body["expires_at"]).timestamp())
    assert int(str(claims["exp"])) - int(str(claims["iat"])) == body["expires_in"] <= 600


async def test_an_exchanged_jwt_is_not_accepted_by_this_service(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user())
    token = (await exchange(api, headers)).json()["access_token"]
    garbage = unnamed(await api.get("/me", headers={"authorization": "Bearer a.b.c"}))
    bearer = {"authorization": f"Bearer {token}"}
    assert unnamed(await api.get("/me", headers=bearer)) == garbage
    for method, path in (("POST", "/me/tokens"), ("GET", "/me/tokens"), ("POST", "/logout")):
        body = {"json": EXCHANGE} if path == "/me/tokens" and method == "POST" else {}
        response = await api.request(method, path, headers=bearer, **body)  # type: ignore[arg-type]
        problem(response, 401, "unauthenticated")
    assert (await api.get("/me", headers=headers)).status_code == 200


async def test_a_jwt_needs_no_recent_login_but_a_personal_token_does(api: Client) -> None:
    alice = await api.create_user()
    for strategy in ("session", "jwt"):
        headers = await sign_in(api.services, alice, strategy)
        with time_machine.travel(datetime.now(UTC) + timedelta(seconds=310)):
            assert (await exchange(api, headers)).status_code == 201
            for kind in ({}, {"kind": "token"}):
                stale = await api.post("/me/tokens", json={"name": "x", **kind}, headers=headers)
                problem(stale, 401, "stale_authentication")
                challenge = stale.headers.get_list("www-authenticate")[0]
                assert 'error="insufficient_user_authentication", max_age="300"' in challenge


async def test_a_personal_token_cannot_create_a_personal_token(api: Client) -> None:
    alice = await api.create_user()
    login = await sign_in(api.services, alice)
    for headers in (await sign_in(api.services, alice, "token"), await personal(api, login)):
        assert (await exchange(api, headers)).status_code == 201
        for kind in ({}, {"kind": "token"}):
            refused = await api.post("/me/tokens", json={"name": "x", **kind}, headers=headers)
            problem(refused, 401, "unauthenticated")
            # The same response as on other routes that do not accept tokens.
            elsewhere = await api.get("/me/tokens", headers=headers)
            assert unnamed(refused) == unnamed(elsewhere)


async def test_basic_and_unauthenticated_callers_are_refused(api: Client) -> None:
    alice = await api.create_user()
    credentials = base64.b64encode(f"{alice.email}:{PASSWORD}".encode()).decode()
    for headers in ({"authorization": f"Basic {credentials}"}, {}):
        problem(await exchange(api, headers), 401, "unauthenticated")
    with acting_as(alice):  # HTTP Basic has no session
        problem(await exchange(api, {}), 401, "unauthenticated")


async def test_cross_origin_requests_are_refused(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user())
    foreign = {**headers, "sec-fetch-site": "cross-site", "origin": "https://evil.example"}
    problem(await exchange(api, foreign), 403, "foreign_origin")


async def test_scopes_are_limited_to_those_of_the_credential(api: Client) -> None:
    login = await sign_in(api.services, await api.create_user())
    reader = await personal(api, login, scopes=["reports:read"])
    assert (await exchange(api, reader)).json()["scopes"] == ["reports:read"]
    none = (await exchange(api, reader, scopes=[])).json()
    assert none["scopes"] == []
    assert "scope" not in claims_of(none["access_token"])
    for scopes in (["reports:write"], ["reports:read", "reports:write"], ["none-such"]):
        response = await exchange(api, reader, scopes=scopes)
        assert input_errors(response) == [(("body", "scopes"), "scope_not_allowed")]
    narrowed = (await exchange(api, login, scopes=["reports:write"])).json()
    assert claims_of(narrowed["access_token"])["scope"] == "reports:write"


async def test_the_lifetime_is_limited_to_that_of_the_credential(api: Client) -> None:
    login = await sign_in(api.services, await api.create_user())
    brief = await personal(api, login, expires_in=20)
    body = (await exchange(api, brief)).json()
    assert 18 <= body["expires_in"] <= 20
    assert (await exchange(api, login, expires_in=30)).json()["expires_in"] == 30
    assert (await exchange(api, login)).json()["expires_in"] == 600


async def test_an_ended_session_is_refused(api_on_both: Client) -> None:
    alice = await api_on_both.create_user()
    manager = await sign_in(api_on_both.services, alice)
    for strategy in STRATEGIES:
        headers = await sign_in(api_on_both.services, alice, strategy)
        assert (await exchange(api_on_both, headers)).status_code == 201
        assert (await api_on_both.delete("/me/sessions", headers=manager)).status_code == 204
        problem(await exchange(api_on_both, headers), 401, "unauthenticated")


NO_EXCHANGES: list[tuple[dict[str, object], tuple[tuple[object, ...], str]]] = [
    ({"audience": "none-such"}, (("body", "audience"), "audience_not_allowed")),
    ({"audience": "authapi"}, (("body", "audience"), "audience_not_allowed")),
    ({"audience": "Billing"}, (("body", "audience"), "audience_not_allowed")),
    ({"audience": ""}, (("body", "audience"), "string_too_short")),
    ({"audience": "a" * 256}, (("body", "audience"), "string_too_long")),
    ({"audience": ["billing"]}, (("body", "audience"), "string_type")),
    ({"audience": None}, (("body", "audience"), "string_type")),
    ({"name": "x"}, (("body", "?"), "extra_forbidden")),
    ({"scopes": ["reports:read"] * 2}, (("body", "scopes"), "duplicate_items")),
    ({"scopes": "reports:read"}, (("body", "scopes"), "list_type")),
    ({"expires_in": 601}, (("body", "expires_in"), "lifetime_too_long")),
    ({"expires_in": 0}, (("body", "expires_in"), "greater_than_equal")),
    ({"expires_in": "60"}, (("body", "expires_in"), "int_type")),
    ({"kind": "JWT"}, (("body", "kind"), "literal_error")),
]


async def test_invalid_requests_are_refused(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user())
    for change, expected in NO_EXCHANGES:
        assert expected in input_errors(await exchange(api, headers, **change)), change


async def test_without_audiences_there_is_no_exchange(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings())) as api:
        login = await sign_in(api.services, await api.create_user())
        response = await exchange(api, login)
        assert input_errors(response) == [(("body", "audience"), "audience_not_allowed")]
        problem(await exchange(api, await personal(api, login)), 401, "unauthenticated")


@pytest.mark.parametrize(("audiences", "status"), [((), 404), (("billing",), 201)], ids=range(2))
async def test_exchange_works_with_the_strategy_token_only(
    make_settings: SettingsFactory, audiences: tuple[str, ...], status: int
) -> None:
    settings = make_settings(
        strategies=("token",), default_strategy="token", jwt_audiences=audiences
    )
    async with client(create_app(settings)) as api:
        headers = await sign_in(api.services, await api.create_user(), "token")
        assert (await exchange(api, headers)).status_code == status
        # An opaque token is never a recent login, so it cannot create a personal token.
        created = await api.post("/me/tokens", json={"name": "x"}, headers=headers)
        problem(created, 404, "not_found")


def test_the_service_itself_is_not_an_audience(make_settings: SettingsFactory) -> None:
    with pytest.raises(ValueError, match="jwt_audiences must not contain jwt_audience"):
        make_settings(jwt_audiences=("billing", "authapi"))
