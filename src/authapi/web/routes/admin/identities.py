"""/admin/users/{user_id}/identities: show and unlink who may log in to an account."""

from uuid import UUID

from fastapi import Request

from authapi.web.answers.descriptions import problems
from authapi.web.context import context_of
from authapi.web.routes.admin.gates import FreshReader, FreshSuperuser, router_for
from authapi.web.schemas.federation.flows import LinkedIdentityOut

router = router_for("/admin/users")


@router.get("/{user_id}/identities", responses=problems(401, 403, 404, 422, 503))
async def list_user_identities(
    user_id: UUID, superuser: FreshReader, request: Request
) -> list[LinkedIdentityOut]:
    """List the people at providers who may log in to an account. Requires a recent login."""
    links = context_of(request).runtime.services.federation.links
    return [LinkedIdentityOut.of(linked) for linked in await links.list_as_administrator(user_id)]


@router.delete(
    "/{user_id}/identities/{identity_id}",
    status_code=204,
    responses=problems(401, 403, 404, 422, 429, 503),
)
async def unlink_user_identity(
    user_id: UUID, identity_id: UUID, superuser: FreshSuperuser, request: Request
) -> None:
    """Unlink a person at a provider from an account, and end the logins that began there.

    Also if it is the last way in: the owner, who is told by mail, can choose a password with
    "Forgot password". You cannot unlink from your own account here.
    """
    await context_of(request).runtime.services.federation.links.unlink_as_administrator(
        user_id, identity_id, actor=superuser
    )
