"""/me/sessions: my logins, and ending them; /me/session: what is kept with this one."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Request
from pydantic import JsonValue

from authapi.errors import NotFound
from authapi.identity import Identity
from authapi.web.context import context_of
from authapi.web.openapi import problems, response_header
from authapi.web.resolver import identity_if_configured
from authapi.web.routing import ProtectedRoute
from authapi.web.schemas import SessionDataOut, SessionOut, session_data_out

router = APIRouter(route_class=ProtectedRoute, tags=["sessions"], prefix="/me")

_DISCARDED: dict[int | str, dict[str, Any]] = {
    204: response_header("Set-Cookie", "Removes the cookie, if its session is the one that ended.")
}
Owner = Annotated[Identity, Depends(identity_if_configured("session", "jwt"))]
Ender = Annotated[Identity, Depends(identity_if_configured("session", "jwt", writes="uncounted"))]
Visitor = Annotated[Identity, Depends(identity_if_configured("session"))]
Writer = Annotated[Identity, Depends(identity_if_configured("session", writes="by_account"))]


@router.get("/sessions", responses=problems(401, 503))
async def list_sessions(identity: Owner, request: Request) -> list[SessionOut]:
    """My logins, the newest first, with the one in use marked."""
    found = await context_of(request).runtime.services.sessions.list_of(identity.user.id)
    return [SessionOut.of(session, identity) for session in found]


@router.delete("/sessions", status_code=204, responses=problems(401, 503))
async def end_others(identity: Ender, request: Request) -> None:
    """End all my logins but this one."""
    await context_of(request).runtime.services.sessions.end_others(identity)


@router.delete(
    "/sessions/{session_id}",
    status_code=204,
    responses=_DISCARDED | problems(401, 404, 422, 503),
)
async def end_session(session_id: UUID, identity: Ender, request: Request) -> None:
    """End one of my logins."""
    context = context_of(request)
    await context.runtime.services.sessions.end_own(session_id, identity)
    if session_id == identity.session_id:
        context.discard(identity)


@router.get("/session", responses=problems(401, 404, 503))
async def read_session(identity: Visitor, request: Request) -> SessionDataOut:
    """This session, and the data kept with it."""
    if identity.session_id is None:  # as in tests that act as somebody
        raise NotFound
    sessions = context_of(request).runtime.services.sessions
    return session_data_out(identity, await sessions.data_of(identity.session_id))


@router.patch("/session", responses=problems(400, 401, 404, 408, 415, 422, 429, 503))
async def merge_session(
    changes: Annotated[
        dict[str, JsonValue],
        Body(description="Members to keep; null removes one.", examples=[{"theme": "dark"}]),
    ],
    identity: Writer,
    request: Request,
) -> SessionDataOut:
    """Merge members into the data kept with this session; it ends with the session."""
    sessions = context_of(request).runtime.services.sessions
    return session_data_out(identity, await sessions.merge_data(identity, changes))
