"""The gates of /admin: superusers with a session cookie or a JWT.

The routes accept no personal access tokens. These are limited by scopes, and there is no scope for
superuser rights, so a token in the file of a script would have them without limit for months.
Routes that change accounts also require a recent login, with a second factor if the superuser has
one, so that a stolen cookie or password is not enough to take over accounts.
"""

from typing import Annotated

from fastapi import APIRouter, Depends

from authapi.domain.identity import Identity
from authapi.web.resolver import identity_if_configured
from authapi.web.routing import ProtectedRoute

Superuser = Annotated[Identity, Depends(identity_if_configured("session", "jwt", superuser=True))]
FreshReader = Annotated[
    Identity,
    Depends(identity_if_configured("session", "jwt", superuser=True, fresh=True, mfa="enrolled")),
]
"""For routes that show how accounts are protected."""
FreshSuperuser = Annotated[
    Identity,
    Depends(
        identity_if_configured(
            *("session", "jwt"), superuser=True, fresh=True, mfa="enrolled", writes="by_session"
        )
    ),
]
"""For routes that change something."""


def router_for(prefix: str) -> APIRouter:
    """A router for routes below `prefix`. Each route must have a gate."""
    return APIRouter(route_class=ProtectedRoute, tags=["administration"], prefix=prefix)
