"""/me/events: audit events of the account of the caller."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from authapi.domain.identity import Identity
from authapi.web.answers.descriptions import problems
from authapi.web.context import context_of
from authapi.web.resolver import identity_if_configured
from authapi.web.routing import ProtectedRoute
from authapi.web.schemas.event import EventOut, EventPage

router = APIRouter(route_class=ProtectedRoute, tags=["account"], prefix="/me")

Owner = Annotated[Identity, Depends(identity_if_configured("session", "jwt"))]
Before = Annotated[UUID | None, Query(description="The `next` of the previous page.")]
Limit = Annotated[int, Query(ge=1, le=200)]


@router.get("/events", responses=problems(401, 422, 503))
async def list_events(
    identity: Owner, request: Request, before: Before = None, limit: Limit = 50
) -> EventPage:
    """List the events of your account, the newest first."""
    audit = context_of(request).runtime.services.audit
    events = await audit.page(identity.user.id, before=before, limit=limit)
    return EventPage(
        items=[EventOut.of(event) for event in events],
        next=events[-1].id if len(events) == limit else None,
    )
