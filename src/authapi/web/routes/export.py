"""GET /me/export: everything of mine, to take along."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authapi.clock import now
from authapi.identity import Event, Identity
from authapi.storage.tables.events import EventFilter
from authapi.web.context import context_of
from authapi.web.exports import Download
from authapi.web.openapi import problems
from authapi.web.resolver import identity_if_configured
from authapi.web.routing import ProtectedRoute
from authapi.web.schemas import EventOut, ExportOut, PersonalTokenOut, SessionOut, UserOut

router = APIRouter(route_class=ProtectedRoute, tags=["account"], prefix="/me")

Owner = Annotated[Identity, Depends(identity_if_configured("session", "jwt"))]

_PAGE = 100
"""Events that are read at once."""


@router.get("/export", response_model=ExportOut, responses=problems(401, 404, 429, 503))
async def export(identity: Owner, request: Request) -> Response:
    """Everything of mine as JSON: account, logins, tokens and events; no secrets, nor hashes.

    It is sent as it is read, however long it is. A file that ends before its last brace is not
    complete: so it ends if the login or the account ends meanwhile.
    """
    services, user_id = context_of(request).runtime.services, identity.user.id
    logins = await services.sessions.list_of(user_id)
    rest = ExportOut(
        exported_at=now(),
        account=UserOut.of(await services.accounts.find(user_id)),
        sessions=[SessionOut.of(session, identity) for session in logins],
        tokens=[PersonalTokenOut.of(token) for token in await services.tokens.list_of(user_id)],
        events=[],
    )
    mine = EventFilter(user_id=user_id)
    pages = services.audit.export(mine, _events, caller=identity, page_size=_PAGE)
    # Before the answer begins: a database that is away is a 503 still.
    first = await anext(pages, "")
    parts = _parts(rest.model_dump_json(), first, pages)
    return Download(parts, name="account.json", media_type="application/json")


async def _parts(rest: str, first: str, pages: AsyncGenerator[str]) -> AsyncGenerator[str]:
    """The document `rest`, with all events in the array at its end."""
    head, end = rest[:-2], rest[-2:]  # "]}"
    async with aclosing(pages):
        yield head + first
        async for page in pages:
            yield "," + page
    yield end


def _events(page: Sequence[Event]) -> str:
    return ",".join(EventOut.of(event).model_dump_json() for event in page)
