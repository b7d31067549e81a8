"""`UNITS` maps names to groups of routes, so that an application can install some of them."""

from collections.abc import Mapping

from fastapi import APIRouter

from authapi.web.routes import (
    docs,
    events,
    export,
    forms,
    health,
    leaks,
    me,
    registration,
    sessions,
    tokens,
)
from authapi.web.routes.admin import events as admin_events
from authapi.web.routes.admin import factors as admin_factors
from authapi.web.routes.admin import users as admin_users
from authapi.web.routes.factors import changes, passkeys
from authapi.web.routes.factors import well_known as factor_pages
from authapi.web.routes.login import enrolment, passkey, password, second_factor
from authapi.web.routes.oauth import grants, introspection, revocation, well_known
from authapi.web.routes.recovery import email_addresses, logins, passwords


def _joined(*routers: APIRouter) -> APIRouter:
    # `include_router` would nest the routers, and requests would be matched twice (`web/routing`).
    joined = APIRouter()
    for router in routers:
        joined.routes.extend(router.routes)
    return joined


UNITS: Mapping[str, APIRouter] = {
    "me": me.router,
    "export": export.router,
    "registration": registration.router,
    "recovery": _joined(email_addresses.router, passwords.router, logins.router),
    "pages": forms.router,
    "login": _joined(password.router, second_factor.router, enrolment.router, passkey.router),
    "grants": grants.router,
    "revocation": revocation.router,
    "introspection": introspection.router,
    "factors": _joined(changes.router, passkeys.router),
    "related_origins": passkeys.related_origins,
    "change_password": factor_pages.change_password,
    "passkey_endpoints": factor_pages.passkey_endpoints,
    "sessions": sessions.router,
    "tokens": tokens.router,
    "leaks": leaks.router,
    "events": events.router,
    "admin": _joined(admin_users.router, admin_factors.router, admin_events.router),
    "well_known": well_known.router,
    "health": health.router,
    "docs": docs.router,
}
