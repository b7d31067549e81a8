"""/docs: a page to read and try the API, made of files of our own, so that it needs no network."""

import html
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Template

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.errors import NotFound
from authapi.strategies.base import header
from authapi.web.caching import etag_of, matches

router = APIRouter(include_in_schema=False, prefix="/docs")

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page loads is all ours. The `data:` images are the icons in Swagger UI's stylesheet."""

_TYPES = {
    "icon.svg": "image/svg+xml",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "swagger-ui/swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui/swagger-ui-bundle.js": "text/javascript; charset=utf-8",
}
_PATHS = {path.rpartition("/")[2]: path for path in _TYPES}
"""Only these names are served, so no name can lead out of the folder."""


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file of the page, as it goes out."""

    body: bytes
    media_type: str
    etag: str


@router.get("")
def page(request: Request) -> Response:
    """The page itself. It names everything relative to itself, so it works below any prefix."""
    if request.app.openapi_url is None:
        raise NotFound
    response = _answer(request, _page(request.app.openapi_url))
    response.headers["content-security-policy"] = CSP
    response.headers["cross-origin-opener-policy"] = "same-origin"
    return response


@router.get("/{name}")
def static_file(name: str, request: Request) -> Response:
    """A file that the page loads."""
    if name not in _PATHS:
        raise NotFound
    return _answer(request, _load(_PATHS[name]))


def _answer(request: Request, file: StaticFile) -> Response:
    # Asked for again each time, since names stay the same when a new version changes the content.
    headers = {"etag": file.etag, "cache-control": "no-cache"}
    if matches(header(request, b"if-none-match"), file.etag, weak=True):
        return Response(status_code=304, headers=headers)
    return Response(file.body, media_type=file.media_type, headers=headers)


@cache
def _page(openapi_url: str) -> StaticFile:
    template = Template(_read("index.html").decode())
    body = template.substitute(openapi_url=html.escape(openapi_url.lstrip("/"))).encode()
    return StaticFile(body, "text/html; charset=utf-8", etag_of(body))


@cache
def _load(path: str) -> StaticFile:
    body = _read(path)
    return StaticFile(body, _TYPES[path], etag_of(body))


def _read(path: str) -> bytes:
    return resources.files("authapi.web").joinpath("docs", path).read_bytes()
