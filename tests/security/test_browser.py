"""Requests that a foreign page can cause in a browser, and the security headers of responses."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import HTMLResponse

from authapi import AuthAPI
from authapi.errors import StorageUnavailable
from authapi.testing import PASSWORD, client
from tests.conftest import SettingsFactory
from tests.security.attack import count_verifications
from tests.security.peers import Service, guess, serving

OWN = "https://id.example.com"
APP = "https://app.example.com"
HERE, PROXY = "192.0.2.1", "10.0.0.1"
NEW = "another good long passphrase"

FOREIGN: list[dict[str, str]] = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "origin": OWN},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "https://x.id.example.com"},
    {"origin": "https://x.example.com"},
    {"origin": "http://id.example.com"},
    {"origin": "https://id.example.com:8443"},
    {"origin": "https://id.example.com.evil.example"},
    {"origin": "http://["},
    {"origin": ""},
]
OURS: list[dict[str, str]] = [
    {},
    {"origin": OWN},
    {"origin": APP, "sec-fetch-site": "same-site"},
    {"origin": OWN, "sec-fetch-site": "same-origin", "sec-fetch-dest": "empty"},
    {"sec-fetch-site": "none"},
]


def named(headers: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in headers.items()) or "no header"


@pytest.fixture
async def service(make_settings: SettingsFactory) -> AsyncIterator[Service]:
    """The service, public over HTTPS behind a proxy, with one allowed origin."""
    settings = make_settings(public_url=OWN, allowed_origins=APP, trusted_proxies="10.0.0.0/8")
    async with serving(settings, base_url=OWN) as found:
        yield found


@pytest.fixture
async def visitor(service: Service) -> httpx.AsyncClient:
    """A browser with a valid cookie."""
    alice = await service.api.create_user("alice@example.com", name="Alice")
    found = service.at(HERE)
    answer = await found.post("/login", json={"email": alice.email, "password": PASSWORD})
    assert answer.status_code == 200
    return found


Act = Callable[[httpx.AsyncClient, Mapping[str, str]], Awaitable[httpx.Response]]


def act(method: str, path: str, **options: object) -> Act:
    async def run(visitor: httpx.AsyncClient, headers: Mapping[str, str]) -> httpx.Response:
        return await visitor.request(method, path, headers=dict(headers), **options)  # type: ignore[arg-type]

    return run


UNSAFE: dict[str, Act] = {
    "logout": act("POST", "/logout"),
    "rename": act("PATCH", "/me", json={"name": "Mallory"}),
    "delete": act("DELETE", "/me"),
    "password": act(
        "POST", "/me/password", json={"current_password": PASSWORD, "new_password": NEW}
    ),
    "token": act("POST", "/me/tokens", json={"name": "mine"}),
    "session data": act("PATCH", "/me/session", json={"theme": "dark"}),
    "end others": act("DELETE", "/me/sessions"),
}


@pytest.mark.parametrize("headers", FOREIGN, ids=named)
async def test_v3_5_1_foreign_page_cannot_use_the_cookie(
    service: Service, visitor: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    other = service.at(HERE)  # another session, which ending the others would end
    await other.post("/login", json={"email": "alice@example.com", "password": PASSWORD})
    before = await visitor.get("/me")
    for name, unsafe in UNSAFE.items():
        answer = await unsafe(visitor, headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin"), name
        assert "set-cookie" not in answer.headers
    assert (await visitor.get("/me")).json() == before.json()
    assert (await visitor.get("/me/tokens")).json() == []
    assert (await visitor.get("/me/session")).json()["data"] == {}
    assert (await other.get("/me")).status_code == 200
    assert (await guess(service.at(HERE), "alice@example.com", PASSWORD)).status_code == 200


@pytest.mark.parametrize("headers", OURS, ids=named)
async def test_v3_5_1_own_and_allowed_origins_can_use_the_cookie(
    service: Service, visitor: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    for name in ("rename", "token", "session data", "end others"):
        answer = await UNSAFE[name](visitor, headers)
        assert answer.is_success, (name, answer.text)
    assert (await UNSAFE["logout"](visitor, headers)).status_code == 204
    assert (await visitor.get("/me")).status_code == 401


@pytest.mark.parametrize("headers", FOREIGN, ids=named)
async def test_v3_5_1_foreign_page_cannot_log_in(
    service: Service, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.api.create_user("mallory@example.com")
    verified = count_verifications(monkeypatch)
    for strategy in ("session", "token", "jwt"):
        body = {"email": "mallory@example.com", "password": PASSWORD, "strategy": strategy}
        answer = await service.at(HERE).post("/login", json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
        assert "set-cookie" not in answer.headers
    assert verified == []


@pytest.mark.parametrize("headers", OURS, ids=named)
async def test_v3_5_1_own_and_allowed_origins_can_log_in(
    service: Service, headers: dict[str, str]
) -> None:
    await service.api.create_user("alice@example.com")
    body = {"email": "alice@example.com", "password": PASSWORD}
    answer = await service.at(HERE).post("/login", json=body, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("headers", FOREIGN, ids=named)
@pytest.mark.parametrize("strategy", ["token", "jwt"])
async def test_bearer_credential_is_accepted_from_any_origin(
    service: Service, visitor: httpx.AsyncClient, headers: dict[str, str], strategy: str
) -> None:
    # A page cannot make a browser add the header unless it knows the token. The cookie, which the
    # browser sends as well, does not authenticate the request.
    body = {"email": "alice@example.com", "password": PASSWORD, "strategy": strategy}
    token = (await service.at(HERE).post("/login", json=body)).json()["access_token"]
    authorized = {**headers, "authorization": f"Bearer {token}"}
    for caller in (visitor, service.at(HERE)):
        answer = await caller.patch("/me", json={"name": "Alicia"}, headers=authorized)
        assert answer.status_code == 200
        identity = await caller.get("/me/identity", headers=authorized)
        assert identity.json()["strategy"] == strategy


@pytest.mark.parametrize(
    "authorization", ["Bearer aat_x", "Bearer a.b.c", "Bearer ", "Basic eDp5", "Digest x", "x"]
)
async def test_invalid_authorization_header_does_not_exempt_the_cookie(
    visitor: httpx.AsyncClient, authorization: str
) -> None:
    headers = {"authorization": authorization, "sec-fetch-site": "cross-site"}
    for unsafe in UNSAFE.values():
        assert (await unsafe(visitor, headers)).status_code in (401, 403)
    assert (await visitor.get("/me")).json()["name"] == "Alice"


async def test_bearer_token_does_not_exempt_a_route_for_cookies(
    service: Service, visitor: httpx.AsyncClient
) -> None:
    token = (await guess(service.at(HERE), "alice@example.com", PASSWORD)).json()["access_token"]
    headers = {"authorization": f"Bearer {token}", "sec-fetch-site": "cross-site"}
    answer = await UNSAFE["session data"](visitor, headers)
    # A token that the route does not accept is rejected before the cookie is read.
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("headers", [{}, *FOREIGN], ids=named)
async def test_reading_is_permitted_from_any_origin(
    visitor: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    for method in ("GET", "HEAD"):
        assert (await visitor.request(method, "/me", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "override",
    [
        {"x-http-method-override": "POST"},
        {"x-http-method": "POST"},
        {"x-method-override": "POST"},
    ],
    ids=named,
)
async def test_v3_5_3_reading_changes_nothing(
    visitor: httpx.AsyncClient, override: dict[str, str]
) -> None:
    for method in ("GET", "HEAD"):
        for path in ("/logout", "/logout?_method=POST"):
            answer = await visitor.request(method, path, headers=override)
            assert answer.status_code == 405
    assert (await visitor.get("/me")).status_code == 200


@pytest.mark.parametrize("destination", ["script", "image", "style", "iframe", "embed", "object"])
async def test_v3_2_1_response_cannot_be_loaded_as_a_subresource(
    service: Service, visitor: httpx.AsyncClient, destination: str
) -> None:
    for path in ("/me", "/me/identity", "/me/sessions", "/me/events", "/me/tokens", "/me/session"):
        answer = await visitor.get(path, headers={"sec-fetch-dest": destination})
        assert (answer.status_code, answer.json()["code"]) == (403, "wrong_destination")
        assert "alice" not in answer.text
    unauthenticated = service.at(HERE, headers={"sec-fetch-dest": destination})
    assert (await unauthenticated.get("/me")).status_code == 401
    assert (await unauthenticated.get("/health/live")).status_code == 200
    token = (await guess(service.at(HERE), "alice@example.com", PASSWORD)).json()["access_token"]
    bearer = {"authorization": f"Bearer {token}"}
    assert (await unauthenticated.get("/me", headers=bearer)).status_code == 200


@pytest.mark.parametrize("destination", ["empty", "document", ""])
async def test_v3_2_1_response_can_be_fetched_or_navigated_to(
    visitor: httpx.AsyncClient, destination: str
) -> None:
    answer = await visitor.get("/me", headers={"sec-fetch-dest": destination})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"


DIRECTIVES = {
    *("default-src 'none'", "base-uri 'none'", "object-src 'none'", "form-action 'none'"),
    *("frame-ancestors 'none'", "sandbox"),
}


def check_headers(answer: httpx.Response, *, https: bool = True) -> None:
    is_public = answer.request.url.path.startswith("/.well-known/")
    for name, value in {
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "cross-origin" if is_public else "same-origin",
    }.items():
        assert answer.headers.get_list(name) == [value]
    assert set(answer.headers["content-security-policy"].split("; ")) == DIRECTIVES
    assert len(answer.headers.get_list("x-request-id")) == 1
    assert {"authorization", "cookie", "origin"} <= {
        name.strip().lower() for name in answer.headers["vary"].split(",")
    }
    assert len(answer.headers.get_list("cache-control")) == 1
    assert "server" not in answer.headers
    assert "x-powered-by" not in answer.headers
    transport = answer.headers.get_list("strict-transport-security")
    assert transport == (["max-age=31536000; includeSubDomains"] if https else [])


async def test_v3_4_every_response_has_the_security_headers(
    service: Service, visitor: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    preflight = {"origin": APP, "access-control-request-method": "POST"}
    answers = {
        200: await visitor.get("/me"),
        304: await visitor.get(
            "/me", headers={"if-none-match": (await visitor.get("/me")).headers["etag"]}
        ),
        400: await visitor.post(
            "/login", content=b"{", headers={"content-type": "application/json"}
        ),
        401: await service.at(HERE).get("/me"),
        403: await visitor.post("/logout", headers={"origin": "null"}),
        404: await visitor.get("/nowhere"),
        405: await visitor.put("/login"),
        412: await visitor.patch("/me", json={"name": "x"}, headers={"if-match": '"x"'}),
        413: await visitor.post("/login", content=b"x" * 70_000),
        415: await visitor.post("/login", content=b"{}", headers={"content-type": "text/plain"}),
        422: await visitor.post("/login", json={}),
        431: await visitor.get("/me", headers={"x-padding": "x" * 40_000}),
    }
    for _ in range(11):
        answers[429] = await guess(visitor, "unknown@example.com")
    duplicate = [("authorization", "Bearer x"), ("authorization", "Bearer y")]
    others = [
        await visitor.head("/me"),
        await visitor.options("/login", headers=preflight),
        await visitor.options("/login", headers=preflight | {"origin": "https://evil.example"}),
        await visitor.options("/login"),
        await visitor.get("/me", headers=duplicate),
        await visitor.get("/.well-known/jwks.json"),
    ]
    profiles = service.api.services.accounts.profiles

    async def crash(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(type(profiles), "edit", crash)
    answers[500] = await visitor.patch("/me", json={"name": "x"})
    monkeypatch.setattr(type(service.api.services.database), "ping", unavailable)
    answers[503] = await visitor.get("/health/ready")
    answers[204] = await visitor.post("/logout")
    for status, answer in answers.items():
        assert answer.status_code == status
        check_headers(answer)
        if status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["cache-control"] == "no-store"
    for answer in others:
        check_headers(answer)
    assert "secret" not in answers[500].text


async def unavailable(_: object) -> None:
    raise StorageUnavailable


async def test_v3_4_1_no_hsts_without_https(make_settings: SettingsFactory) -> None:
    async with serving(make_settings()) as plain:
        for path in ("/health/live", "/me", "/nowhere"):
            check_headers(await plain.at(HERE).get(path), https=False)


async def test_v3_4_3_page_keeps_its_own_content_security_policy(
    make_settings: SettingsFactory,
) -> None:
    auth = AuthAPI(make_settings(public_url=OWN))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, governs_app=True)

    @app.get("/page")
    async def page() -> HTMLResponse:
        return HTMLResponse("<p>", headers={"content-security-policy": "script-src 'self'"})

    async with client(app, base_url=OWN) as api:
        answer = await api.get("/page")
    assert answer.headers.get_list("content-security-policy") == ["script-src 'self'"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["strict-transport-security"].startswith("max-age=31536000")


async def test_password_sent_over_plain_http_is_not_verified(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.api.create_user("alice@example.com")
    verified = count_verifications(monkeypatch)
    proxy = service.at(PROXY, headers={"x-forwarded-for": HERE, "x-forwarded-proto": "http"})
    answers = [
        await guess(proxy, "alice@example.com", PASSWORD),
        await proxy.get("/me"),
        await proxy.get("/nowhere"),
        await proxy.get("/me", headers={"authorization": "Basic eDp5"}),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (403, "https_required")
        assert "location" not in answer.headers
        check_headers(answer)
    assert verified == []
    over_https = {"x-forwarded-proto": "https"}
    answer = await guess(proxy, "alice@example.com", PASSWORD, **over_https)
    assert answer.status_code == 200


async def test_only_a_trusted_proxy_reports_plain_http(
    service: Service, make_settings: SettingsFactory
) -> None:
    await service.api.create_user("alice@example.com")
    unauthenticated = service.at(HERE, headers={"x-forwarded-proto": "http"})
    assert (await guess(unauthenticated, "alice@example.com", PASSWORD)).status_code == 200
    # If the public URL is http, plain HTTP is accepted.
    async with serving(make_settings(trusted_proxies="10.0.0.0/8")) as plain:
        proxy = plain.at(PROXY, headers={"x-forwarded-proto": "http"})
        assert (await guess(proxy, "alice@example.com", PASSWORD)).status_code == 200
