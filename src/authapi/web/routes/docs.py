"""/docs: a page to read and try the API. It loads no files from other hosts."""

import html
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Template

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.errors import NotFound
from authapi.strategies.base import read_header
from authapi.web.answers.conditional import etag_of, matches

router = APIRouter(include_in_schema=False, prefix="/docs")

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


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file of the docs page, with its headers."""

    body: bytes
    media_type: str
    etag: str


@router.get("")
def page(request: Request) -> Response:
    """The docs page. Its links are relative, so it works below any path prefix."""
    if request.app.openapi_url is None:
        raise NotFound
    response = _file_response(request, _page(request.app.openapi_url))
    response.headers["content-security-policy"] = CSP
    response.headers["cross-origin-opener-policy"] = "same-origin"
    return response


@router.get("/{name}")
def static_file(name: str, request: Request) -> Response:
    """A file of the docs page."""
    if name not in _PATHS:
        raise NotFound
    return _file_response(request, _load(_PATHS[name]))


def _file_response(request: Request, file: StaticFile) -> Response:
    # Browsers must revalidate: a new version has other content under the same names.
    headers = {"etag": file.etag, "cache-control": "no-cache"}
    if matches(read_header(request, b"if-none-match"), file.etag, weak=True):
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
