"""The routes, one file a resource. Handlers are thin: one service call and back.

`UNITS` names them, so that an application can include only some.
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
from authapi.web.routes.oauth import grants, introspection, revocation, well_known

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
    "well_known": well_known.router,
    "health": health.router,
    "docs": docs.router,
}
