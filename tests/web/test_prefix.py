"""The prefix of the routes: which one is accepted, and what has it."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from authapi import AuthAPI
from authapi.errors import ConfigurationError
from authapi.settings import EdgeSettings
from authapi.testing import Client, client
from authapi.verify import RemoteJWT, ResourceServer
from tests.conftest import SettingsFactory
from tests.web.asgi import ask

PREFIX = "/api/v1/auth"
SERVER = "/.well-known/oauth-authorization-server"
RESOURCE = "/.well-known/oauth-protected-resource"
ENDPOINTS = "/.well-known/passkey-endpoints"
BASE = "http://127.0.0.1:8000"


@asynccontextmanager
async def installed(
    make_settings: SettingsFactory, prefix: str = PREFIX, **changes: object
) -> AsyncIterator[tuple[FastAPI, Client]]:
    auth = AuthAPI(make_settings(**changes))
    app = FastAPI(lifespan=auth.lifespan, docs_url=None)
    auth.install(app, prefix=prefix)
    async with client(app) as api:
        yield app, api


@pytest.mark.parametrize(
    "prefix",
    [
        *(
            "api",
            "/",
            "/api/",
            "//api",
            "/api//auth",
            "api/auth/",
            "/a/../b",
            "/..",
            "/.",
            "/a/./b",
        ),
        *("/api?x=1", "/api#x", "/api v1", "/api%2Fv1", "/{tenant}/auth", "/ä", "/api\n", " /api"),
        *("https://example.com/api", "/" + "a" * 100),
    ],
)
def test_other_text_is_no_prefix(make_settings: SettingsFactory, prefix: str) -> None:
    auth, app = AuthAPI(make_settings()), FastAPI()
    before = list(app.routes)
    with pytest.raises(ConfigurationError, match=r"^the prefix "):
        auth.install(app, prefix=prefix)
    assert app.routes == before
    assert app.user_middleware == []
    auth.install(app, prefix="/api/v1.0/auth_~-x")


def test_public_url_must_not_contain_the_prefix(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings(public_url=f"https://example.com/shop{PREFIX}"))
    with pytest.raises(ConfigurationError, match=r"^AUTHAPI_PUBLIC_URL ends with the prefix"):
        auth.install(FastAPI(), prefix=PREFIX)
    AuthAPI(make_settings(public_url="https://example.com")).install(
        FastAPI(), prefix="/example.com"
    )


def test_an_installation_has_one_prefix(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings())
    auth.install(FastAPI(), prefix=PREFIX)
    auth.install(FastAPI(), prefix=PREFIX)
    for other in ("", "/other"):
        with pytest.raises(ConfigurationError, match="prefix '/api/v1/auth' already"):
            auth.install(FastAPI(), prefix=other)
    assert auth.settings.issuer == f"{BASE}{PREFIX}"


async def test_every_path_of_the_document_has_the_prefix(make_settings: SettingsFactory) -> None:
    async with installed(make_settings) as (app, api):
        plain = AuthAPI(make_settings())
        other = FastAPI(docs_url=None)
        plain.install(other)
        moved = {SERVER: SERVER + PREFIX, RESOURCE: RESOURCE, ENDPOINTS: ENDPOINTS}
        expected = {moved.get(path, PREFIX + path) for path in other.openapi()["paths"]}
        document = app.openapi()
        assert set(document["paths"]) == expected
        text = json.dumps(document)
        for path in re.findall(r"(?:GET|POST|PATCH|DELETE) (/[\w/]*)", text):
            assert path.startswith(f"{PREFIX}/"), path
        flow = document["components"]["securitySchemes"]["jwt"]["flows"]["password"]
        assert flow["tokenUrl"] == f"{PREFIX}/token".lstrip("/")
        oauth = document["paths"][f"{PREFIX}/token"]["post"]["responses"]["400"]["content"]
        assert oauth["application/json"]["schema"]["$ref"].endswith("/OAuthError")
        assert (await api.get("/openapi.json")).json() == document


async def test_paths_without_the_prefix_are_not_ours(make_settings: SettingsFactory) -> None:
    async with installed(make_settings) as (app, api):
        for path in ("/me", "/login", "/account/reset", "/.well-known/jwks.json", SERVER, "/docs"):
            assert (await api.get(path)).status_code == 404, path
            assert (await api.get(f"/api{path}")).status_code == 404, path
            assert (await api.get(f"{PREFIX}x{path}")).status_code == 404, path
        assert (await api.get(PREFIX)).status_code == 404
        assert (await ask(app, "GET", f"{PREFIX}/health%2Flive".encode())).status_code == 404
        assert (await ask(app, "GET", b"/api%2Fv1/auth/health/live")).status_code == 404
        assert (await ask(app, "GET", f"{PREFIX}/health/live".encode())).status_code == 200


async def test_errors_fit_the_kind_of_path(make_settings: SettingsFactory) -> None:
    html = {"accept": "text/html"}
    async with installed(make_settings) as (_, api):
        page = await api.put(f"{PREFIX}/account/reset", headers=html)
        assert (page.status_code, page.headers["content-type"]) == (405, "text/html; charset=utf-8")
        files = re.findall(
            r'<(?:link rel="(?:stylesheet|icon)" href|script type="module" src)="([^"]+)"',
            page.text,
        )
        assert [page.request.url.join(file).path for file in files] == [
            f"{PREFIX}/account/{name}" for name in ("page.css", "theme.css", "icon", "ui.js")
        ]
        for file in files:
            assert (await api.get(str(page.request.url.join(file)))).status_code == 200
        [link] = re.findall(r'<a class="button primary" href="([^"]+)"', page.text)
        assert page.request.url.join(link).path == f"{PREFIX}/account/forgot"
        for path in ("/account/unknown", f"{PREFIX}/account/unknown", f"{PREFIX}/unknown"):
            answer = await api.get(path, headers=html)
            assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"}), path
        refused = await api.post(f"{PREFIX}/token/introspect", data={"token": "x"})
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
        assert "error" not in (await api.get("/token")).json()


async def test_links_of_error_pages_use_the_public_url(make_settings: SettingsFactory) -> None:
    public = "https://example.com/shop"
    async with installed(make_settings, public_url=public) as (_, api):
        page = await api.post(
            f"{PREFIX}/account/forgot",
            data={"email": "a@example.com"},
            headers={"origin": "https://attacker.example", "accept": "text/html"},
        )
        assert page.status_code == 403
        assert f'href="{public}{PREFIX}/account/forgot"' in page.text


async def test_docs_page_finds_the_document(make_settings: SettingsFactory) -> None:
    async with installed(make_settings) as (_, api):
        page = await api.get(f"{PREFIX}/docs")
        source = re.search(r'href="([^"]+)" data-base="([^"]+)" data-prefix="([^"]+)"', page.text)
        assert source is not None
        assert page.request.url.join(source[1]).path == "/openapi.json"
        assert page.request.url.join(source[2]).path == "/"
        assert source[3] == PREFIX
        for path in re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text):
            assert (await api.get(str(page.request.url.join(path)))).status_code == 200, path


async def test_metadata_is_also_where_the_public_url_places_it(
    make_settings: SettingsFactory,
) -> None:
    public = "https://example.com/shop"
    async with installed(make_settings, public_url=public) as (app, api):
        for path in (f"{SERVER}/shop{PREFIX}", SERVER + PREFIX):
            assert (await api.get(path)).json()["issuer"] == f"{public}{PREFIX}"
        for path in (f"{RESOURCE}/shop", RESOURCE):
            assert (await api.get(path)).json()["resource"] == public
        assert not any("/shop" in path for path in app.openapi()["paths"])
        challenge = (await api.get(f"{PREFIX}/me")).headers["www-authenticate"]
        assert f'resource_metadata="{public}{RESOURCE}"' in challenge


async def test_two_installations_have_their_own_prefixes(
    make_settings: SettingsFactory, sqlite_url: str
) -> None:
    settings = make_settings()
    first, second = AuthAPI(settings), AuthAPI(settings)
    apps = FastAPI(lifespan=first.lifespan), FastAPI(lifespan=second.lifespan)
    first.install(apps[0], prefix="/first")
    second.install(apps[1], prefix="/second/auth")
    assert (settings.prefix, settings.issuer) == ("", BASE)
    async with client(apps[0]) as one, client(apps[1]) as two:
        user = await one.create_user()
        ours = (await one.login(user, strategy="jwt")).request.url.path
        theirs = (await two.login(user, strategy="jwt")).request.url.path
        assert (ours, theirs) == ("/first/login", "/second/auth/login")
        assert (await one.get("/first/me")).status_code == 200
        assert (await two.get("/second/auth/me")).status_code == 200
        assert (await one.get("/second/auth/me")).status_code == 404
        # A JWT names its issuer, and each installation accepts its own ones only.
        two.headers["authorization"] = one.headers["authorization"]
        assert (await two.get("/second/auth/me")).status_code == 401
        assert (await one.get(f"{SERVER}/first")).json()["issuer"] == f"{BASE}/first"
        assert (await two.get(f"{SERVER}/second/auth")).json()["issuer"] == f"{BASE}/second/auth"
        assert (await two.get(f"{SERVER}/first")).status_code == 404


async def test_application_may_name_operations_by_tags(make_settings: SettingsFactory) -> None:
    def unique_id(route: APIRoute) -> str:
        return f"{route.tags[0]}-{route.name}"

    for prefix in ("", PREFIX):
        auth = AuthAPI(make_settings())
        app = FastAPI(lifespan=auth.lifespan, docs_url=None, generate_unique_id_function=unique_id)
        auth.install(app, prefix=prefix)
        async with client(app) as api:
            assert (await api.get(f"{prefix}/docs")).status_code == 200
            document = (await api.get("/openapi.json")).json()
            assert document["paths"][f"{prefix}/me"]["get"]["operationId"] == "account-read_account"


async def test_route_of_the_application_below_the_prefix_wins(
    make_settings: SettingsFactory,
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)

    @app.get(f"{PREFIX}/health/live")
    async def alive() -> str:
        return "theirs"

    auth.install(app, prefix=PREFIX)
    async with client(app) as api:
        assert (await api.get(f"{PREFIX}/health/live")).json() == "theirs"
        assert (await api.get(f"{PREFIX}/health/ready")).json()["status"] == "ok"


async def test_resource_server_below_a_prefix() -> None:
    auth = ResourceServer(
        RemoteJWT(issuer="http://127.0.0.1:1", audience="x"),
        settings=EdgeSettings.model_construct(),
    )
    app = FastAPI(docs_url=None)
    auth.install(app, prefix="/auth")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as http:
        assert (await http.get("/auth/health/live")).status_code == 200
        assert (await http.get("/health/live")).status_code == 404
        document = (await http.get(RESOURCE)).json()
        assert document["resource"] == BASE
        assert document["resource_documentation"] == f"{BASE}/auth/docs"
        assert (await http.get("/auth/docs")).status_code == 200
