"""CORS: only pages of allowed origins can read responses."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware

from authapi import Settings
from authapi.testing import PASSWORD, Client
from authapi.web.middleware.cors import ProblemCORSMiddleware
from tests.conftest import SettingsFactory
from tests.security.peers import Service, serving

APP, OTHER = "https://app.example.com", "http://localhost:5173"
STRANGERS = [
    "https://evil.example",
    "null",
    "https://app.example.com.evil.example",
    "https://evil-app.example.com",
    "https://x.app.example.com",
    "https://example.com",
    "http://app.example.com",
    "https://app.example.com:8443",
    "https://app.example.com:443",
    "https://app.example.com/",
    "https://APP.example.com",
    "https://app.example.com https://evil.example",
    "https://app.example.com, https://evil.example",
    "http://localhost:5174",
    "*",
    "",
]


@pytest.fixture
async def service(make_settings: SettingsFactory) -> AsyncIterator[Service]:
    async with serving(make_settings(allowed_origins=f"{APP}, {OTHER}")) as found:
        yield found


def vary_of(answer: httpx.Response) -> set[str]:
    return {name.strip().lower() for name in answer.headers["vary"].split(",")}


def preflight(origin: str, method: str = "POST", headers: str = "content-type") -> dict[str, str]:
    return {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": headers,
    }


@pytest.mark.parametrize("path", ["/health/live", "/me", "/nowhere", "/token"])
@pytest.mark.parametrize("origin", [APP, "null", "http://127.0.0.1:8000"])
async def test_by_default_no_origin_is_allowed(api: Client, path: str, origin: str) -> None:
    for headers in ({"origin": origin}, preflight(origin)):
        for method in ("GET", "OPTIONS", "POST"):
            answer = await api.request(method, path, headers=headers)
            assert not [name for name in answer.headers if name.startswith("access-control")]
            assert answer.status_code != 200 or method == "GET"


@pytest.mark.parametrize("origin", [APP, OTHER])
async def test_an_allowed_origin_is_echoed_exactly(service: Service, origin: str) -> None:
    visitor = service.at("192.0.2.1", headers={"origin": origin})
    alice = await service.api.create_user()
    login = {"email": alice.email, "password": PASSWORD}
    answers = [
        await visitor.get("/health/live"),
        await visitor.get("/me"),  # 401
        await visitor.get("/nowhere"),  # 404
        await visitor.put("/me"),  # 405
        await visitor.post("/login", json={}),  # 422
        await visitor.post("/login", content=b"x" * 70_000),  # 413
        await visitor.post("/login", json=login),
        await visitor.get("/me"),
        await visitor.post("/logout"),
    ]
    assert [answer.status_code for answer in answers[1:]] == [
        *(401, 404, 405, 422, 413, 200, 200, 204)
    ]
    for answer in answers:
        assert answer.headers.get_list("access-control-allow-origin") == [origin]
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "*" not in answer.headers.get("access-control-expose-headers", "")
        assert {"origin", "authorization", "cookie"} <= vary_of(answer)


@pytest.mark.parametrize("origin", STRANGERS)
async def test_other_origins_get_no_cors_headers(service: Service, origin: str) -> None:
    visitor = service.at("192.0.2.1")
    for path in ("/health/live", "/me", "/nowhere"):
        answer = await visitor.get(path, headers={"origin": origin})
        assert "access-control-allow-origin" not in answer.headers
        assert {"origin", "authorization", "cookie"} <= vary_of(answer)
    for method in ("GET", "POST", "DELETE"):
        answer = await visitor.options("/me", headers=preflight(origin, method))
        assert "access-control-allow-origin" not in answer.headers


async def test_request_without_origin_gets_no_allowed_origin(service: Service) -> None:
    answer = await service.at("192.0.2.1").get("/health/live")
    assert "access-control-allow-origin" not in answer.headers
    # `Vary` keeps caches from serving this response to a page of an allowed origin.
    assert {"origin", "authorization", "cookie"} <= vary_of(answer)


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("headers", ["authorization", "content-type", "if-match,if-none-match"])
async def test_allowed_origin_passes_the_preflight(
    service: Service, method: str, headers: str
) -> None:
    answer = await service.at("192.0.2.1").options("/me", headers=preflight(APP, method, headers))
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == APP
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert method in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert all(name in allowed for name in headers.split(","))
    assert "origin" in vary_of(answer)


@pytest.mark.parametrize(
    ("method", "headers"), [("PUT", "content-type"), ("TRACE", ""), ("POST", "x-forwarded-for")]
)
async def test_preflight_for_other_methods_and_headers_fails(
    service: Service, method: str, headers: str
) -> None:
    answer = await service.at("192.0.2.1").options("/me", headers=preflight(APP, method, headers))
    assert answer.status_code == 400


@pytest.mark.parametrize("origin", [APP, "https://evil.example"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("headers", ["content-type", "x-evil"])
async def test_refused_preflight_is_a_problem_with_starlettes_headers(
    service: Service, origin: str, method: str, headers: str
) -> None:
    asked = preflight(origin, method, headers)
    answer = await service.at("192.0.2.1").options("/me", headers=asked)
    ours: Any = service.app.middleware_stack
    while not isinstance(ours, ProblemCORSMiddleware):
        ours = ours.app
    plain = CORSMiddleware.preflight_response(ours, Headers(asked))
    assert answer.status_code == plain.status_code
    assert _cors(answer.headers) == _cors(plain.headers)
    assert {"origin", "authorization", "cookie"} <= vary_of(answer)
    if (origin, method, headers) == (APP, "POST", "content-type"):
        assert answer.status_code == 200
        return
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert body.keys() == {"type", "title", "status", "detail", "code", "request_id"}
    assert (body["status"], body["code"]) == (400, "preflight_refused")
    assert body["request_id"] == answer.headers["x-request-id"]
    assert "evil" not in answer.text


def _cors(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("access-control")}


async def test_a_preflight_changes_and_authenticates_nothing(service: Service) -> None:
    alice = await service.api.create_user()
    visitor = service.at("192.0.2.1")
    await visitor.post("/login", json={"email": alice.email, "password": PASSWORD})
    answer = await visitor.options("/logout", headers=preflight(APP))
    assert "set-cookie" not in answer.headers
    assert (await visitor.get("/me")).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "null", "app.example.com", "//app.example.com", "ftp://app.example.com"),
        *("https://", "https://*", "https://*.example.com", "https://app.example.com:*"),
        *("https://app.example.com/", "https://app.example.com?", "https://me@app.example.com"),
        # Valid URLs that no browser sends as `Origin`, so they would never match.
        *("https://APP.example.com", "https://bücher.example", "https://app.example.com:443"),
        *("http://app.example.com:80", "https://app.example.com:", "https://app.example.com:0443"),
    ],
)
def test_invalid_origin_in_the_settings_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError):
        Settings(allowed_origins=(origin,))


@pytest.mark.parametrize(
    "origin",
    [
        *("https://app.example.com", "http://localhost:5173", "http://127.0.0.1:8080"),
        *("http://[::1]:3000", "https://app.example.com:8443", "http://app.example.com:443"),
        *("https://xn--bcher-kva.example", "https://app.example.com:80", "https://app:4430"),
    ],
)
def test_valid_origin_in_the_settings_is_accepted(origin: str) -> None:
    assert Settings(allowed_origins=(origin,)).allowed_origins == (origin,)


async def test_responses_of_the_middleware_have_cors_headers(service: Service) -> None:
    @service.app.get("/fail")
    def fail() -> None:
        raise LookupError

    long = {"authorization": "Bearer " + "x" * 9000}
    for path, headers, status in (("/me", long, 431), ("/fail", {}, 500)):
        answer = await service.api.get(path, headers={**headers, "origin": APP})
        assert answer.status_code == status
        assert answer.headers.get_list("access-control-allow-origin") == [APP]
        assert answer.headers.get_list("access-control-allow-credentials") == ["true"]
        for origin in STRANGERS:
            answer = await service.api.get(path, headers={**headers, "origin": origin})
            assert answer.status_code == status
            assert "access-control-allow-origin" not in answer.headers
