"""/admin/users/{user_id}/factors: show and reset the second factors of an account."""

from uuid import UUID

from fastapi import Request

from authapi.web.answers.descriptions import problems
from authapi.web.context import context_of
from authapi.web.routes.admin.gates import FreshReader, FreshSuperuser, router_for
from authapi.web.schemas.factors.overview import FactorsOut

router = router_for("/admin/users")


@router.get("/{user_id}/factors", responses=problems(401, 403, 404, 422, 503))
async def read_user_factors(user_id: UUID, superuser: FreshReader, request: Request) -> FactorsOut:
    """Get the second factors of an account, without secrets. Requires a recent login."""
    services = context_of(request).runtime.services
    user = await services.accounts.profiles.find(user_id)
    return FactorsOut.of(await services.factors.changes.overview(user))


@router.delete(
    "/{user_id}/factors", status_code=204, responses=problems(401, 403, 404, 422, 429, 503)
)
async def reset_user_factors(user_id: UUID, superuser: FreshSuperuser, request: Request) -> None:
    """Remove all second factors of an account whose owner has lost them, and end its logins.

    Make sure first that the request comes from the owner: a password alone logs in to the account
    afterwards. The owner is told by mail. Personal access tokens stay. You cannot reset the factors
    of your own account here.
    """
    await context_of(request).runtime.services.accounts.administration.reset_factors(
        user_id, actor=superuser
    )
