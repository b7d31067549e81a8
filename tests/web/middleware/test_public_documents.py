"""Pages of all origins can read public documents, independently of the CORS settings."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route

from authapi import AuthAPI, create_app
from authapi.errors import StorageUnavailable
from authapi.testing import Client, client
from authapi.verify import EdgeSettings, RemoteJWT, ResourceServer
from tests.conftest import SettingsFactory
from tests.web.responses import PUBLIC_HEADERS

JWKS = "/.well-known/jwks.json"
SERVER = "/.well-known/oauth-authorization-server"
RESOURCE = "/.well-known/oauth-protected-resource"
DOCUMENTS = (JWKS, SERVER, RESOURCE)
UNKNOWN = "/.well-known/openid-configuration"
PAGE, FRIEND = "https://page.example", "https://app.example.com"
CACHE = "public, max-age=300"
PREFLIGHT = {
    "access-control-request-method": "GET",
    "access-control-request-headers": "if-none-match, mcp-protocol-version",
}


def readable(answer: httpx.Response, *, cache_control: str = "no-store") -> None:
    """Checks that pages of all origins can read the response, without credentials."""
    for name, value in PUBLIC_HEADERS.items():
        assert answer.headers.get_list(name) == [value], name
    assert "access-control-allow-credentials" not in answer.headers
    assert answer.headers.get_list("cache-control") == [cache_control]
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert len(answer.headers["x-request-id"]) == 32
    exposed = answer.headers["access-control-expose-headers"]
    assert {"ETag", "X-Request-ID"} <= set(exposed.split(", "))


def untouched(answer: httpx.Response) -> None:
    """Checks that the response is that of a route that is not public."""
    assert answer.headers.get_list("cross-origin-resource-policy") == ["same-origin"]
    assert "*" not in answer.headers.get_list("access-control-allow-origin")


@asynccontextmanager
async def application(
    make_settings: SettingsFactory,
    include: Collection[str] | None = None,
    allowed: str = "",
    app: FastAPI | None = None,
) -> AsyncIterator[tuple[FastAPI, Client]]:
    """Runs an importing application; yields a client of it."""
    auth = AuthAPI(make_settings(allowed_origins=allowed))
    found = app or FastAPI()
    found.router.lifespan_context = auth.lifespan
    auth.install(found, include=include, governs_app=True)
    async with client(found) as api:
        yield found, api


@pytest.mark.parametrize("path", DOCUMENTS)
@pytest.mark.parametrize("origin", [None, PAGE, "null", "http://127.0.0.1:8000", "x, y"])
async def test_every_origin_can_read_a_document(api: Client, path: str, origin: str | None) -> None:
    headers = {} if origin is None else {"origin": origin}
    answer = await api.get(path, headers=headers)
    assert answer.status_code == 200
    readable(answer, cache_control=CACHE)
    head = await api.head(path, headers=headers)
    assert (head.status_code, head.content) == (200, b"")
    readable(head, cache_control=CACHE)
    same = await api.get(path, headers={**headers, "if-none-match": answer.headers["etag"]})
    assert same.status_code == 304
    readable(same, cache_control=CACHE)


@pytest.mark.parametrize("path", [*DOCUMENTS, UNKNOWN, "/.well-known/", "/.well-known/a/b"])
async def test_a_preflight_is_answered(api: Client, path: str) -> None:
    answer = await api.options(path, headers={"origin": PAGE, **PREFLIGHT})
    assert (answer.status_code, answer.content) == (204, b"")
    readable(answer)
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD"
    assert answer.headers["access-control-allow-headers"] == "*"
    assert answer.headers["access-control-max-age"] == "86400"
    plain = await api.options(path, headers={"origin": PAGE})
    assert plain.status_code == (405 if path in DOCUMENTS else 404), "this is not a preflight"
    readable(plain)


async def test_every_origin_can_read_errors(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    page = {"origin": PAGE}
    answers = [
        (await api.get(UNKNOWN, headers=page), 404),
        (await api.get("/.well-known/oauth-protected-resource/mcp", headers=page), 404),
        (await api.post(JWKS, headers=page), 405),
        (await api.get(SERVER, headers={**page, "authorization": "x" * 9000}), 431),
        (await api.get(JWKS, headers=[("host", "a"), ("host", "b")]), 400),
        (await api.post(SERVER, content=b"x" * 70_000), 413),
    ]

    async def unavailable() -> None:
        raise StorageUnavailable

    monkeypatch.setattr(api.services.keys, "jwk_set", unavailable)
    answers.append((await api.get(JWKS, headers=page), 503))

    async def fail() -> None:
        raise LookupError

    monkeypatch.setattr(api.services.keys, "jwk_set", fail)
    answers.append((await api.get(JWKS, headers=page), 500))
    for answer, status in answers:
        assert answer.status_code == status
        readable(answer)
        assert answer.json()["status"] == status


@pytest.mark.parametrize("origin", [FRIEND, PAGE])
async def test_allowed_origins_do_not_apply(make_settings: SettingsFactory, origin: str) -> None:
    async with application(make_settings, allowed=FRIEND) as (_, api):
        for path in (*DOCUMENTS, UNKNOWN):
            answer = await api.get(path, headers={"origin": origin})
            readable(answer, cache_control=CACHE if path != UNKNOWN else "no-store")
            answer = await api.options(path, headers={"origin": origin, **PREFLIGHT})
            assert answer.status_code == 204
            readable(answer)
        answer = await api.get(JWKS, headers={"origin": origin, "authorization": "x" * 9000})
        assert answer.status_code == 431, (
            "RequestMiddleware answers this, outside of the CORS middleware"
        )
        readable(answer)
        # Elsewhere the setting applies.
        answer = await api.get("/health/live", headers={"origin": origin})
        untouched(answer)
        assert ("access-control-allow-origin" in answer.headers) == (origin == FRIEND)


@pytest.mark.parametrize("origins", [[FRIEND], ["*"]])
@pytest.mark.parametrize("origin", [FRIEND, PAGE])
async def test_cors_middleware_of_the_application_does_not_apply(
    make_settings: SettingsFactory, origins: list[str], origin: str
) -> None:
    for added_before in (True, False):
        app = FastAPI()
        if added_before:
            app.add_middleware(CORSMiddleware, allow_origins=origins, allow_credentials=True)
        async with application(make_settings, app=app) as (_, api):
            if not added_before:
                app.add_middleware(CORSMiddleware, allow_origins=origins, allow_credentials=True)
            for path in DOCUMENTS:
                headers = {"origin": origin, "cookie": "authapi=x"}
                readable(await api.get(path, headers=headers), cache_control=CACHE)
                answer = await api.options(path, headers={**headers, **PREFLIGHT})
                assert answer.status_code == 204
                readable(answer)


async def test_every_origin_can_read_responses_of_middleware(
    make_settings: SettingsFactory,
) -> None:
    async with application(make_settings) as (app, api):

        @app.middleware("http")
        async def refuse(request: Request, _: object) -> JSONResponse:
            headers = {"Access-Control-Allow-Origin": FRIEND}
            headers["Access-Control-Allow-Credentials"] = "true"
            return JSONResponse({}, 429, headers=headers)

        answer = await api.get(JWKS, headers={"origin": PAGE})
        assert answer.status_code == 429
        for name, value in PUBLIC_HEADERS.items():
            assert answer.headers.get_list(name) == [value]
        assert "access-control-allow-credentials" not in answer.headers


async def test_route_of_the_application_is_not_public(make_settings: SettingsFactory) -> None:
    async def security(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.headers.get("origin", "none"))

    app = FastAPI(routes=[Mount("/.well-known/acme", routes=[Route("/{name}", security)])])
    app.add_route("/.well-known/security.txt", security)
    async with application(make_settings, app=app, allowed=FRIEND) as (_, api):
        for path in ("/.well-known/security.txt", "/.well-known/acme/x", "/a/.well-known/x"):
            answer = await api.get(path, headers={"origin": FRIEND})
            untouched(answer)
            assert answer.headers.get_list("access-control-allow-origin") == [FRIEND]
            refused = await api.options(path, headers={"origin": PAGE, **PREFLIGHT})
            assert refused.status_code == 400
        assert (await api.get("/.well-known/acme/x", headers={"origin": PAGE})).text == PAGE


async def test_without_documents_well_known_is_not_public(
    make_settings: SettingsFactory,
) -> None:
    async with application(make_settings, include=["me"]) as (_, api):
        untouched(await api.get(JWKS, headers={"origin": PAGE}))


async def test_documents_are_public_below_a_root_path(make_settings: SettingsFactory) -> None:
    inner = create_app(make_settings())
    outer = FastAPI()
    outer.mount("/auth", inner)
    async with (
        client(inner),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(outer), base_url="http://127.0.0.1:8000"
        ) as http,
    ):
        readable(await http.get(f"/auth{JWKS}", headers={"origin": PAGE}), cache_control=CACHE)
        answer = await http.options(f"/auth{SERVER}", headers={"origin": PAGE, **PREFLIGHT})
        assert answer.status_code == 204
        readable(answer)


async def test_documents_of_a_resource_server_are_public() -> None:
    auth = ResourceServer(
        RemoteJWT(issuer="http://127.0.0.1:1", audience="x"),
        settings=EdgeSettings(allowed_origins=(FRIEND,)),
    )
    app = FastAPI()
    auth.install(app)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
        for origin in (FRIEND, PAGE):
            answer = await http.get(RESOURCE, headers={"origin": origin})
            readable(answer, cache_control=CACHE)
            answer = await http.options(RESOURCE, headers={"origin": origin, **PREFLIGHT})
            assert answer.status_code == 204
            readable(answer)
