"""All errors of OAuth endpoints have the JSON of RFC 6749, whichever component raises them."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, HTTPException

from authapi import AuthAPI, Settings, create_app
from authapi.crypto.secrets import new_opaque_token
from authapi.errors import StorageUnavailable, TooManyAttempts
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.web.logins import sign_in
from tests.web.responses import DESCRIPTION, check_headers, problem
from tests.web.tokens import bearer

TOKEN, REVOKE, INTROSPECT = ENDPOINTS = ("/token", "/token/revoke", "/token/introspect")
FORM = {"content-type": "application/x-www-form-urlencoded"}
PAGE = "https://app.example.com"


@pytest.fixture
async def api_on_both(database_url: str) -> AsyncIterator[Client]:
    """The service on each database."""
    settings = Settings(database_url=database_url)  # type: ignore[arg-type]  # a text, as in the environment
    async with client(create_app(settings)) as api:
        yield api


def check_error(answer: httpx.Response, status: int, code: str, error: str) -> None:
    """Check an error against RFC 6749, section 5.2, and the members of a problem document."""
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    problem(answer, status, code)
    assert answer.headers.get_list("content-type") == ["application/json"]
    assert answer.headers.get_list("cache-control") == ["no-store"]


async def test_a_refused_refresh_token_is_an_oauth_error(api_on_both: Client) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "art_x"}
    answer = await api_on_both.post(TOKEN, data=form)
    body = problem(answer, 400, "invalid_grant")
    assert answer.headers["content-type"] == "application/json"
    assert body["error"] == body["code"] == "invalid_grant"
    assert body["error_description"] == body["title"] == "The grant was refused"


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"x": "y"}, "invalid_request"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, "invalid_grant"),
        ({"grant_type": "password", "username": "a@example.com", "password": "x"}, "invalid_grant"),
        (
            {"grant_type": "password", "username": "a", "password": "x", "scope": "x"},
            "invalid_scope",
        ),
    ],
)
async def test_refused_grants_are_oauth_errors(
    api: Client, form: dict[str, str], error: str
) -> None:
    check_error(await api.post(TOKEN, data=form), 400, error, error)


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_errors_of_middleware_and_router_are_oauth_errors(api: Client, path: str) -> None:
    root = await api.create_user(is_superuser=True)
    headers = await sign_in(api.services, root)
    token = {"token": "x", "grant_type": "refresh_token"}
    cases = [
        (await api.get(path), 405, "method_not_allowed"),
        (await api.put(path, data=token), 405, "method_not_allowed"),
        (await api.options(path), 405, "method_not_allowed"),
        (await api.post(f"{path}/", data=token), 404, "not_found"),
        (await api.post(f"{path}/x", data=token), 404, "not_found"),
        (await api.get(f"{path}/x"), 404, "not_found"),
        (await api.post(path, content=b"a" * 70_000, headers=FORM), 413, "body_too_large"),
        (await api.post(path, json=token, headers=headers), 415, "unsupported_media_type"),
        (await api.post(path, headers=headers), 415, "unsupported_media_type"),
        (await api.post(path, data={"x": "\0"}, headers=headers), 400, "invalid_request"),
        (
            await api.post(path, content="x=1&x=1", headers={**headers, **FORM}),
            400,
            "invalid_request",
        ),
        (
            await api.post(path, content="x=%ff", headers={**headers, **FORM}),
            400,
            "invalid_request",
        ),
        (
            await api.post(path, data=token, headers={"cookie": "x" * 9000}),
            431,
            "headers_too_large",
        ),
        (
            await api.post(path, data=token, headers=[("origin", "a"), ("origin", "b")]),
            400,
            "duplicate_header",
        ),
    ]
    for answer, status, code in cases:
        if status == 405:
            assert answer.headers["allow"] == "POST"
        if code == "method_not_allowed":
            check_headers(answer)
            assert answer.json().keys() >= {"error", "error_description", "request_id", "code"}
            assert answer.json()["error"] == "invalid_request"
            assert answer.headers["content-type"] == "application/json"
        else:
            check_error(answer, status, code, "invalid_request")
    head = await api.head(path)
    assert (head.status_code, head.content) == (405, b"")
    assert head.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_unavailable_and_failing_services_are_oauth_errors(
    api_on_both: Client,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    headers = await sign_in(
        api_on_both.services, await api_on_both.create_user(is_superuser=True), "jwt"
    )
    await api_on_both.get("/me", headers=headers)
    token = new_opaque_token()
    form = {"grant_type": "password", "username": "a@example.com", "password": "x", "token": token}

    def fail_unavailable(*_: object) -> None:
        raise StorageUnavailable

    def fail(*_: object) -> None:
        raise LookupError("CANARY")

    for kind, status, code, error in (
        (fail_unavailable, 503, "database_unavailable", "temporarily_unavailable"),
        (fail, 500, "internal_error", "server_error"),
    ):
        for name in ("read", "rows"):
            monkeypatch.setattr(api_on_both.services.database, name, kind)
        answer = await api_on_both.post(path, data=form, headers=headers)
        check_error(answer, status, code, error)
        assert "CANARY" not in answer.text


async def test_too_many_attempts_are_oauth_errors(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def authenticate(*_: object, **__: object) -> None:
        raise TooManyAttempts(retry_after=7)

    monkeypatch.setattr(api.services.accounts.authentication, "authenticate", authenticate)
    form = {"grant_type": "password", "username": "a@example.com", "password": "x"}
    answer = await api.post(TOKEN, data=form)
    check_error(answer, 429, "too_many_attempts", "temporarily_unavailable")
    assert answer.headers["retry-after"] == "7"


async def test_refused_introspection_callers_are_oauth_errors(api: Client) -> None:
    form = {"token": "x"}
    check_error(await api.post(INTROSPECT, data=form), 401, "unauthenticated", "invalid_client")
    for token in (new_opaque_token(), "a.b.c", "x"):
        answer = await api.post(INTROSPECT, data=form, headers=bearer(token))
        check_error(answer, 401, "unauthenticated", "invalid_token")
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    headers = await sign_in(api.services, await api.create_user())
    answer = await api.post(INTROSPECT, data=form, headers=headers)
    check_error(answer, 403, "insufficient_scope", "insufficient_scope")
    foreign = {**headers, "sec-fetch-site": "cross-site"}
    answer = await api.post(INTROSPECT, data=form, headers=foreign)
    check_error(answer, 403, "foreign_origin", "invalid_request")


async def test_plain_http_is_an_oauth_error(make_settings: SettingsFactory) -> None:
    settings = make_settings(public_url="https://auth.example.com", trusted_proxies=("127.0.0.1",))
    async with client(create_app(settings)) as api:
        for path in ENDPOINTS:
            headers = {"x-forwarded-proto": "http"}
            answer = await api.post(path, data={"token": "x"}, headers=headers)
            check_error(answer, 403, "https_required", "invalid_request")


async def test_a_refused_preflight_is_an_oauth_error(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(allowed_origins=(PAGE,)))) as api:
        asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
        for path in ENDPOINTS:
            answer = await api.options(path, headers=asked)
            assert answer.headers["content-type"] == "application/json"
            assert answer.json()["error"] == "invalid_request"
            assert answer.json()["code"] == "preflight_refused"


@pytest.mark.parametrize("detail", ['a "b" \\ c', "größe\n\0", {"a": 1}, "plain"])
async def test_error_description_has_only_allowed_characters(
    api: Client, monkeypatch: pytest.MonkeyPatch, detail: object
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise HTTPException(418, detail)

    monkeypatch.setattr(api.services.tokens.revocation, "revoke", fail)
    answer = await api.post(REVOKE, data={"token": "x"})
    body = answer.json()
    assert (answer.status_code, body["error"]) == (418, "invalid_request")
    assert body["detail"] == detail
    assert DESCRIPTION.fullmatch(body["error_description"])


async def test_routes_of_the_application_keep_problem_documents(
    make_settings: SettingsFactory,
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)

    @app.get("/token/mine")
    @app.get("/tokens")
    @app.get("/tokenizer")
    def protected() -> None:
        raise HTTPException(418)

    auth.install(app, governs_app=True)
    async with client(app) as api:
        for path in ("/token/mine", "/tokens", "/tokenizer"):
            answer = await api.get(path)
            assert answer.headers["content-type"] == "application/problem+json"
            assert "error" not in answer.json()
        for path in ("/tokenize", "/tokens/leaked", "/a/token"):
            answer = await api.get(path)
            assert answer.headers["content-type"] == "application/problem+json", path
        assert (await api.get("/token/other")).json()["error"] == "invalid_request"


async def test_without_oauth_endpoints_there_are_no_oauth_errors(
    make_settings: SettingsFactory,
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, include=["me"], governs_app=True)
    async with client(app) as api:
        for path in ENDPOINTS:
            answer = await api.post(path, data={"token": "x"})
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"


async def test_oauth_errors_work_below_a_prefix(make_settings: SettingsFactory) -> None:
    inner = create_app(make_settings())
    outer = FastAPI()
    outer.mount("/auth", inner)
    transport = httpx.ASGITransport(outer)
    async with (
        client(inner),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http,
    ):
        for path in ENDPOINTS:
            answer = await http.get(f"/auth{path}")
            assert answer.headers["content-type"] == "application/json"
            assert answer.json()["error"] == "invalid_request"


async def test_successful_responses_are_unchanged(api: Client) -> None:
    await api.create_user("alice@example.com")
    form = {"grant_type": "password", "username": "alice@example.com", "password": PASSWORD}
    answer = await api.post(TOKEN, data=form)
    assert answer.status_code == 200
    assert "error" not in json.loads(answer.content)
