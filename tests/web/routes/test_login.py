"""POST /login and POST /logout, with each strategy."""

from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie

import pytest
import time_machine

from authapi import create_app
from authapi.crypto.secrets import new_opaque_token
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.web.logins import sign_in
from tests.web.responses import BEARER, check_headers, input_errors, problem, unnamed

STRATEGIES = ["session", "token", "jwt"]
MEMBERS = {
    "session": {"user", "strategy", "expires_at"},
    "token": {"user", "strategy", "expires_at", "access_token", "token_type", "expires_in"},
    "jwt": {
        *("user", "strategy", "expires_at", "access_token", "token_type", "expires_in"),
        *("refresh_token", "refresh_expires_in"),
    },
}
LIFETIMES = {
    "session": timedelta(days=7),
    "token": timedelta(days=30),
    "jwt": timedelta(minutes=10),
}
ALICE: dict[str, object] = {"email": "alice@example.com", "password": PASSWORD}


async def whoami(api: Client, cookie: str) -> int:
    return (await api.get("/me", headers={"cookie": f"authapi={cookie}"})).status_code


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_login_returns_the_credential_of_its_strategy(
    api_on_each: Client, strategy: str
) -> None:
    alice = await api_on_each.create_user("alice@example.com")
    before = datetime.now(UTC)
    response = await api_on_each.post("/login", json={**ALICE, "strategy": strategy})
    assert response.status_code == 200
    check_headers(response)
    body = response.json()
    assert body.keys() == MEMBERS[strategy]
    assert body["strategy"] == strategy
    assert body["user"] == {
        "id": str(alice.id),
        "email": "alice@example.com",
        "name": None,
        "username": None,
        "is_active": True,
        "is_superuser": False,
        "email_confirmed_at": None,
        "created_at": body["user"]["created_at"],
        "updated_at": body["user"]["created_at"],
        "locale": None,
        "roles": [],
    }
    assert body["expires_at"].endswith("Z")
    lasts = datetime.fromisoformat(body["expires_at"]) - before
    assert abs(lasts - LIFETIMES[strategy]) < timedelta(minutes=1)
    if strategy == "session":
        return
    assert body["token_type"] == "bearer"
    assert body["expires_in"] == LIFETIMES[strategy].total_seconds()
    assert body["access_token"].startswith("aat_") == (strategy == "token")
    assert (body["access_token"].count(".") == 2) == (strategy == "jwt")
    assert "set-cookie" not in response.headers


async def test_the_session_secret_is_only_in_the_cookie(api: Client) -> None:
    await api.create_user("alice@example.com")
    response = await api.post("/login", json=ALICE)
    assert len(response.headers.get_list("set-cookie")) == 1
    cookie = SimpleCookie(response.headers["set-cookie"])["authapi"]
    assert len(cookie.value) == 43
    raw = response.content + b"".join(b"%b: %b\n" % pair for pair in response.headers.raw)
    assert raw.count(cookie.value.encode()) == 1
    assert (cookie["path"], cookie["samesite"]) == ("/", "Lax")
    assert cookie["httponly"]
    assert not cookie["secure"]
    assert not cookie["domain"]
    assert not cookie["max-age"]
    assert not cookie["expires"]


async def test_over_https_the_cookie_has_the_host_prefix(make_settings: SettingsFactory) -> None:
    app = create_app(make_settings(public_url="https://auth.example.com"))
    async with client(app, base_url="https://auth.example.com") as api:
        await api.create_user("alice@example.com")
        response = await api.post("/login", json=ALICE)
        name, _, rest = response.headers["set-cookie"].partition("=")
        assert name == "__Host-authapi"
        assert rest.split("; ")[1:] == ["Path=/", "HttpOnly", "SameSite=Lax", "Secure"]
        assert (await api.get("/me")).status_code == 200
        cleared = (await api.post("/logout")).headers["set-cookie"]
        assert cleared.split("; ") == [
            "__Host-authapi=",
            *("Path=/", "HttpOnly", "SameSite=Lax", "Secure", "Max-Age=0"),
        ]


async def test_a_remembered_login_sets_a_persistent_cookie(make_settings: SettingsFactory) -> None:
    settings = make_settings(remember_idle=timedelta(days=2), remember_absolute=timedelta(days=3))
    async with client(create_app(settings)) as api:
        await api.create_user("alice@example.com")
        response = await api.post("/login", json={**ALICE, "remember": True})
        cookie = SimpleCookie(response.headers["set-cookie"])["authapi"]
        assert cookie["max-age"] == str(3 * 86400)
        api.cookies.clear()
        start = datetime.now(UTC)
        for days, status in [(1.9, 200), (2.9, 200), (3.1, 401)]:
            with time_machine.travel(start + timedelta(days=days)):
                assert await whoami(api, cookie.value) == status


async def test_the_default_strategy_is_configurable(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(default_strategy="token"))) as api:
        await api.create_user("alice@example.com")
        for members in ({}, {"strategy": None}):
            response = await api.post("/login", json={**ALICE, **members})
            assert response.json()["strategy"] == "token"


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "change",
    [{"password": "x" + PASSWORD}, {"password": PASSWORD.upper()}, {"email": "bob@example.com"}],
    ids=["wrong", "case", "unknown"],
)
async def test_wrong_credentials_are_refused_alike(
    api: Client, strategy: str, change: dict[str, str]
) -> None:
    await api.create_user("alice@example.com")
    reference = await api.post("/login", json={**ALICE, "password": "wrong password, so wrong"})
    response = await api.post("/login", json={**ALICE, "strategy": strategy, **change})
    problem(response, 401, "invalid_credentials")
    assert unnamed(response) == unnamed(reference)
    assert response.headers.get_list("www-authenticate") == [
        'Cookie realm="authapi", cookie-name="authapi"',
        BEARER,
    ]
    assert "set-cookie" not in response.headers


async def test_accounts_that_cannot_log_in_are_refused_alike(api: Client) -> None:
    alice = await api.create_user("alice@example.com")
    wrong = await api.post("/login", json={**ALICE, "password": "wrong"})
    await api.services.accounts.administration.change(alice.id, {"is_active": False})
    off = await api.post("/login", json=ALICE)
    problem(off, 401, "invalid_credentials")
    assert unnamed(off) == unnamed(wrong)


@pytest.mark.parametrize("spelling", ["Alice@example.com", "alice@EXAMPLE.com"])
async def test_every_spelling_of_an_address_logs_in(api_on_each: Client, spelling: str) -> None:
    await api_on_each.create_user("alice@example.com")
    response = await api_on_each.post("/login", json={**ALICE, "email": spelling})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"email": "alice"}, ("email", "email_invalid")),
        ({"password": ""}, ("password", "string_too_short")),
        ({"password": "x" * 1025}, ("password", "string_too_long")),
        ({"strategy": "magic"}, ("strategy", "unknown_strategy")),
        ({"strategy": "basic"}, ("strategy", "unknown_strategy")),
        ({"strategy": "SESSION"}, ("strategy", "string_pattern_mismatch")),
        ({"strategy": "x" * 65}, ("strategy", "string_too_long")),
        ({"remember": "true"}, ("remember", "bool_type")),
        ({"remember": 1}, ("remember", "bool_type")),
    ],
)
async def test_invalid_requests_are_refused(
    api: Client, change: dict[str, object], expected: tuple[str, str]
) -> None:
    field, code = expected
    response = await api.post("/login", json={**ALICE, **change})
    assert input_errors(response) == [(("body", field), code)]


async def test_a_login_ends_the_session_of_the_request(api: Client) -> None:
    alice = await api.create_user("alice@example.com")
    await api.login(alice)
    old = api.cookies["authapi"]
    await api.login(alice)
    new = api.cookies["authapi"]
    api.cookies.clear()
    assert new != old
    assert await whoami(api, new) == 200
    assert await whoami(api, old) == 401


async def test_a_planted_cookie_does_not_become_a_session(api: Client) -> None:
    await api.create_user("alice@example.com")
    planted = "A" * 43
    await api.post("/login", json=ALICE, headers={"cookie": f"authapi={planted}"})
    new = api.cookies["authapi"]
    api.cookies.clear()
    assert new != planted
    assert await whoami(api, new) == 200
    assert await whoami(api, planted) == 401


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_logout_revokes_the_credential(api_on_each: Client, strategy: str) -> None:
    alice = await api_on_each.create_user("alice@example.com")
    await api_on_each.login(alice, strategy=strategy)
    assert (await api_on_each.get("/me")).json()["id"] == str(alice.id)
    secret = api_on_each.cookies.get("authapi", "none")
    response = await api_on_each.post("/logout")
    assert response.status_code == 204
    assert response.content == b""
    check_headers(response)
    if strategy == "session":
        assert response.headers.get_list("set-cookie") == [
            "authapi=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"
        ]
        assert response.headers["clear-site-data"] == '"cache", "cookies", "storage"'
        assert not dict(api_on_each.cookies)
    else:
        assert "set-cookie" not in response.headers
        assert "clear-site-data" not in response.headers
    again = {"cookie": f"authapi={secret}"} if strategy == "session" else {}
    problem(await api_on_each.get("/me", headers=again), 401, "unauthenticated")
    problem(await api_on_each.post("/logout", headers=again), 401, "unauthenticated")


async def test_logout_revokes_only_the_credential_of_the_request(api: Client) -> None:
    alice = await api.create_user("alice@example.com")
    await api.login(alice)
    token = (await api.post("/login", json={**ALICE, "strategy": "token"})).json()["access_token"]
    bearer = {"authorization": f"Bearer {token}"}
    # The header takes precedence over the cookie.
    assert (await api.post("/logout", headers=bearer)).status_code == 204
    assert (await api.get("/me", headers=bearer)).status_code == 401
    assert (await api.get("/me")).status_code == 200


@pytest.mark.parametrize("path", ["/login", "/logout", "/register", "/token", "/me/password"])
async def test_get_and_head_are_refused_by_post_routes(api: Client, path: str) -> None:
    alice = await api.create_user("alice@example.com")
    await api.login(alice)
    for method in ("GET", "HEAD"):
        override = {"x-http-method-override": "POST"}
        response = await api.request(method, f"{path}?_method=POST", headers=override)
        assert response.status_code == 405
        assert response.headers["allow"] == "POST"
    assert (await api.get("/me")).status_code == 200


async def test_logout_without_a_credential_is_a_401(api: Client) -> None:
    response = await api.post("/logout")
    problem(response, 401, "unauthenticated")
    assert response.headers.get_list("www-authenticate") == [
        BEARER,
        'Cookie realm="authapi", cookie-name="authapi"',
    ]


async def test_basic_cannot_log_out(make_settings: SettingsFactory) -> None:
    settings = make_settings(strategies=("session", "basic"))
    async with client(create_app(settings)) as api:
        alice = await api.create_user("alice@example.com")
        assert (await api.get("/me", auth=(alice.email, PASSWORD))).status_code == 200
        response = await api.post("/logout", auth=(alice.email, PASSWORD))
        problem(response, 401, "unauthenticated")


@pytest.mark.parametrize(
    "authorization",
    ["expired", "Bearer e30.e30.e30", f"Bearer {new_opaque_token()}", "Bearer aat_x", "Basic YTpi"],
    ids=range(5),
)
async def test_logout_with_an_invalid_credential_revokes_the_cookie(
    api_on_each: Client, authorization: str
) -> None:
    api = api_on_each
    alice = await api.create_user("alice@example.com")
    cookie = await sign_in(api.services, alice)
    bearer = await sign_in(api.services, alice, "jwt")
    if authorization != "expired":
        bearer = {"authorization": authorization}
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=1), tick=True):
        assert (await api.get("/me", headers=cookie)).status_code == 200
        answer = await api.post("/logout", headers=cookie | bearer)
        assert answer.status_code == 204
        assert "Max-Age=0" in answer.headers["set-cookie"]
        api.cookies.clear()
        problem(await api.get("/me", headers=cookie), 401, "unauthenticated")
        # Without a valid credential, the logout is refused and the cookie deleted.
        answer = await api.post("/logout", headers=cookie | bearer)
        problem(answer, 401, "unauthenticated")
        assert answer.headers.get_list("set-cookie") == [
            "authapi=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"
        ]


async def test_logout_with_an_invalid_cookie_revokes_the_bearer_token(api: Client) -> None:
    alice = await api.create_user("alice@example.com")
    bearer = await sign_in(api.services, alice, "jwt")
    headers = bearer | {"cookie": "authapi=" + "A" * 43}
    assert (await api.post("/logout", headers=headers)).status_code == 204
    problem(await api.get("/me", headers=bearer), 401, "unauthenticated")


async def test_an_invalid_bearer_token_does_not_bypass_the_origin_check(api: Client) -> None:
    cookie = await sign_in(api.services, await api.create_user("alice@example.com"))
    headers = cookie | {"authorization": "Bearer aat_x", "sec-fetch-site": "cross-site"}
    problem(await api.post("/logout", headers=headers), 403, "foreign_origin")
    assert (await api.get("/me", headers=cookie)).status_code == 200
