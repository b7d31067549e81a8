"""`UNITS` maps names to groups of routes, so that an application can install some of them."""

from collections.abc import Mapping

from fastapi import APIRouter

from authapi.errors import ConfigurationError
from authapi.settings import Settings
from authapi.web.routes import (
    docs,
    events,
    export,
    health,
    leaks,
    me,
    registration,
    sessions,
    tokens,
)
from authapi.web.routes.admin import access as admin_access
from authapi.web.routes.admin import events as admin_events
from authapi.web.routes.admin import factors as admin_factors
from authapi.web.routes.admin import identities as admin_identities
from authapi.web.routes.admin import stats as admin_stats
from authapi.web.routes.admin import users as admin_users
from authapi.web.routes.factors import changes, passkeys
from authapi.web.routes.factors import well_known as factor_pages
from authapi.web.routes.federation import address as given_address
from authapi.web.routes.federation import callback, exchange, identities, link, start, step_up
from authapi.web.routes.login import enrolment, passkey, password, second_factor
from authapi.web.routes.oauth import grants, introspection, revocation, well_known
from authapi.web.routes.pages import enrolment as enrolment_page
from authapi.web.routes.pages import (
    files,
    forgot,
    mail,
    prove,
    second_step,
    sign_in,
    sign_out,
    sign_up,
)
from authapi.web.routes.pages.account import (
    activity,
    authenticator,
    data,
    devices,
    profile,
    providers,
    security,
)
from authapi.web.routes.pages.account import passkeys as passkey_pages
from authapi.web.routes.pages.account import tokens as token_pages
from authapi.web.routes.pages.console import entry as console_entry
from authapi.web.routes.pages.console import events as console_events
from authapi.web.routes.pages.console import invite, people, person
from authapi.web.routes.pages.console import keys as console_keys
from authapi.web.routes.pages.console import mail as console_mail
from authapi.web.routes.pages.console import status as console_status
from authapi.web.routes.pages.console import webhooks as console_webhooks
from authapi.web.routes.pages.federation import address
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
    "pages": _joined(mail.router, forgot.router),
    "signin": _joined(
        sign_in.router,
        second_step.router,
        enrolment_page.router,
        address.router,
        sign_up.router,
        sign_out.router,
        prove.router,
    ),
    "account": _joined(
        profile.router,
        security.router,
        authenticator.router,
        passkey_pages.router,
        providers.router,
        devices.router,
        token_pages.router,
        activity.router,
        data.router,
    ),
    "console": _joined(
        people.router,
        invite.router,
        person.router,
        console_events.router,
        console_status.router,
        console_mail.router,
        console_webhooks.router,
        console_keys.router,
        console_entry.router,
    ),
    "login": _joined(password.router, second_factor.router, enrolment.router, passkey.router),
    # The first paths are also those of providers with these names.
    "federation": _joined(
        exchange.router,
        given_address.router,
        start.router,
        callback.router,
        identities.router,
        link.router,
        step_up.router,
    ),
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
    "admin": _joined(
        admin_users.router,
        admin_access.router,
        admin_factors.router,
        admin_identities.router,
        admin_events.router,
        admin_stats.router,
    ),
    "well_known": well_known.router,
    "health": health.router,
    "docs": docs.router,
}

PAGES = frozenset({"pages", "signin", "account", "console"})
"""The units of pages."""
PAGE_FILES = files.router
"""The files of the pages. Any of their units needs them."""


_OF_PROVIDERS = frozenset(
    id(route) for router in (address.router, providers.router) for route in router.routes
)
"""The pages of logins at other providers."""


def remove_provider_routes(units: dict[str, APIRouter]) -> None:
    """Removes the routes and the pages of logins at other providers from `units`."""
    units.pop("federation", None)
    for name in PAGES.intersection(units):
        kept = [route for route in units[name].routes if id(route) not in _OF_PROVIDERS]
        if len(kept) != len(units[name].routes):
            units[name] = APIRouter()
            units[name].routes.extend(kept)


def remove_disabled_pages(units: dict[str, APIRouter], settings: Settings) -> None:
    """Removes the units of pages that the settings disable.

    Signing in needs the session. Raises ConfigurationError for the page of the account without a
    page to sign in, and for the console without the built-in one.
    """
    if settings.pages == "none":
        units.pop("pages", None)
    if settings.pages != "all" or "session" not in settings.strategies:
        units.pop("signin", None)
        units.pop("account", None)
        units.pop("console", None)
    if "account" in units and "signin" not in units and settings.sign_in_link is None:
        raise ConfigurationError("the unit account needs the unit signin, or AUTHAPI_SIGN_IN_LINK")
    if "console" in units and "signin" not in units:
        raise ConfigurationError("the unit console needs the unit signin")


def with_page_files(units: Mapping[str, APIRouter]) -> Mapping[str, APIRouter]:
    """Returns `units`, with the files of the pages if there is any page."""
    return units if PAGES.isdisjoint(units) else {**units, "page_files": PAGE_FILES}
