"""/me/sessions: list and end the sessions of the caller; /me/session: data of this session."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Request
from pydantic import JsonValue

from authapi.domain.identity import Identity
from authapi.domain.session import OF_PAGES
from authapi.errors import InputError, InvalidInput, NotFound
from authapi.web.answers.descriptions import problems, response_header
from authapi.web.context import context_of
from authapi.web.resolver import identity_if_configured
from authapi.web.routing import ProtectedRoute
from authapi.web.schemas.session import SessionDataOut, SessionOut, session_data_out

router = APIRouter(route_class=ProtectedRoute, tags=["sessions"], prefix="/me")

_DISCARDED: dict[int | str, dict[str, Any]] = {
    204: response_header("Set-Cookie", "Deletes the cookie, if its session is the one that ended.")
}
Owner = Annotated[Identity, Depends(identity_if_configured("session", "jwt"))]
OwnerUncounted = Annotated[
    Identity, Depends(identity_if_configured("session", "jwt", writes="uncounted"))
]
SessionOwner = Annotated[Identity, Depends(identity_if_configured("session"))]
SessionWriter = Annotated[Identity, Depends(identity_if_configured("session", writes="by_account"))]


@router.get("/sessions", responses=problems(401, 503))
async def list_sessions(identity: Owner, request: Request) -> list[SessionOut]:
    """List your logins, the newest first. `current` marks the one of this request."""
    sessions = await context_of(request).runtime.services.sessions.list_for_user(identity.user.id)
    return [SessionOut.of(session, identity) for session in sessions]


@router.delete("/sessions", status_code=204, responses=problems(401, 503))
async def end_other_sessions(identity: OwnerUncounted, request: Request) -> None:
    """End all your logins except the current one."""
    await context_of(request).runtime.services.sessions.end_others(identity)


@router.delete(
    "/sessions/{session_id}",
    status_code=204,
    responses=_DISCARDED | problems(401, 404, 422, 503),
)
async def end_session(session_id: UUID, identity: OwnerUncounted, request: Request) -> None:
    """End one of your logins."""
    context = context_of(request)
    await context.runtime.services.sessions.end_own(session_id, identity)
    if session_id == identity.session_id:
        context.discard(identity)


@router.get("/session", responses=problems(401, 404, 503))
async def read_session(identity: SessionOwner, request: Request) -> SessionDataOut:
    """Get the current session, and the data stored in it."""
    if identity.session_id is None:  # in tests that use `acting_as`
        raise NotFound
    sessions = context_of(request).runtime.services.sessions
    return session_data_out(identity, await sessions.get_data(identity.session_id))


@router.patch("/session", responses=problems(400, 401, 404, 408, 415, 422, 429, 503))
async def update_session(
    changes: Annotated[
        dict[str, JsonValue],
        Body(description="Members to set; null deletes a member.", examples=[{"theme": "dark"}]),
    ],
    identity: SessionWriter,
    request: Request,
) -> SessionDataOut:
    """Update the data of the current session. It is deleted when the session ends."""
    # Otherwise a script could have a page show a message about a change that never happened.
    if reserved := sorted(OF_PAGES & changes.keys()):
        raise InvalidInput(
            *(InputError(("body", name), "extra_forbidden", "is reserved") for name in reserved)
        )
    sessions = context_of(request).runtime.services.sessions
    return session_data_out(identity, await sessions.merge_data(identity, changes))
