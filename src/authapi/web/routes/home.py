"""GET / of the service: leads a browser to the pages, and tells a program where the API is."""

from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from authapi.web.context import context_of
from authapi.web.pages.error_pages import accepts_html
from authapi.web.pages.rendering import see_other
from authapi.web.routing import SERVER_METADATA


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


def _names_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "").lower() and accepts_html(request.scope)
