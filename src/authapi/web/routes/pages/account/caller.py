"""The person who is signed in, and the routes of the pages of their account.

`shown` and `sent` add such a route. They lead a person who is signed out to the sign-in page, and
one whose login proves too little to the page that proves more.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.crypto.secrets import SecretHash
from authapi.domain.factors.policy import is_too_weak
from authapi.domain.identity import Identity
from authapi.domain.session import SessionKind
from authapi.errors import InvalidCredential, StorageUnavailable
from authapi.services import Services
from authapi.web.answers.renewals import renewal_of, secret_of
from authapi.web.context import Runtime, context_of
from authapi.web.pages import addresses
from authapi.web.pages.account import flashes
from authapi.web.pages.account.flashes import Flash
from authapi.web.pages.rendering import render, see_other
from authapi.web.requirements import Gate
from authapi.web.resolver import resolve
from authapi.web.routes.pages.flow import OptionalCaller, Sent, receive_from_caller
from authapi.web.routing import MAX_FIELDS

T = TypeVar("T")


@dataclass(slots=True)
class Caller:
    """The person who is signed in, during one request."""

    request: Request
    identity: Identity
    message: Flash | None = None
    """The message that the previous form has left for this page."""

    @property
    def runtime(self) -> Runtime:
        """The installation that handles the request."""
        return context_of(self.request).runtime

    @property
    def services(self) -> Services:
        """The services of the installation."""
        return self.runtime.services

    async def passes(self, gate: Gate[Identity]) -> Identity:
        """Returns the identity if it passes the gate of a route. Raises as `current_identity`."""
        return await resolve(gate, self.request) or self.identity

    async def renewing(
        self, act: Callable[[SecretHash | None], Awaitable[T]], *, is_proof: bool = False
    ) -> T:
        """Performs a change after which the session has another secret; returns its result.

        `act` stores the hash that it is given. Each response to the request then has the new
        cookie, and the caller is the one whom the new secret identifies. Raises the errors of
        `act`, and with `is_proof`, which means that more follows, StorageUnavailable if the caller
        cannot be looked up afterwards.
        """
        context = context_of(self.request)
        renewal = renewal_of(self.runtime.registry, self.identity)
        result = await act(secret_of(renewal))
        if renewal is not None:
            context.discards = renewal.headers
            strategy = self.identity.strategy
            try:
                found = await self.services.sessions.identify_by_secret(
                    renewal.secret, SessionKind.SESSION, strategy=strategy
                )
            except StorageUnavailable:
                if is_proof:
                    raise
                # The change is made, and its result may have codes that are shown only now.
                return result
            if found is None:
                raise InvalidCredential
            self.identity = context.identity = context.outcomes[strategy] = found
        return result

    async def leads_to(self, page: str, message: str | None = None, number: int = 0) -> Response:
        """Returns the response that leads to a page of the account, and leaves a message for it.

        `message` is a code of `FLASHES`, and `number` that of the things which it tells of.
        """
        if message is not None:
            await flashes.leave(self.services, self.identity, Flash(message, number))
        done = None if message is None else flashes.SHOWN
        return see_other(self.address(page, done=done))

    def address(self, page: str, **query: str | None) -> str:
        """Returns the address of a page of the account, relative to the request."""
        return addresses.page(self.request, page, **query)

    async def take_message(self) -> None:
        """Takes the message for this page, if its address says that there is one."""
        if self.request.query_params.get("done") == flashes.SHOWN:
            self.message = await flashes.take(self.services, self.identity)

    def render(self, name: str, **values: Any) -> Response:
        """Returns the page of the template `name`, with the message for it."""
        return render(self.request, name, message=self.message, **values)


Show = Callable[[Caller], Awaitable[Response]]
Submit = Callable[[Caller, Sent], Awaitable[Response]]


def shown(
    router: APIRouter, path: str, *, accepts_one_factor: bool = False
) -> Callable[[Show], Show]:
    """Returns a decorator that adds a GET route for a page of the account.

    `accepts_one_factor` is whether `mfa=required` leaves the page open to a login by one factor.
    """

    def add(show: Show) -> Show:
        async def handler(request: Request, identity: OptionalCaller) -> Response:
            if identity is None:
                return _to_sign_in(request)
            caller = Caller(request, identity)
            if not accepts_one_factor and (way := _way_out(caller)) is not None:
                return see_other(way)
            await caller.take_message()
            return await show(caller)

        add_route(router, path, handler, show, "GET")
        return show

    return add


def sent(
    router: APIRouter,
    path: str,
    *,
    accepts_one_factor: bool = False,
    max_fields: int = MAX_FIELDS,
) -> Callable[[Submit], Submit]:
    """Returns a decorator that adds a POST route for a form of the account, as `shown` does.

    A form with more than `max_fields` fields is malformed.
    """

    def add(submit: Submit) -> Submit:
        async def act(request: Request, fields: Sent, identity: Identity | None) -> Response:
            if identity is None:
                return _to_sign_in(request, done="ended")
            caller = Caller(request, identity)
            if not accepts_one_factor and (way := _way_out(caller)) is not None:
                return see_other(way)
            try:
                return await submit(caller, fields)
            except InvalidCredential:  # the session has ended since the gate
                return _to_sign_in(request, done="ended")

        async def handler(request: Request) -> Response:
            return await receive_from_caller(request, partial(act, request), max_fields=max_fields)

        add_route(router, path, handler, submit, "POST")
        return submit

    return add


def add_route(
    router: APIRouter, path: str, handler: Callable[..., Any], of: Callable[..., Any], method: str
) -> None:
    """Adds the route of a page whose handler calls `of`, with the name and description of that."""
    # The module of a handler says that the route is one of the pages (`error_pages`).
    handler.__name__, handler.__doc__ = of.__name__, of.__doc__
    router.add_api_route(path, handler, methods=[method])


def _to_sign_in(request: Request, *, done: str | None = None) -> Response:
    here = addresses.visible_path(request)
    return see_other(addresses.sign_in(request, next=here, done=done) or "./")


def _way_out(caller: Caller) -> str | None:
    """Returns where a login by one factor goes that `mfa=required` refuses; None if it does not."""
    if not is_too_weak(caller.identity.amr, caller.services.settings):
        return None
    if caller.identity.user.mfa:
        here = addresses.visible_path(caller.request)
        return addresses.page(caller.request, "prove", next=here)
    return addresses.page(caller.request, "security")
