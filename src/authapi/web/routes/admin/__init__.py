"""/admin: the accounts and events of everybody, for superusers.

By cookie or JWT only. A personal access token holds some of its owner's scopes, and to be a
superuser is no scope: it would hold all or nothing, for months, in a file of some script. What
changes something asks for a fresh login besides, so that a copied cookie takes nobody's account.
"""

from typing import Annotated

from fastapi import APIRouter, Depends

from authapi.identity import Identity
from authapi.web.resolver import identity_if_configured
from authapi.web.routing import ProtectedRoute

Superuser = Annotated[Identity, Depends(identity_if_configured("session", "jwt", superuser=True))]
FreshSuperuser = Annotated[
    Identity,
    Depends(
        identity_if_configured("session", "jwt", superuser=True, fresh=True, writes="by_session")
    ),
]
"""Of routes that change something."""


def router_for(prefix: str) -> APIRouter:
    """A router of routes below `prefix`; each of them needs a gate."""
    return APIRouter(route_class=ProtectedRoute, tags=["administration"], prefix=prefix)
