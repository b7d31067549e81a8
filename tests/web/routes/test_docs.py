"""The docs page and its files: headers, references, caching."""

import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from fastapi import FastAPI

from authapi import AuthAPI, Settings, create_app
from authapi.testing import Client, client
from tests.conftest import SettingsFactory
from tests.services.factors.webauthn.test_relying_party import PRODUCTION

FILES = {
    "/docs/icon.svg": "image/svg+xml",
    "/docs/page.css": "text/css; charset=utf-8",
    "/docs/page.js": "text/javascript; charset=utf-8",
    "/docs/swagger-ui.css": "text/css; charset=utf-8",
    "/docs/swagger-ui-bundle.js": "text/javascript; charset=utf-8",
}


class Elements(HTMLParser):
    """Collects the elements of a page, with their attributes and their text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))

    def handle_data(self, data: str) -> None:
        if self.found and data.strip():
            self.found[-1][2].append(data)


async def test_the_page_has_its_own_csp(api: Client) -> None:
    response = await api.get("/docs")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert response.headers["cross-origin-opener-policy"] == "same-origin"
    assert response.headers["cross-origin-resource-policy"] == "same-origin"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-cache"


async def test_the_page_has_no_inline_or_foreign_resources(api: Client) -> None:
    page = (await api.get("/docs")).text
    loaded = set()
    for tag, attributes, text in Elements(page).found:
        assert tag != "style"
        assert not any(name == "style" or name.startswith("on") for name in attributes)
        if tag == "script":
            assert not text
            assert attributes["src"]
        loaded |= {attributes[name] for name in ("src", "href") if name in attributes}
    # Absolute paths would not work below a path prefix.
    assert {f"/{name}" for name in loaded} == {*FILES, "/openapi.json"}
    assert "://" not in page


@pytest.mark.parametrize(
    ("changes", "host"),
    [
        ({}, "localhost"),
        ({"passkeys": "off"}, ""),
        ({"passkey_rp_id": "example.com"}, ""),
        ({**PRODUCTION, "public_url": "https://auth.example.com", "docs": True}, ""),
    ],
    ids=str,
)
async def test_the_page_names_the_host_of_passkeys_in_development(
    make_settings: SettingsFactory, changes: dict[str, object], host: str
) -> None:
    async with client(create_app(make_settings(**changes))) as api:
        page = (await api.get("/docs")).text
    assert f'data-host="{host}" hidden' in page


@pytest.mark.parametrize("name", ["page.css", "page.js"])
async def test_files_contain_no_foreign_hosts(api: Client, name: str) -> None:
    assert "://" not in (await api.get(f"/docs/{name}")).text


@pytest.mark.parametrize(("path", "media_type"), FILES.items(), ids=lambda value: value)
async def test_files_have_their_media_types(api: Client, path: str, media_type: str) -> None:
    response = await api.get(path)
    assert response.status_code == 200
    assert response.content
    assert response.headers["content-type"] == media_type
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-cache"
    # A file that is opened directly has the default policy of all responses.
    assert response.headers["content-security-policy"].endswith("sandbox")


@pytest.mark.parametrize("path", ["/docs", *FILES])
async def test_an_unchanged_file_is_a_304(api: Client, path: str) -> None:
    etag = (await api.get(path)).headers["etag"]
    unchanged = await api.get(path, headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == etag
    assert (await api.get(path, headers={"If-None-Match": '"another"'})).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "",
        "index.html",
        "LICENSE",
        "unknown.js",
        "swagger-ui",
        "swagger-ui/swagger-ui.css",
        "swagger-ui%2Fswagger-ui.css",
        "swagger-ui-bundle.js.map",
        "..%2Froutes%2Fdocs.py",
        "%2e%2e/%2e%2e/settings.py",
    ],
)
async def test_other_names_are_not_served(api: Client, name: str) -> None:
    response = await api.get(f"/docs/{name}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "not_found"


async def test_the_page_is_not_in_the_openapi_document(api: Client) -> None:
    document = (await api.get("/openapi.json")).json()
    assert not any(path.startswith("/docs") for path in document["paths"])


@pytest.mark.parametrize("path", ["/docs", *FILES, "/openapi.json"])
async def test_docs_can_be_disabled(make_settings: Callable[..., Settings], path: str) -> None:
    async with client(create_app(make_settings(docs=False))) as api:
        assert (await api.get(path)).status_code == 404


async def test_the_page_links_the_openapi_document(
    make_settings: Callable[..., Settings],
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan, docs_url=None, openapi_url="/api/v1/openapi.json")
    auth.install(app)
    async with client(app) as api:
        page = (await api.get("/docs")).text
    assert re.search(r'rel="service-desc" [^>]*href="api/v1/openapi.json"', page)


async def test_without_an_openapi_document_there_is_no_page(
    make_settings: Callable[..., Settings],
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan, docs_url=None, openapi_url=None)
    auth.install(app)
    async with client(app) as api:
        assert (await api.get("/docs")).status_code == 404
