"""The routes, one module for each resource. Handlers call a service and return its result.

`UNITS` maps names to groups of routes, so that an application can install some of them.
"""

from collections.abc import Mapping

from fastapi import APIRouter

from authapi.web.pages import forms
from authapi.web.routes import (
    docs,
    events,
    export,
    health,
    leaks,
    login,
    me,
    recovery,
    registration,
    sessions,
    tokens,
)
from authapi.web.routes.admin import events as admin_events
from authapi.web.routes.admin import users as admin_users
from authapi.web.routes.oauth import grants, introspection, revocation, well_known

_admin = APIRouter()
# `include_router` would nest the routers, and requests would be matched twice (`web/routing`).
_admin.routes.extend([*admin_users.router.routes, *admin_events.router.routes])

UNITS: Mapping[str, APIRouter] = {
    "me": me.router,
    "export": export.router,
    "registration": registration.router,
    "recovery": recovery.router,
    "pages": forms.router,
    "login": login.router,
    "grants": grants.router,
    "revocation": revocation.router,
    "introspection": introspection.router,
    "sessions": sessions.router,
    "tokens": tokens.router,
    "leaks": leaks.router,
    "events": events.router,
    "admin": _admin,
    "well_known": well_known.router,
    "health": health.router,
    "docs": docs.router,
}
