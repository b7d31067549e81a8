"""The routes, one file a resource. Handlers are thin: one service call and back.

`UNITS` names them, so that an application can include only some.
"""

from collections.abc import Mapping

from fastapi import APIRouter

from authapi.web.routes import (
    docs,
    events,
    grants,
    health,
    introspection,
    leaks,
    login,
    me,
    registration,
    revocation,
    sessions,
    tokens,
    well_known,
)

UNITS: Mapping[str, APIRouter] = {
    "me": me.router,
    "registration": registration.router,
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
