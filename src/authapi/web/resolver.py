"""`current_user` and `current_identity`: who is calling, asked of a route's strategies in order.

Both are free functions that give a dependency, so a router module needs no configured object, and
equal arguments give the same dependency, so `app.dependency_overrides` finds it. What it stands for
is looked up in the application that the request runs in.

The order: credentials that a caller sends on purpose (headers) before what a browser sends by
itself (the cookie); within that, the order given. The first strategy that recognises its kind of
credential decides. An Authorization header that none of them recognises is a bad credential, unless
it is for a proxy in front (`PROXY_SCHEMES`): the cookie does not stand in for it. Then the gates:
active, fresh, scopes, verified, superuser. At last, on routes of ours that change something, the
change is counted (`limit_writes`).
"""

from collections.abc import Collection, Iterator
from datetime import timedelta
from functools import cache
from typing import Generic, Literal, TypeVar, overload

from fastapi.dependencies.models import Dependant
from starlette.requests import HTTPConnection
from starlette.types import Scope

from authapi.errors import (
    Forbidden,
    InvalidCredential,
    NotFound,
    Unauthenticated,
)
from authapi.identity import Identity, User
from authapi.strategies.base import Authorization, Challenge, Strategy, authorization
from authapi.web.challenges import extended
from authapi.web.context import RequestContext, Runtime, context_of
from authapi.web.csrf import check_ambient
from authapi.web.requirements import Binding, Requirements, Writes, bind, check, requirements

T_co = TypeVar("T_co", covariant=True)
_UNASKED = object()
_EMPTY = Authorization("", "")


class Gate(Generic[T_co]):
    """A dependency that lets a request through, or refuses it."""

    def __init__(self, requirements: Requirements) -> None:
        self.requirements = requirements

    async def __call__(self, connection: HTTPConnection) -> T_co:
        """What the handler receives. Subclasses say what that is."""
        raise TypeError("use current_user or current_identity")

    def bind(self, runtime: Runtime) -> Binding:
        """The strategies behind this gate. Raises ConfigurationError for unknown names."""
        found = runtime.bindings.get(self)
        if not isinstance(found, Binding):
            found = runtime.bindings[self] = bind(self.requirements, runtime)
        return found


class UserGate(Gate[User | None]):
    """Gives the user, or None where that is allowed."""

    async def __call__(self, connection: HTTPConnection) -> User | None:
        identity = await resolve(self, connection)
        return None if identity is None else identity.user


class IdentityGate(Gate[Identity | None]):
    """Gives the identity, or None where that is allowed."""

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
    """A dependency that gives the calling `User`.

    `strategies` are names, tried with headers before the cookie; none means all that the settings
    have. `scopes` must all be held by the credential, `verified` wants a confirmed e-mail address,
    `superuser` a superuser. `fresh` bounds how far back the login may lie: a timedelta, or True for
    the setting `fresh_max_age`. With `optional`, a caller without credential gives None; one with a
    bad credential is refused all the same, except for a dead cookie, which browsers send unasked.
    An Authorization header that the route does not take is a bad credential.

    The dependency raises Unauthenticated, InactiveAccount, StaleAuthentication, InsufficientScope,
    UnconfirmedEmail or SuperuserRequired, checked in this order. On a WebSocket route the handshake
    gets the same answer as a request, status, problem document and challenges, where the server has
    the ASGI extension `websocket.http.response` (uvicorn has it), else 403. After the handshake is
    accepted, the close code is 4401 for what is 401 elsewhere, 1013 for 503, and 1008 otherwise. A
    cookie is accepted there only from pages of our own or an allowed origin. An unknown name stops
    the start-up, naming the route.
    """
    wanted = requirements(strategies, scopes, verified, superuser, fresh, optional)
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
    """A dependency that gives the `Identity`: the user, and how they were recognised.

    Takes, does and raises the same as `current_user`; both together cost one look-up.
    """
    wanted = requirements(strategies, scopes, verified, superuser, fresh, optional)
    return _identity_gate(wanted)


def revocable_identity() -> Gate[Identity]:
    """A dependency for logout: any credential that can be ended.

    One that is over beside a good one is passed over. What no strategy reads is refused.
    """
    return _identity_gate(Requirements(revocable=True, writes="uncounted"))  # type: ignore[return-value]  # not optional


def identity_if_good() -> Gate[Identity | None]:
    """A dependency for routes that end what is in the body: the caller, if the credential is good.

    None for a caller without a credential and for one whose credential is bad.
    """
    return _identity_gate(Requirements(optional=True, lenient=True, writes="uncounted"))


def identity_if_configured(
    *strategies: str,
    fresh: timedelta | Literal[True] | None = None,
    superuser: bool = False,
    exchangeable: tuple[str, ...] = (),
    writes: Writes | None = None,
) -> Gate[Identity]:
    """A dependency for our own routes: `current_identity` of those strategies that there are.

    Without names, all of the settings. `writes` says how a change is counted; the dependency then
    raises TooManyRequests too.
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


def identity_if_any(*strategies: str) -> Gate[Identity | None]:
    """The same for routes that strangers may use too: None for those.

    Where only the cookie is taken, which is on pages for browsers, a caller with an Authorization
    header is a stranger: the page stays open, and the cookie does not speak for them.
    """
    wanted = Requirements(
        strategies=strategies,
        optional=True,
        open_to_headers=strategies == ("session",),
        if_configured=True,
    )
    return _identity_gate(wanted)


@cache
def _user_gate(requirements: Requirements) -> UserGate:
    return UserGate(requirements)


@cache
def _identity_gate(requirements: Requirements) -> IdentityGate:
    return IdentityGate(requirements)


def gates_of(dependant: Dependant) -> Iterator[Gate[object]]:
    """The gates that a request passes on its way to a handler."""
    if isinstance(dependant.call, Gate):
        yield dependant.call
    for inner in dependant.dependencies:
        yield from gates_of(inner)


async def resolve(gate: Gate[object], connection: HTTPConnection) -> Identity | None:
    """Who is calling, if the gate lets them through; None if it is optional and nobody is."""
    context = context_of(connection)
    binding, wanted = gate.bind(context.runtime), gate.requirements
    if not binding.strategies:
        if gate.requirements.optional:
            return None
        # A route of ours whose strategies are all switched off: no credential could open it, and a
        # 401 would have no challenge to offer.
        raise NotFound
    context.challenges = binding.challenges
    identity = _recall(binding, connection, context)
    if identity is None:
        try:
            identity = await _recognise(binding, wanted, connection, context)
        except InvalidCredential:
            if not wanted.lenient:
                raise
    if identity is None:
        if wanted.optional:
            return None
        raise Unauthenticated
    context.identity = identity
    check(wanted, identity, context)
    if wanted.writes is not None:
        await _count(wanted.writes, identity, context)
    return identity


async def _count(writes: Writes, identity: Identity, context: RequestContext) -> None:
    """Count a change by this caller. Raises TooManyRequests."""
    throttle = context.runtime.services.throttle
    if writes == "by_account":
        await throttle.write(identity.user.id)
    elif writes == "by_session":
        await throttle.write(identity.user.id, identity.session_id)


def _recall(
    binding: Binding, connection: HTTPConnection, context: RequestContext
) -> Identity | None:
    # The same way through the strategies as `_recognise`, left at the first doubt.
    if context.outcomes:
        return None
    for strategy in binding.strategies:
        if strategy.ambient and authorization(connection) is not None:
            return None
        found = strategy.recall(connection)
        if isinstance(found, Identity):
            if strategy.ambient or strategy.kept_by_browsers:
                _check_ambient(connection, context, found)
            context.outcomes[strategy.name] = found
            _tell(context, strategy, "known")
            return found
        if found is not None:
            return None
    return None


async def _recognise(
    binding: Binding, wanted: Requirements, connection: HTTPConnection, context: RequestContext
) -> Identity | None:
    explicit_done, refused = False, False
    for strategy in binding.strategies:
        if strategy.ambient and not explicit_done:
            if not refused and not _may_stand_in(binding, wanted, connection, context):
                return None
            explicit_done = True
        outcome = context.outcomes.get(strategy.name, _UNASKED)
        if outcome is _UNASKED:
            outcome = await _ask(strategy, connection, context)
            context.outcomes[strategy.name] = outcome
            if outcome is not None:
                recognised = isinstance(outcome, Identity)
                _tell(context, strategy, "recognised" if recognised else "refused")
        if isinstance(outcome, InvalidCredential):
            if strategy.ambient and wanted.optional:
                continue
            context.challenges = _marked(binding.challenges, strategy.challenge().scheme)
            if not wanted.revocable:
                raise InvalidCredential
            refused = True
        if isinstance(outcome, Identity):
            return outcome
    if refused:
        raise InvalidCredential
    if not explicit_done:
        _may_stand_in(binding, wanted, connection, context)
    return None


async def _ask(
    strategy: Strategy, connection: HTTPConnection, context: RequestContext
) -> Identity | InvalidCredential | None:
    try:
        outcome = await strategy.authenticate(connection)
    except InvalidCredential as refusal:
        context.discards += refusal.headers
        return refusal
    if outcome is not None and (strategy.ambient or strategy.kept_by_browsers):
        _check_ambient(connection, context, outcome)
    return outcome


def _check_ambient(connection: HTTPConnection, context: RequestContext, identity: Identity) -> None:
    try:
        check_ambient(connection)
    except Forbidden:
        context.misused = identity
        raise


def _tell(context: RequestContext, strategy: Strategy, outcome: str) -> None:
    metrics = context.runtime.metrics
    if metrics is not None:
        metrics.authentication(strategy.name, outcome)
    if context.span is not None:
        # Never who, only how.
        context.span.set_attribute("authapi.strategy", strategy.name)
        context.span.set_attribute("authapi.outcome", outcome)


def _may_stand_in(
    binding: Binding, wanted: Requirements, connection: HTTPConnection, context: RequestContext
) -> bool:
    # Whether the cookie may answer once no strategy has recognised the Authorization header. What
    # was sent on purpose is a bad credential then, not an absent one, in whichever spelling.
    sent = authorization(connection)
    if sent is None or binding.leaves_to_proxy(sent):
        return True
    if _is_for_another_gate(binding, sent, connection, context):
        return True
    if wanted.open_to_headers:
        return False
    if wanted.optional and sent == _EMPTY and not _has_ambient(binding, connection):
        return False
    context.challenges = _marked(binding.challenges, sent.scheme.partition("\t")[0])
    raise InvalidCredential


def _is_for_another_gate(
    binding: Binding, sent: Authorization, connection: HTTPConnection, context: RequestContext
) -> bool:
    # A route may have one gate for the cookie and one for a token, with no strategy in common: it
    # asks for one credential each then. The other gate refuses what is not good.
    if sent.scheme in binding.schemes:
        return False
    found = [gate.bind(context.runtime) for gate in _gates_on_the_way(connection.scope)]
    if not any(item is binding for item in found):
        return False
    mine = set(binding.strategies)
    return any(sent.scheme in item.schemes and mine.isdisjoint(item.strategies) for item in found)


def _gates_on_the_way(scope: Scope) -> Iterator[Gate[object]]:
    # An HTTP route in `scope["route"]` lacks the dependencies of the routers that include its own:
    # FastAPI's context of the route has them. Of a WebSocket route it is the other way round.
    context = scope.get("fastapi", {}).get("effective_route_context")
    found = (getattr(item, "dependant", None) for item in (context, scope.get("route")))
    dependant = next((item for item in found if item is not None), None)
    return iter(()) if dependant is None else gates_of(dependant)


def _has_ambient(binding: Binding, connection: HTTPConnection) -> bool:
    ambient = (strategy for strategy in binding.strategies if strategy.ambient)
    return any(strategy.recall(connection) is not None for strategy in ambient)


def _marked(challenges: tuple[Challenge, ...], scheme: str) -> tuple[Challenge, ...]:
    # RFC 6750, section 3.1: `error` only where a token was sent; other schemes have no such word.
    if scheme.lower() != "bearer":
        return challenges
    return tuple(extended(item, {"error": "invalid_token"}) for item in challenges)
