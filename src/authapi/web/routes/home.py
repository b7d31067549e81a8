"""The root of the service: / leads a browser to the pages, and tells a program where the API is.

Browsers ask the root of a host for its icon, whatever the page says.
"""

from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from authapi.errors import NotFound
from authapi.web.context import context_of
from authapi.web.pages.error_pages import accepts_html
from authapi.web.pages.rendering import see_other
from authapi.web.routes.pages.files import image
from authapi.web.routing import SERVER_METADATA

_A_DAY = "public, max-age=86400"
"""The address has no hash of the content, so browsers ask again."""


async def read_home(request: Request) -> Response:
    """Lead a browser to its account. For a program, name the documentation and the metadata."""
    runtime = context_of(request).runtime
    settings = runtime.services.settings
    # A client without a preference is a program: browsers name text/html.
    if "account" in runtime.units and _names_html(request):
        return see_other("account")
    answer = {
        "service": settings.service_name,
        "metadata": f"{settings.issuer}{SERVER_METADATA}",
    }
    if settings.docs_enabled:
        answer |= {"docs": f"{settings.issuer}/docs", "openapi": f"{settings.issuer}/openapi.json"}
    if settings.env == "development":
        answer["version"] = version("fastapi-authapi")
    return JSONResponse(answer)


async def read_icon(request: Request) -> Response:
    """The icon of the pages. Raises NotFound if there is no page."""
    if "page_files" not in context_of(request).runtime.units:
        raise NotFound
    response = image(request, "icon")
    response.headers["cache-control"] = _A_DAY
    return response


def _names_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "").lower() and accepts_html(request.scope)
