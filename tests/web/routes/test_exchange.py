"""POST /me/tokens with `kind` of `jwt`: whoever is here gets a JWT for another service."""

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import time_machine

from authapi import Settings, create_app
from authapi.testing import PASSWORD, Client, acting_as, client
from tests.conftest import SettingsFactory
from tests.strategies.contract import statements
from tests.web.answers import check_headers, input_errors, problem, unnamed
from tests.web.logins import STRATEGIES, Headers, sign_in

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
async def house(database_url: str) -> AsyncIterator[Client]:
    """A service beside others, once on SQLite and once on PostgreSQL."""
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]  # pydantic converts
        scopes=SCOPES,
        jwt_audiences=("billing", "urn:reports"),
    )
    async with client(create_app(settings)) as found:
        yield found


@pytest.fixture
async def api(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    """The same, on SQLite alone, with HTTP Basic."""
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
    made = await api.post("/me/tokens", json={"name": "x", **members}, headers=headers)
    return {"authorization": f"Bearer {made.json()['access_token']}"}


def claims_of(token: str) -> dict[str, object]:
    payload = token.split(".")[1]
    found: dict[str, object] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return found


@pytest.mark.parametrize("strategy", [*STRATEGIES, "personal"])
async def test_whoever_is_here_gets_one(house: Client, strategy: str) -> None:
    alice = await house.create_user()
    if strategy == "personal":
        headers = await personal(house, await sign_in(house.services, alice))
    else:
        headers = await sign_in(house.services, alice, strategy)
    identity = (await house.get("/me/identity", headers=headers)).json()
    with statements(house) as seen:
        response = await exchange(house, headers, audience="urn:reports")
    assert response.status_code == 201
    check_headers(response)
    assert all(text.startswith("SELECT") for text in seen.texts), "nothing is written"
    body = response.json()
    assert body.keys() == MEMBERS
    assert (body["kind"], body["token_type"]) == ("jwt", "bearer")
    assert (body["audience"], body["scopes"]) == ("urn:reports", sorted(SCOPES))
    told = claims_of(body["access_token"])
    assert (told["aud"], told["sub"]) == ("urn:reports", str(alice.id))
    assert told["sid"] == identity["session_id"]
    assert told["amr"] == ([] if strategy == "personal" else ["pwd"])
    assert told["exp"] == int(datetime.fromisoformat(body["expires_at"]).timestamp())
    assert int(str(told["exp"])) - int(str(told["iat"])) == body["expires_in"] <= 600


async def test_it_is_no_login_here(api: Client) -> None:
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


async def test_it_asks_for_no_fresh_login_and_a_token_to_keep_does(api: Client) -> None:
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


async def test_a_token_makes_no_other_token(api: Client) -> None:
    alice = await api.create_user()
    login = await sign_in(api.services, alice)
    for headers in (await sign_in(api.services, alice, "token"), await personal(api, login)):
        assert (await exchange(api, headers)).status_code == 201
        for kind in ({}, {"kind": "token"}):
            refused = await api.post("/me/tokens", json={"name": "x", **kind}, headers=headers)
            problem(refused, 401, "unauthenticated")
            # The same that a token meets where it may do nothing at all.
            elsewhere = await api.get("/me/tokens", headers=headers)
            assert unnamed(refused) == unnamed(elsewhere)


async def test_not_by_basic_nor_by_nobody(api: Client) -> None:
    alice = await api.create_user()
    proof = base64.b64encode(f"{alice.email}:{PASSWORD}".encode()).decode()
    for headers in ({"authorization": f"Basic {proof}"}, {}):
        problem(await exchange(api, headers), 401, "unauthenticated")
    with acting_as(alice):  # nobody has logged in, so there is no session to vouch for
        problem(await exchange(api, {}), 401, "unauthenticated")


async def test_not_for_a_page_of_somebody_else(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user())
    foreign = {**headers, "sec-fetch-site": "cross-site", "origin": "https://evil.example"}
    problem(await exchange(api, foreign), 403, "foreign_origin")


async def test_no_more_than_the_credential_holds(api: Client) -> None:
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


async def test_never_longer_than_the_credential(api: Client) -> None:
    login = await sign_in(api.services, await api.create_user())
    brief = await personal(api, login, expires_in=20)
    body = (await exchange(api, brief)).json()
    assert 18 <= body["expires_in"] <= 20
    assert (await exchange(api, login, expires_in=30)).json()["expires_in"] == 30
    assert (await exchange(api, login)).json()["expires_in"] == 600


async def test_not_once_its_session_is_over(house: Client) -> None:
    alice = await house.create_user()
    manager = await sign_in(house.services, alice)
    for strategy in STRATEGIES:
        headers = await sign_in(house.services, alice, strategy)
        assert (await exchange(house, headers)).status_code == 201
        assert (await house.delete("/me/sessions", headers=manager)).status_code == 204
        problem(await exchange(house, headers), 401, "unauthenticated")


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


async def test_what_no_exchange_can_be(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user())
    for change, expected in NO_EXCHANGES:
        assert expected in input_errors(await exchange(api, headers, **change)), change


async def test_where_there_are_no_others(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings())) as api:
        login = await sign_in(api.services, await api.create_user())
        response = await exchange(api, login)
        assert input_errors(response) == [(("body", "audience"), "audience_not_allowed")]
        problem(await exchange(api, await personal(api, login)), 401, "unauthenticated")


@pytest.mark.parametrize(("audiences", "status"), [((), 404), (("billing",), 201)], ids=range(2))
async def test_where_there_are_only_tokens(
    make_settings: SettingsFactory, audiences: tuple[str, ...], status: int
) -> None:
    settings = make_settings(
        strategies=("token",), default_strategy="token", jwt_audiences=audiences
    )
    async with client(create_app(settings)) as api:
        headers = await sign_in(api.services, await api.create_user(), "token")
        assert (await exchange(api, headers)).status_code == status
        # Nobody can log in freshly by a token alone, so there is nothing to make one with.
        made = await api.post("/me/tokens", json={"name": "x"}, headers=headers)
        problem(made, 404, "not_found")


def test_a_jwt_for_ourselves_would_be_a_login(make_settings: SettingsFactory) -> None:
    with pytest.raises(ValueError, match="jwt_audiences names jwt_audience"):
        make_settings(jwt_audiences=("billing", "authapi"))
