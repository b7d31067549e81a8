"""/docs: a page to read and try the API. It loads no files from other hosts.

It is made of Swagger UI, which works under a policy without inline scripts and styles and signs in
with the cookie. Scalar needs inline styles.
"""

import html
import re
from functools import cache
from importlib import resources
from string import Template

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.errors import NotFound, PasskeysUnavailable
from authapi.services.factors.webauthn.relying_party import relying_party_of
from authapi.settings import Settings
from authapi.web.context import Runtime, context_of
from authapi.web.documents.files import VERSION, Asset, file_response

router = APIRouter(include_in_schema=False, prefix="/docs", tags=["docs"])

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""All files are of the same origin. The stylesheet of Swagger UI contains icons as `data:` URLs."""

_CSS = "text/css; charset=utf-8"
_JAVASCRIPT = "text/javascript; charset=utf-8"
_SWAGGER_UI = "swagger-ui/"
_FILES = {
    "icon.svg": ("", "image/svg+xml"),
    "page.css": ("", _CSS),
    "page.js": ("", _JAVASCRIPT),
    "callers.js": ("", _JAVASCRIPT),
    "factor-form.js": ("", _JAVASCRIPT),
    "panel.js": ("", _JAVASCRIPT),
    "passkeys.js": ("", _JAVASCRIPT),
    "requests.js": ("", _JAVASCRIPT),
    "step-up.js": ("", _JAVASCRIPT),
    "swagger.js": ("", _JAVASCRIPT),
    "swagger-ui.css": (_SWAGGER_UI, _CSS),
    "swagger-ui-bundle.js": (_SWAGGER_UI, _JAVASCRIPT),
}
"""Folders and media types. No other file can be requested (path traversal)."""

_LINK = re.compile(rb'"((?:docs|\.)/)([a-z-]+\.(?:css|js|svg))"')
"""An address of a file, in the page and in the imports of its scripts."""
_PAGES = ("signin", "account")
"""The units of pages that the page leads to."""


@router.get("")
def page(request: Request) -> Response:
    """The docs page. Its links are relative, so it works also below a path that a proxy adds."""
    if request.app.openapi_url is None:
        raise NotFound
    runtime = context_of(request).runtime
    file = _page(
        request.app.openapi_url,
        runtime.settings.prefix,
        *_passkeys(runtime),
        " ".join(name for name in _PAGES if name in runtime.units),
        "present" if _has_cookie(request, runtime) else "",
        runtime.settings.public_url or "",
    )
    response = file_response(request, file)
    response.headers["content-security-policy"] = CSP
    response.headers["cross-origin-opener-policy"] = "same-origin"
    return response


@router.get("/{name}")
def static_file(name: str, request: Request) -> Response:
    """A file of the docs page."""
    if name not in _FILES:
        raise NotFound
    return file_response(request, _load(name))


def _passkeys(runtime: Runtime) -> tuple[str, str]:
    """Returns what passkeys prove, and the host that a page in development must be opened at.

    Both are empty if there are no passkeys, the host also if the page is at a good one.
    """
    settings = runtime.settings
    if not isinstance(settings, Settings):  # a resource server has no passkeys
        return "", ""
    try:
        party = relying_party_of(settings)
    except PasskeysUnavailable:
        return "", ""
    return settings.passkeys, party.id if party.allows_localhost else ""


def _has_cookie(request: Request, runtime: Runtime) -> bool:
    """Whether the request has a cookie of a strategy.

    The script cannot see it. Without one, it does not ask who is signed in: browsers would log the
    401 as an error.
    """
    schemes = [strategy.openapi() for strategy in runtime.registry]
    names = {scheme.get("name") for scheme in schemes if scheme.get("in") == "cookie"}
    return not names.isdisjoint(request.cookies)


@cache
def _page(
    openapi_url: str,
    prefix: str,
    passkeys: str,
    passkey_host: str,
    pages: str,
    session: str,
    public_url: str,
) -> Asset:
    source = _with_versions(_read("index.html"))
    # The URL of the application, relative to that of the page.
    base = "../" * prefix.count("/")
    body = Template(source.decode()).substitute(
        base=base or "./",
        openapi_url=html.escape(base + openapi_url.lstrip("/")),
        prefix=prefix,
        passkeys=passkeys,
        passkey_host=passkey_host,
        pages=pages,
        session=session,
        public_url=html.escape(public_url),
    )
    return Asset.of(body.encode(), "text/html; charset=utf-8")


@cache
def _load(name: str) -> Asset:
    folder, media_type = _FILES[name]
    body = _read(folder + name)
    if folder:
        return Asset(body, media_type, _compressed(folder + name))
    return Asset.of(_with_versions(body), media_type)


def _with_versions(source: bytes) -> bytes:
    """Adds their versions to the addresses of files in `source`.

    The version of a script depends on those of its imports, so that a change reaches the page.
    """

    def with_version(link: re.Match[bytes]) -> bytes:
        version = _load(link[2].decode()).version.encode()
        return b'"%b%b?%b=%b"' % (link[1], link[2], VERSION.encode(), version)

    return _LINK.sub(with_version, source)


def _compressed(path: str) -> bytes | None:
    try:
        return _read(f"{path}.br")
    except FileNotFoundError:
        return None


def _read(path: str) -> bytes:
    return resources.files("authapi.web").joinpath("docs", path).read_bytes()
