"""GET /me/export: all data of the account of the caller."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from authapi.clock import now
from authapi.domain.events import Event, EventFilter
from authapi.domain.identity import Identity
from authapi.web.answers.descriptions import problems
from authapi.web.answers.event_files import Download
from authapi.web.context import context_of
from authapi.web.resolver import identity_if_configured
from authapi.web.routing import ProtectedRoute
from authapi.web.schemas.event import EventOut
from authapi.web.schemas.factors.overview import FactorsOut
from authapi.web.schemas.federation.flows import LinkedIdentityOut
from authapi.web.schemas.session import SessionOut
from authapi.web.schemas.token import PersonalTokenOut
from authapi.web.schemas.user import ExportOut, UserOut

router = APIRouter(route_class=ProtectedRoute, tags=["account"], prefix="/me")

Owner = Annotated[Identity, Depends(identity_if_configured("session", "jwt"))]

_PAGE = 100
"""Events in one database query."""


@router.get("/export", response_model=ExportOut, responses=problems(401, 404, 429, 503))
async def export_account(identity: Owner, request: Request) -> Download:
    """Export all data of your account as JSON: account, logins, tokens, second factors,
    linked identities and events.

    The file contains no secrets and no hashes. It is streamed. If your session or account ends
    during the export, the file stops early, and is not valid JSON.
    """
    return await export_file(request, identity, name="account.json")


async def export_file(request: Request, identity: Identity, *, name: str) -> Download:
    """Returns the file with all data of the account of `identity`.

    Raises NotFound if the account is deleted, TooManyRequests if the caller has three exports in
    progress, StorageUnavailable, and InvalidCredential if the session of the caller has ended.
    """
    services, user_id = context_of(request).runtime.services, identity.user.id
    sessions = await services.sessions.list_for_user(user_id)
    document = ExportOut(
        exported_at=now(),
        account=UserOut.of(await services.accounts.profiles.find(user_id)),
        sessions=[SessionOut.of(session, identity) for session in sessions],
        tokens=[
            PersonalTokenOut.of(token) for token in await services.tokens.personal.list_of(user_id)
        ],
        factors=FactorsOut.of(await services.factors.changes.overview(identity.user)),
        identities=[
            LinkedIdentityOut.of(linked)
            for linked in await services.federation.links.list_of(user_id)
        ],
        events=[],
    )
    own_events = EventFilter(user_id=user_id)
    pages = services.audit.export(own_events, _to_json, caller=identity, page_size=_PAGE)
    # Read before the response starts: if the database is not available, the status can be 503.
    first = await anext(pages, "")
    parts = _parts(document.model_dump_json(by_alias=True), first, pages)
    return Download(parts, name=name, media_type="application/json")


async def _parts(document: str, first: str, pages: AsyncGenerator[str]) -> AsyncGenerator[str]:
    """`document` with the events inserted into its last member, an empty array."""
    head, end = document[:-2], document[-2:]  # "]}"
    async with aclosing(pages):
        yield head + first
        async for page in pages:
            yield "," + page
    yield end


def _to_json(page: Sequence[Event]) -> str:
    return ",".join(EventOut.of(event).model_dump_json() for event in page)
