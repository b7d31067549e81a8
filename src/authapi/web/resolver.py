"""`current_user` and `current_identity`: dependencies that authenticate and authorize a request.

Both return a gate, so a router module needs no configured object. Equal arguments return the same
gate, so `app.dependency_overrides` finds it. A gate looks up its strategies in the application that
handles the request.

The resolver finds the caller by the strategies of the route (`web.authentication`).
Then the gate checks, in this order: active account, fresh login, scopes, confirmed address,
superuser. Routes of authapi that change data finally count the change (`limit_writes`).
"""

from collections.abc import Collection
from datetime import timedelta
from functools import cache
from typing import Literal, overload

from starlette.requests import HTTPConnection

from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.errors import InvalidCredential, NotFound, Unauthenticated
from authapi.web.authentication import find_identity
from authapi.web.context import RequestContext, context_of
from authapi.web.requirements import (
    Gate,
    Requirements,
    Writes,
    check_requirements,
    normalized_requirements,
)


class UserGate(Gate[User | None]):
    """Returns the user, or None if the gate is optional."""

    async def __call__(self, connection: HTTPConnection) -> User | None:
        identity = await resolve(self, connection)
        return None if identity is None else identity.user


class IdentityGate(Gate[Identity | None]):
    """Returns the identity, or None if the gate is optional."""

    async def __call__(self, connection: HTTPConnection) -> Identity | None:
        return await resolve(self, connection)


@overload
def current_user(
    *strategies: str,
    scopes: Collection[str] = (),
    verified: bool = False,
    superuser: bool = False,
    fresh: timedelta | Literal[True] | None = None,
    optional: Literal[False] = False,
) -> Gate[User]: ...
@overload
def current_user(
    *strategies: str,
    scopes: Collection[str] = (),
    verified: bool = False,
    superuser: bool = False,
    fresh: timedelta | Literal[True] | None = None,
    optional: bool,
) -> Gate[User | None]: ...
def current_user(
    *strategies: str,
    scopes: Collection[str] = (),
    verified: bool = False,
    superuser: bool = False,
    fresh: timedelta | Literal[True] | None = None,
    optional: bool = False,
) -> Gate[User] | Gate[User | None]:
    """Returns a dependency that provides the calling `User`.

    `strategies` are names; without any, all strategies of the settings are accepted. The credential
    must have all `scopes`. `verified` requires a confirmed e-mail address, `superuser` a superuser.
    `fresh` is the maximum age of the login: a timedelta, or True for the setting `fresh_max_age`.
    With `optional`, a request without a credential provides None. An invalid credential is refused
    even then, except for an ambient one: browsers send an expired cookie by themselves.

    The dependency raises Unauthenticated, InactiveAccount, StaleAuthentication, InsufficientScope,
    UnconfirmedEmail or SuperuserRequired, checked in this order; ForeignOrigin or WrongDestination
    for a credential that a browser attached for another page (`web.csrf`); and Unavailable if a
    backend does not answer. `web.answers.websocket_messages` describes refused WebSockets. The
    start of the application fails with ConfigurationError if a name is unknown.
    """
    wanted = normalized_requirements(strategies, scopes, verified, superuser, fresh, optional)
    return _user_gate(wanted)


@overload
def current_identity(
    *strategies: str,
    scopes: Collection[str] = (),
    verified: bool = False,
    superuser: bool = False,
    fresh: timedelta | Literal[True] | None = None,
    optional: Literal[False] = False,
) -> Gate[Identity]: ...
@overload
def current_identity(
    *strategies: str,
    scopes: Collection[str] = (),
    verified: bool = False,
    superuser: bool = False,
    fresh: timedelta | Literal[True] | None = None,
    optional: bool,
) -> Gate[Identity | None]: ...
def current_identity(
    *strategies: str,
    scopes: Collection[str] = (),
    verified: bool = False,
    superuser: bool = False,
    fresh: timedelta | Literal[True] | None = None,
    optional: bool = False,
) -> Gate[Identity] | Gate[Identity | None]:
    """Returns a dependency that provides the `Identity`: the user and the credential's properties.

    Arguments and errors are those of `current_user`. Both in one route cost one lookup.
    """
    wanted = normalized_requirements(strategies, scopes, verified, superuser, fresh, optional)
    return _identity_gate(wanted)


def revocable_identity() -> Gate[Identity]:
    """Returns a dependency for logout, which accepts credentials of `Revocable` strategies.

    It ignores an invalid credential beside a valid one.
    """
    return _identity_gate(Requirements(revocable=True, writes="uncounted"))  # type: ignore[return-value]  # not optional


def identity_if_valid() -> Gate[Identity | None]:
    """Returns a dependency that provides None if the credential is absent or invalid."""
    return _identity_gate(
        Requirements(optional=True, ignores_invalid_credential=True, writes="uncounted")
    )


def identity_if_configured(
    *strategies: str,
    fresh: timedelta | Literal[True] | None = None,
    superuser: bool = False,
    exchangeable: tuple[str, ...] = (),
    writes: Writes | None = None,
) -> Gate[Identity]:
    """Returns `current_identity` for authapi's routes; it skips strategies that are not configured.

    Without names, it accepts all strategies of the settings. `writes` states how a change is
    counted. The dependency also raises TooManyRequests, and NotFound if no strategy is left.
    """
    wanted = Requirements(
        strategies=strategies,
        fresh=fresh,
        superuser=superuser,
        exchangeable=exchangeable,
        if_configured=True,
        writes=writes,
    )
    return _identity_gate(wanted)  # type: ignore[return-value]  # not optional


def optional_identity_if_configured(*strategies: str) -> Gate[Identity | None]:
    """Returns an optional `identity_if_configured`.

    Pages for browsers accept only the cookie. A request with an Authorization header is anonymous
    there: it can use the page, but the cookie is ignored.
    """
    wanted = Requirements(
        strategies=strategies,
        optional=True,
        ignores_unread_header=strategies == ("session",),
        if_configured=True,
    )
    return _identity_gate(wanted)


@cache
def _user_gate(requirements: Requirements) -> UserGate:
    return UserGate(requirements)


@cache
def _identity_gate(requirements: Requirements) -> IdentityGate:
    return IdentityGate(requirements)


async def resolve(gate: Gate[object], connection: HTTPConnection) -> Identity | None:
    """Returns the caller's identity; None if the gate is optional and the request is anonymous.

    Raises as `current_user`: Unauthenticated without a credential, InvalidCredential, NotFound if
    none of the strategies of the route is configured, TooManyRequests if the caller is over
    `limit_writes`. Raises RuntimeError if authapi is not installed.
    """
    context = context_of(connection)
    binding, wanted = gate.bind(context.runtime), gate.requirements
    if not binding.strategies:
        if gate.requirements.optional:
            return None
        # None of the strategies of this route is configured, so a 401 would have no challenge.
        raise NotFound
    context.challenges = binding.challenges
    identity = None
    try:
        identity = await find_identity(binding, wanted, connection, context)
    except InvalidCredential:
        if not wanted.ignores_invalid_credential:
            raise
    if identity is None:
        if wanted.optional:
            return None
        raise Unauthenticated
    context.identity = identity
    check_requirements(wanted, identity, context)
    if wanted.writes is not None:
        await _count_write(wanted.writes, identity, context)
    return identity


async def _count_write(writes: Writes, identity: Identity, context: RequestContext) -> None:
    """Counts a change by this caller. Raises TooManyRequests."""
    rate_limits = context.runtime.services.rate_limits
    if writes == "by_account":
        await rate_limits.consume_write(identity.user.id)
    elif writes == "by_session":
        await rate_limits.consume_write(identity.user.id, identity.session_id)
