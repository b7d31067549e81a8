"""/.well-known: where password managers find the pages for passwords and passkeys.

Both are documents of the host, without a prefix. Without a page, they are no routes: 404.
"""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.web.context import Runtime, context_of
from authapi.web.routing import CHANGE_PASSWORD, PASSKEY_ENDPOINTS, AuthAPIRoute
from authapi.web.schemas.factors.passkeys import PasskeyEndpointsOut

change_password = APIRouter(route_class=AuthAPIRoute, include_in_schema=False, tags=["pages"])
passkey_endpoints = APIRouter(route_class=AuthAPIRoute, tags=["metadata"])


@change_password.get(CHANGE_PASSWORD)
async def redirect_to_password_page(request: Request) -> Response:
    """Lead to the page where people change their password.

    It is that of the application, or else the built-in one; without that, the one that mails a link
    to reset the password. The location depends on the settings alone, never on the request.
    """
    runtime = context_of(request).runtime
    page = _security_page(runtime, "/password")
    if page is None:
        page = f"{runtime.services.settings.issuer}/account/forgot"
    return Response(status_code=302, headers={"Location": page})


@passkey_endpoints.get(PASSKEY_ENDPOINTS)
async def read_passkey_endpoints(request: Request) -> PasskeyEndpointsOut:
    """Get the pages where people add and manage their passkeys (W3C, Passkey Endpoints)."""
    runtime = context_of(request).runtime
    # Without a page, this is no route.
    enrol, manage = _security_page(runtime, "/passkeys"), _security_page(runtime, "")
    return PasskeyEndpointsOut(enroll=enrol or "", manage=manage or "")


def _security_page(runtime: Runtime, path: str) -> str | None:
    """Returns the page of the application, or else the built-in one at `path`; None without one."""
    settings = runtime.services.settings
    if settings.security_link is not None:
        return settings.security_link
    return f"{settings.issuer}/account/security{path}" if "account" in runtime.units else None
