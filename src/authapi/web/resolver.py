"""`current_user` and `current_identity`: dependencies that authenticate and authorize a request.

Both return a gate, so a router module needs no configured object. Equal arguments return the same
gate, so `app.dependency_overrides` finds it. A gate looks up its strategies in the application that
handles the request.

The resolver finds the caller by the strategies of the route (`find_identity`). Then the gate
checks, in this order: active account, age and strength of the login, scopes, confirmed address,
superuser. Routes of authapi that change data finally count the change (`limit_writes`).
"""

from datetime import timedelta
from functools import cache
from typing import Any, Literal, TypeAlias, overload

from starlette.requests import HTTPConnection

from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.errors import (
    Forbidden,
    InvalidCredential,
    NotFound,
    Unauthenticated,
    UnrecognizedCredential,
)
from authapi.strategies.base import Authorization, Strategy, read_authorization
from authapi.web.challenges import with_invalid_token
from authapi.web.context import NOT_STARTED, RequestContext, context_of
from authapi.web.csrf import check_browser_request
from authapi.web.requirements import (
    Binding,
    Gate,
    Requirements,
    Scopes,
    SecondFactor,
    Writes,
    check_requirements,
    is_for_another_gate,
    is_ignored,
    normalized_requirements,
)

_EMPTY = Authorization("", "")

Outcome: TypeAlias = Identity | InvalidCredential | None
"""The caller, the refusal, or None for a credential that may belong to another strategy."""


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
    scopes: Scopes = (),
    verified: bool = False,
    superuser: bool = False,
    fresh: timedelta | Literal[True] | None = None,
    mfa: SecondFactor = False,
    acr: str | None = None,
    optional: Literal[False] = False,
) -> Gate[User]: ...
@overload
def current_user(
    *strategies: str,
    scopes: Scopes = (),
    verified: bool = False,
    superuser: bool = False,
    fresh: timedelta | Literal[True] | None = None,
    mfa: SecondFactor = False,
    acr: str | None = None,
    optional: bool,
) -> Gate[User | None]: ...
def current_user(
    *strategies: str,
    scopes: Scopes = (),
    verified: bool = False,
    superuser: bool = False,
    fresh: timedelta | Literal[True] | None = None,
    mfa: SecondFactor = False,
    acr: str | None = None,
    optional: bool = False,
) -> Gate[User] | Gate[User | None]:
    """Returns a dependency that provides the calling `User`.

    `strategies` are names; without any, all strategies of the settings are accepted. The credential
    must have all `scopes`. `verified` requires a confirmed e-mail address, `superuser` a superuser.
    `fresh` is the maximum age of the login: a timedelta, or True for the setting `fresh_max_age`.
    `mfa` requires a login that has proved a second factor: True; a timedelta for its maximum age;
    "enrolled" if only accounts that have a second factor must. `acr` is the weakest context class
    that is accepted: "urn:authapi:acr:1", "urn:authapi:acr:2" (two factors) or "phr" (resistant to
    phishing). A personal access token meets none of these three. With `optional`, a request without
    a credential provides None. An invalid credential is refused even then, except for an ambient
    one: browsers send an expired cookie by themselves.

    The dependency raises Unauthenticated, InactiveAccount, StaleAuthentication or
    InsufficientAuthentication, InsufficientScope, UnconfirmedEmail or SuperuserRequired, checked in
    this order; ForeignOrigin or WrongDestination for a credential that a browser attached for
    another page (`web.csrf`); and Unavailable if a backend does not answer. The setting
    `mfa=required` adds `mfa=True` to each gate, except for personal access tokens;
    `mfa_required_superusers` adds it to gates with `superuser`. `web.answers.websocket_messages`
    describes refused WebSockets. The start of the application fails with ConfigurationError if a
    name is unknown, or a strategy cannot tell what `mfa` asks. Raises TypeError or ValueError if
    `fresh`, `mfa` or `acr` is not permitted.
    """
    return _user_gate(
        normalized_requirements(strategies, scopes, verified, superuser, fresh, mfa, acr, optional)
    )


@overload
def current_identity(
    *strategies: str,
    scopes: Scopes = (),
    verified: bool = False,
    superuser: bool = False,
    fresh: timedelta | Literal[True] | None = None,
    mfa: SecondFactor = False,
    acr: str | None = None,
    optional: Literal[False] = False,
) -> Gate[Identity]: ...
@overload
def current_identity(
    *strategies: str,
    scopes: Scopes = (),
    verified: bool = False,
    superuser: bool = False,
    fresh: timedelta | Literal[True] | None = None,
    mfa: SecondFactor = False,
    acr: str | None = None,
    optional: bool,
) -> Gate[Identity | None]: ...
def current_identity(
    *strategies: str,
    scopes: Scopes = (),
    verified: bool = False,
    superuser: bool = False,
    fresh: timedelta | Literal[True] | None = None,
    mfa: SecondFactor = False,
    acr: str | None = None,
    optional: bool = False,
) -> Gate[Identity] | Gate[Identity | None]:
    """Returns a dependency that provides the `Identity`: the user and the credential's properties.

    Arguments and errors are those of `current_user`. Both in one route cost one lookup.
    """
    return _identity_gate(
        normalized_requirements(strategies, scopes, verified, superuser, fresh, mfa, acr, optional)
    )


def revocable_identity() -> Gate[Identity]:
    """Returns a dependency for logout, which accepts credentials of `Revocable` strategies.

    It ignores an invalid credential beside a valid one.
    """
    wanted = Requirements(revocable=True, accepts_one_factor=True, writes="uncounted")
    return _identity_gate(wanted)  # type: ignore[return-value]  # not optional


def identity_if_valid() -> Gate[Identity | None]:
    """Returns a dependency that provides None if the credential is absent or invalid."""
    wanted = Requirements(
        optional=True,
        ignores_invalid_credential=True,
        accepts_one_factor=True,
        writes="uncounted",
    )
    return _identity_gate(wanted)


def identity_if_configured(
    *strategies: str,
    fresh: timedelta | Literal[True] | None = None,
    mfa: SecondFactor = False,
    superuser: bool = False,
    accepts_one_factor: bool = False,
    exchangeable: tuple[str, ...] = (),
    writes: Writes | None = None,
) -> Gate[Identity]:
    """Returns `current_identity` for authapi's routes; it skips strategies that are not configured.

    Without names, it accepts all strategies of the settings. `writes` states how a change is
    counted, `accepts_one_factor` that `mfa=required` does not close the route. The dependency also
    raises TooManyRequests, and NotFound if no strategy is left.
    """
    wanted = Requirements(
        strategies=strategies,
        fresh=fresh,
        mfa=mfa,
        superuser=superuser,
        accepts_one_factor=accepts_one_factor,
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
        accepts_one_factor=True,  # the address is confirmed before a second factor is added
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
    `limit_writes`. On a route of the application, raises the errors of
    `HeaderInspection.check_for_gate`. Raises RuntimeError if authapi is not installed, or if its
    lifespan has not started.
    """
    context = context_of(connection)
    context.is_gated = context.is_private = True
    if context.check_headers is not None:
        context.check_headers(connection.scope)
        context.check_headers = None
    binding, wanted = gate.bind(context.runtime), gate.requirements
    if not binding.strategies:
        if gate.requirements.optional:
            _anonymous(context)
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
    if identity is None or (wanted.optional and is_ignored(binding, identity, context.runtime)):
        if wanted.optional:
            _anonymous(context)
            return None
        raise Unauthenticated
    context.identity = identity
    check_requirements(binding, wanted, identity, context)
    if wanted.writes is not None:
        await _count_write(wanted.writes, identity, context)
    return identity


def _anonymous(context: RequestContext) -> None:
    # A shared cache may store the response unless another gate has found a caller, or the response
    # deletes a cookie.
    context.is_private = context.identity is not None or bool(context.discards)


async def _count_write(writes: Writes, identity: Identity, context: RequestContext) -> None:
    """Counts a change by this caller. Raises TooManyRequests."""
    rate_limits = context.runtime.services.rate_limits
    if writes == "by_account":
        await rate_limits.consume_write(identity.user.id)
    elif writes == "by_session":
        await rate_limits.consume_write(identity.user.id, identity.session_id)


async def find_identity(
    binding: Binding, wanted: Requirements, connection: HTTPConnection, context: RequestContext
) -> Identity | None:
    """Returns the identity from the first strategy with a credential, or None without any.

    The strategies are asked in order, ambient ones (the cookie) last. The first one that reads a
    credential of its kind decides: the identity cache has the caller, or the strategy
    authenticates it. An Authorization header that no strategy reads is an invalid credential, and
    the cookie does not replace it, unless it is for a reverse proxy (`PROXY_SCHEMES`).

    Raises InvalidCredential if a strategy refuses its credential, or none reads the Authorization
    header; Forbidden for a credential that a browser attached for another page; RuntimeError if
    the lifespan of authapi has not started.
    """
    if not context.runtime.is_started:
        raise RuntimeError(NOT_STARTED)
    return await ask_strategies(binding, wanted, connection, context)


async def ask_strategies(
    binding: Binding, wanted: Requirements, connection: HTTPConnection, context: RequestContext
) -> Identity | None:
    """Finds the identity, also before the start. Raises InvalidCredential and Forbidden."""
    outcomes, tried_explicit, refused = context.outcomes, False, False
    for strategy in binding.strategies:
        if strategy.ambient and not tried_explicit:
            if not refused and not _may_use_ambient(binding, wanted, connection, context):
                return None
            tried_explicit = True
        if strategy.name not in outcomes:
            outcome: Outcome = None
            try:
                credential = strategy.read(connection)
                if credential is None:
                    continue
                key, source = strategy.cache_key(credential), "cached"
                if key is None:
                    outcome = strategy.cached(credential)
                else:
                    outcome = strategy.services.sessions.get_cached(key, strategy=strategy.name)
                if outcome is None:
                    source = "authenticated"
                    outcome = await strategy.authenticate(credential, connection)
            except UnrecognizedCredential:
                source = None
            except InvalidCredential as refusal:
                source, outcome = "refused", refusal
            _record_outcome(strategy, outcome, source, connection, context)
        outcome = outcomes[strategy.name]
        if isinstance(outcome, Identity):
            return outcome
        if outcome is None or (strategy.ambient and wanted.optional):
            continue
        context.challenges = with_invalid_token(binding.challenges, strategy.challenge().scheme)
        if not wanted.revocable:
            raise InvalidCredential
        refused = True
    if refused:
        raise InvalidCredential
    if not tried_explicit:
        _may_use_ambient(binding, wanted, connection, context)  # raises for an unread header
    return None


def _record_outcome(
    strategy: Strategy[Any],
    outcome: Outcome,
    source: str | None,
    connection: HTTPConnection,
    context: RequestContext,
) -> None:
    if isinstance(outcome, InvalidCredential):
        context.discards += outcome.headers
    elif outcome is not None and (strategy.ambient or strategy.kept_by_browsers):
        try:
            check_browser_request(connection)
        except Forbidden:
            context.csrf_target = outcome
            raise
    context.outcomes[strategy.name] = outcome
    if source is None or strategy.name in context.counted:
        return  # unknown, or counted before the body
    metrics = context.runtime.metrics
    if metrics is not None:
        metrics.count_authentication(strategy.name, source)
    if context.span is not None:
        # A trace must not identify the user.
        context.span.set_attribute("authapi.strategy", strategy.name)
        context.span.set_attribute("authapi.outcome", source)


def _may_use_ambient(
    binding: Binding, wanted: Requirements, connection: HTTPConnection, context: RequestContext
) -> bool:
    # Whether the cookie may authenticate a request when no strategy has read its Authorization
    # header. An unread header is an invalid credential, also if it is malformed.
    sent = read_authorization(connection)
    if sent is None or binding.is_for_proxy(sent):
        return True
    if is_for_another_gate(binding, sent, connection, context):
        return True
    if wanted.ignores_unread_header:
        return False
    if wanted.optional and sent == _EMPTY and not binding.has_ambient(connection):
        return False
    context.challenges = with_invalid_token(binding.challenges, sent.scheme.partition("\t")[0])
    raise InvalidCredential
