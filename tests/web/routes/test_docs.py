"""The docs page and its files: headers, references, caching."""

import gzip
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from fastapi import FastAPI

from authapi import AuthAPI, Settings, create_app
from authapi.testing import Client, client
from authapi.verify import EdgeSettings, RemoteJWT, ResourceServer
from tests.conftest import SettingsFactory
from tests.services.factors.webauthn.test_relying_party import PRODUCTION

CSS, SCRIPT = "text/css; charset=utf-8", "text/javascript; charset=utf-8"
LINKED = {
    "/docs/icon.svg": "image/svg+xml",
    "/docs/page.css": CSS,
    "/docs/page.js": SCRIPT,
    "/docs/swagger-ui.css": CSS,
    "/docs/swagger-ui-bundle.js": SCRIPT,
}
MODULES = ("callers", "factor-form", "panel", "passkeys", "requests", "step-up", "swagger")
FILES = {**LINKED, **{f"/docs/{name}.js": SCRIPT for name in MODULES}}
KEPT = "public, max-age=31536000, immutable"
VERSION = re.compile(r"\?v=[0-9a-f]{12}\Z")
COMPRESSED = ("swagger-ui-bundle.js", "swagger-ui.css")
"""The files of which the package has a Brotli form."""


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
        loaded |= {attributes[name] or "" for name in ("src", "href") if name in attributes}
    # Absolute paths would not work below a path prefix.
    assert "openapi.json" in loaded
    files = loaded - {"openapi.json"}
    assert all(VERSION.search(name) for name in files)
    assert {f"/{VERSION.sub('', name)}" for name in files} == {*LINKED}
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


@pytest.mark.parametrize("path", [path for path in FILES if "swagger-ui" not in path])
async def test_files_contain_no_foreign_hosts(api: Client, path: str) -> None:
    text = (await api.get(path)).text
    assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
    # Nothing is evaluated, parsed as HTML or stored in the browser.
    assert not re.search(r"innerHTML|outerHTML|\beval\b|document\.write|[Ss]torage", text)


async def test_each_address_has_the_version_of_its_content(api: Client) -> None:
    """From the page, through the imports of its scripts, to the last file."""
    found, waiting = {}, [await api.get("/docs")]
    while waiting:
        text = waiting.pop().text
        for name in re.findall(r'"(?:docs/|\./)([a-z-]+\.(?:js|css|svg)\?v=[0-9a-f]+)"', text):
            if name not in found:
                found[name] = answer = await api.get(f"/docs/{name}")
                assert answer.headers["cache-control"] == KEPT
                if "swagger-ui" not in name:
                    waiting.append(answer)
    assert {f"/docs/{VERSION.sub('', name)}" for name in found} == set(FILES)


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("coding", ["br", "gzip", "identity"])
async def test_files_are_compressed(api: Client, path: str, coding: str) -> None:
    plain = await api.get(path, headers={"accept-encoding": "identity"})
    async with api.stream("GET", path, headers={"accept-encoding": coding}) as answer:
        raw = b"".join([part async for part in answer.aiter_raw()])
    is_small = path == "/docs/icon.svg"
    has_form = coding == "gzip" or path.rpartition("/")[2] in COMPRESSED
    if coding == "identity" or is_small or not has_form:
        assert "content-encoding" not in answer.headers
        assert raw == plain.content
    else:
        assert answer.headers["content-encoding"] == coding
        assert len(raw) < len(plain.content) * 0.7
        assert answer.headers["etag"] != plain.headers["etag"]
        if coding == "gzip":
            assert gzip.decompress(raw) == plain.content
    assert ("Accept-Encoding" in answer.headers.get_list("vary")) is not is_small
    assert "accept-ranges" not in answer.headers


async def test_a_range_is_answered_with_the_whole_file(api: Client) -> None:
    whole = await api.get("/docs/page.css")
    part = await api.get("/docs/page.css", headers={"range": "bytes=0-9"})
    assert (part.status_code, part.content) == (200, whole.content)


@pytest.mark.parametrize("path", ["/docs", *FILES])
async def test_head_has_the_headers_of_get(api: Client, path: str) -> None:
    get, head = await api.get(path), await api.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length", "content-encoding", "etag", "cache-control"):
        assert head.headers.get(name) == get.headers.get(name), name


async def test_the_first_load_is_small(api: Client) -> None:
    """All that a browser loads to show the page."""
    sizes = {}
    for path in ("/docs", *FILES, "/openapi.json"):
        headers = {"accept-encoding": "gzip, deflate, br, zstd"}
        async with api.stream("GET", path, headers=headers) as answer:
            sizes[path] = sum([len(part) async for part in answer.aiter_raw()])
    assert sum(sizes.values()) < 450_000, sizes


async def test_the_page_says_whether_a_cookie_was_sent(api: Client) -> None:
    """The script does not ask who is signed in without one: the 401 would be logged."""
    assert 'data-session=""' in (await api.get("/docs")).text
    alice = await api.create_user()
    await api.login(alice)
    assert 'data-session="present"' in (await api.get("/docs")).text
    assert 'data-session=""' in (await api.get("/docs", headers={"cookie": "other=1"})).text


@pytest.mark.parametrize(
    ("changes", "passkeys", "pages"),
    [
        ({}, "on", "signin account"),
        ({"passkeys": "off"}, "", "signin account"),
        ({"passkeys": "second_factor", "pages": "mail"}, "second_factor", ""),
    ],
    ids=str,
)
async def test_the_page_names_what_there_is(
    make_settings: SettingsFactory, changes: dict[str, object], passkeys: str, pages: str
) -> None:
    async with client(create_app(make_settings(**changes))) as api:
        page = (await api.get("/docs")).text
    assert f'data-passkeys="{passkeys}" data-pages="{pages}"' in page


async def test_a_resource_server_has_the_page() -> None:
    verifier = RemoteJWT(issuer="https://auth.example.com", audience="orders")
    auth = ResourceServer(verifier, settings=EdgeSettings(docs=True))
    app = FastAPI(lifespan=auth.lifespan, docs_url=None)
    auth.install(app, prefix="/inner")
    async with client(app) as api:
        page = await api.get("/inner/docs", headers={"cookie": "authapi=1"})
        assert (await api.get("/inner/docs/panel.js")).status_code == 200
    assert 'data-session="" data-passkeys="" data-pages=""' in page.text


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
