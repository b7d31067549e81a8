"""/docs: a page to read and try the API. It loads no files from other hosts."""

import html
from functools import cache
from importlib import resources
from string import Template

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.errors import NotFound, PasskeysUnavailable
from authapi.services.factors.webauthn.relying_party import relying_party_of
from authapi.settings import EdgeSettings, Settings
from authapi.web.answers.conditional import Representation, conditional_response
from authapi.web.context import context_of

router = APIRouter(include_in_schema=False, prefix="/docs", tags=["docs"])

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""All files are of the same origin. The stylesheet of Swagger UI contains icons as `data:` URLs."""

_TYPES = {
    "icon.svg": "image/svg+xml",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "swagger-ui/swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui/swagger-ui-bundle.js": "text/javascript; charset=utf-8",
}
_PATHS = {path.rpartition("/")[2]: path for path in _TYPES}
"""Maps the names that are served to paths. No other file can be requested (path traversal)."""


@router.get("")
def page(request: Request) -> Response:
    """The docs page. Its links are relative, so it works also below a path that a proxy adds."""
    if request.app.openapi_url is None:
        raise NotFound
    settings = context_of(request).runtime.settings
    file = _page(request.app.openapi_url, settings.prefix, _passkey_host(settings))
    response = _file_response(request, file)
    response.headers["content-security-policy"] = CSP
    response.headers["cross-origin-opener-policy"] = "same-origin"
    return response


@router.get("/{name}")
def static_file(name: str, request: Request) -> Response:
    """A file of the docs page."""
    if name not in _PATHS:
        raise NotFound
    return _file_response(request, _load(_PATHS[name]))


def _file_response(request: Request, file: Representation) -> Response:
    # Browsers must revalidate: a new version has other content under the same names.
    return conditional_response(request, file, cache_control="no-cache")


def _passkey_host(settings: EdgeSettings) -> str:
    """Returns the host that a page in development must be opened at for passkeys; or nothing."""
    if not isinstance(settings, Settings):  # a resource server has no passkeys
        return ""
    try:
        party = relying_party_of(settings)
    except PasskeysUnavailable:
        return ""
    return party.id if party.allows_localhost else ""


@cache
def _page(openapi_url: str, prefix: str, passkey_host: str) -> Representation:
    template = Template(_read("index.html").decode())
    # The URL of the application, relative to that of the page.
    base = "../" * prefix.count("/")
    source = html.escape(base + openapi_url.lstrip("/"))
    body = template.substitute(
        base=base or "./", openapi_url=source, prefix=prefix, passkey_host=passkey_host
    )
    return Representation.of(body.encode(), media_type="text/html; charset=utf-8")


@cache
def _load(path: str) -> Representation:
    return Representation.of(_read(path), media_type=_TYPES[path])


def _read(path: str) -> bytes:
    return resources.files("authapi.web").joinpath("docs", path).read_bytes()
