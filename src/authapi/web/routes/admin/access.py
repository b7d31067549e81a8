"""/admin/users/{user_id}/sessions and .../tokens: what lets a person in to an account."""

from uuid import UUID

from fastapi import Request

from authapi.web.answers.descriptions import problems
from authapi.web.context import context_of
from authapi.web.routes.admin.gates import FreshSuperuser, Superuser, router_for
from authapi.web.schemas.session import SessionOut
from authapi.web.schemas.token import PersonalTokenOut

router = router_for("/admin/users")


@router.get("/{user_id}/sessions", responses=problems(401, 403, 404, 422, 503))
async def list_user_sessions(
    user_id: UUID, superuser: Superuser, request: Request
) -> list[SessionOut]:
    """List the logins of an account, the newest first."""
    services = context_of(request).runtime.services
    await services.accounts.profiles.find(user_id)
    sessions = await services.sessions.list_for_user(user_id)
    return [SessionOut.of(session, superuser) for session in sessions]


@router.delete(
    "/{user_id}/sessions/{session_id}",
    status_code=204,
    responses=problems(401, 403, 404, 422, 429, 503),
)
async def end_user_session(
    user_id: UUID, session_id: UUID, superuser: FreshSuperuser, request: Request
) -> None:
    """End one login of an account."""
    context = context_of(request)
    access = context.runtime.services.accounts.access
    await access.end_login(user_id, session_id, actor=superuser)
    if session_id == superuser.session_id:
        context.discard(superuser)


@router.get("/{user_id}/tokens", responses=problems(401, 403, 404, 422, 503))
async def list_user_tokens(
    user_id: UUID, superuser: Superuser, request: Request
) -> list[PersonalTokenOut]:
    """List the personal access tokens of an account, the newest first."""
    services = context_of(request).runtime.services
    await services.accounts.profiles.find(user_id)
    tokens = await services.tokens.personal.list_of(user_id)
    return [PersonalTokenOut.of(token) for token in tokens]


@router.delete(
    "/{user_id}/tokens/{token_id}",
    status_code=204,
    responses=problems(401, 403, 404, 422, 429, 503),
)
async def end_user_token(
    user_id: UUID, token_id: UUID, superuser: FreshSuperuser, request: Request
) -> None:
    """End one personal access token of an account."""
    access = context_of(request).runtime.services.accounts.access
    await access.end_token(user_id, token_id, actor=superuser)
