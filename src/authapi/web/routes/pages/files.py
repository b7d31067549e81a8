"""/account/page.css and the other files of the pages."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.errors import NotFound
from authapi.web.documents.files import file_response
from authapi.web.pages.site import site_of
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account", tags=["pages"]
)

_IMAGE_CSP = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""An SVG file of the operator is an image: opened as a document, it runs nothing."""


@router.get("/page.css")
async def stylesheet(request: Request) -> Response:
    """The stylesheet of the pages."""
    return _file(request, "page.css")


@router.get("/console.css")
async def console_stylesheet(request: Request) -> Response:
    """What the pages of the console add to the stylesheet."""
    return _file(request, "console.css")


@router.get("/theme.css")
async def theme(request: Request) -> Response:
    """The colours of the operator, and their own stylesheet."""
    return _file(request, "theme.css")


@router.get("/ui.js")
async def script(request: Request) -> Response:
    """The script of the pages."""
    return _file(request, "ui.js")


@router.get("/passkeys.js")
async def passkey_script(request: Request) -> Response:
    """The script of the pages that use passkeys."""
    return _file(request, "passkeys.js")


@router.get("/logo")
async def logo(request: Request) -> Response:
    """The logo of the operator."""
    return image(request, "logo")


@router.get("/icon")
async def icon(request: Request) -> Response:
    """The icon of the pages: the logo of the operator, or else the first letter of the service."""
    return image(request, "icon")


def image(request: Request, name: str) -> Response:
    """Returns the response with a file that is an image. Raises NotFound without one."""
    response = _file(request, name)
    response.headers["content-security-policy"] = _IMAGE_CSP
    return response


def _file(request: Request, name: str) -> Response:
    asset = site_of(request).assets.get(name)
    if asset is None:
        raise NotFound
    return file_response(request, asset)
