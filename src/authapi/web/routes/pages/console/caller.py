"""The superuser who is signed in, and the routes of the pages of the console.

`shown` and `sent` add such a route. For all other people, the console does not exist: each path and
each method answers as a path without a page does.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.domain.client import current_client
from authapi.domain.factors.authentication_context import MFA
from authapi.domain.identity import Identity
from authapi.errors import (
    Forbidden,
    InvalidCredential,
    NotFound,
    Refusal,
    SuperuserRequired,
    Unavailable,
)
from authapi.web.context import context_of
from authapi.web.pages import addresses
from authapi.web.pages.console_access import is_admitted
from authapi.web.pages.rendering import see_other
from authapi.web.resolver import (
    identity_if_configured,
    optional_identity_if_configured,
    resolve,
)
from authapi.web.routes.pages.account.caller import Caller, add_route
from authapi.web.routes.pages.flow import Sent, receive_from_caller
from authapi.web.routing import MAX_FIELDS, AuthAPIRoute

CHANGER: Final = identity_if_configured(
    "session", superuser=True, fresh=True, mfa="enrolled", writes="by_session"
)
"""The gate of changes, as that of the API: a recent login, with the second factor if there is one.
"""
FRESH_READER: Final = identity_if_configured("session", superuser=True, fresh=True, mfa="enrolled")
"""The gate of what shows how accounts are protected, and of files with the events of all."""
_CALLER = optional_identity_if_configured("session")

_log = logging.getLogger("authapi.refusals")
_paths = set[str]()
"""The paths of the pages that `shown` has added."""


class Administrator(Caller):
    """The superuser who is signed in, during one request."""

    __slots__ = ()

    def address(self, page: str, **query: str | None) -> str:
        """Returns the address of a page of the console, relative to the request."""
        return addresses.console(self.request, page, **query)

    def render(self, name: str, **values: Any) -> Response:
        """Returns the page of the template `name`, with the list of pages beside it."""
        entries = [path.removeprefix(f"{addresses.CONSOLE}/") for path in _paths]
        return super().render(name, entries=entries, **values)


Show = Callable[[Administrator], Awaitable[Response]]
Submit = Callable[[Administrator, Sent], Awaitable[Response]]


def router_for(path: str = "") -> APIRouter:
    """A router for pages below `path` of the console."""
    return APIRouter(
        route_class=AuthAPIRoute,
        include_in_schema=False,
        prefix=addresses.CONSOLE + path,
        tags=["pages"],
    )


def shown(router: APIRouter, path: str) -> Callable[[Show], Show]:
    """Returns a decorator that adds a GET route for a page of the console."""

    def add(show: Show) -> Show:
        async def handler(request: Request) -> Response:
            caller = await _admit(request)
            if (way := _way_to_second_factor(caller)) is not None:
                return see_other(way)
            await caller.take_message()
            try:
                return await show(caller)
            except (InvalidCredential, SuperuserRequired):
                _hide(request)

        add_route(router, path, handler, show, "GET")
        _paths.add(router.prefix + path)
        return show

    return add


def sent(
    router: APIRouter, path: str, *, max_fields: int = MAX_FIELDS
) -> Callable[[Submit], Submit]:
    """Returns a decorator that adds a POST route for a form of the console, as `shown` does.

    A form with more than `max_fields` fields is malformed.
    """

    def add(submit: Submit) -> Submit:
        async def handler(request: Request) -> Response:
            # Before the form is read: other people get one answer to every form.
            caller = await _admit(request)
            if (way := _way_to_second_factor(caller)) is not None:
                return see_other(way)

            async def act(fields: Sent, _: Identity | None) -> Response:
                try:
                    return await submit(caller, fields)
                except (InvalidCredential, SuperuserRequired):
                    # The session or the rank has ended since the gate.
                    _hide(request)

            return await receive_from_caller(request, act, max_fields=max_fields)

        add_route(router, path, handler, submit, "POST")
        return submit

    return add


async def _admit(request: Request) -> Administrator:
    """Returns the superuser who is signed in, at an address from which the console can be opened.

    Raises NotFound for all other people, and for all who are not known yet if the database does not
    answer; for a superuser, ForeignOrigin and WrongDestination if another page has caused the
    request.
    """
    if not is_admitted(request):
        _hide(request)
    context, identity = context_of(request), None
    try:
        identity = await resolve(_CALLER, request)
    except Forbidden:
        found = context.csrf_target
        if found is not None and found.user.is_superuser and found.user.is_active:
            raise
    except (Refusal, Unavailable):
        # Such as a credential that is malformed or has ended. Without the database, a path that no
        # page has answers 404 as well; only a superuser whom the cache knows learns of the outage.
        pass
    if identity is None or not identity.user.is_superuser:
        _hide(request)
    return Administrator(request, identity)


def _hide(request: Request) -> NoReturn:
    """Raises NotFound, and removes from the response what a gate has added to it."""
    context = context_of(request)
    if (found := context.identity or context.csrf_target) is not None:
        _log.info(
            "refused",
            extra={
                "code": SuperuserRequired.code,
                "cause": None,
                "request_id": context.request_id,
                "user_id": str(found.user.id),
                "strategy": found.strategy,
                "ip": current_client().ip,
            },
        )
    context.identity = context.csrf_target = context.challenges = None
    context.discards = ()
    context.is_gated = context.is_private = False
    raise NotFound


def _way_to_second_factor(caller: Administrator) -> str | None:
    """Returns where a login by one factor goes; None if it can open the console."""
    settings, identity = caller.services.settings, caller.identity
    must_have_two = (
        settings.env == "production" or settings.mfa_required_superusers
    ) or settings.mfa == "required"
    if MFA in identity.amr or not must_have_two:
        return None
    if identity.user.mfa:
        here = addresses.visible_path(caller.request)
        return addresses.page(caller.request, "prove", next=here)
    done = "console-closed" if settings.mfa == "off" else "console"
    return addresses.page(caller.request, "security", done=done)
