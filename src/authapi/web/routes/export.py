"""GET /me/export: everything of mine, to take along."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authapi.clock import now
from authapi.identity import Event, Identity
from authapi.services import Services
from authapi.web.context import context_of
from authapi.web.openapi import problems
from authapi.web.resolver import identity_if_configured
from authapi.web.routing import ProtectedRoute
from authapi.web.schemas import EventOut, ExportOut, PersonalTokenOut, SessionOut, UserOut

router = APIRouter(route_class=ProtectedRoute, tags=["account"], prefix="/me")

Owner = Annotated[Identity, Depends(identity_if_configured("session", "jwt"))]

_PAGE = 1000


@router.get("/export", response_model=ExportOut, responses=problems(401, 404, 503))
async def export(identity: Owner, request: Request) -> Response:
    """Everything of mine as JSON: account, logins, tokens and events; no secrets, nor hashes."""
    services, user_id = context_of(request).runtime.services, identity.user.id
    logins = await services.sessions.list_of(user_id)
    found = ExportOut(
        exported_at=now(),
        account=UserOut.of(await services.accounts.find(user_id)),
        sessions=[SessionOut.of(session, identity) for session in logins],
        tokens=[PersonalTokenOut.of(token) for token in await services.tokens.list_of(user_id)],
        events=[EventOut.of(event) for event in await _events(services, identity)],
    )
    headers = {"content-disposition": 'attachment; filename="account.json"'}
    return Response(found.model_dump_json(), media_type="application/json", headers=headers)


async def _events(services: Services, identity: Identity) -> list[Event]:
    found: list[Event] = []
    while True:
        before = found[-1].id if found else None
        page = await services.audit.page(identity.user.id, before=before, limit=_PAGE)
        found += page
        if len(page) < _PAGE:
            return found
