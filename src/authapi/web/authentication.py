"""The resolver asks the strategies of a gate for the caller.

The strategies are asked in order, ambient ones (the cookie) last. The first one that reads a
credential of its kind decides: the identity cache has the caller, or the strategy authenticates
it. An Authorization header that no strategy reads is an invalid credential, and the cookie does not
replace it, unless it is for a reverse proxy (`PROXY_SCHEMES`).
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

from starlette.requests import HTTPConnection
from starlette.types import Scope

from authapi.domain.identity import Identity
from authapi.errors import Forbidden, InvalidCredential, UnrecognizedCredential
from authapi.strategies.base import Authorization, Challenge, Strategy, read_authorization
from authapi.web.challenges import with_parameters
from authapi.web.context import RequestContext
from authapi.web.csrf import check_browser_request
from authapi.web.requirements import Binding, Gate, Requirements, gates_of

_EMPTY = Authorization("", "")

Outcome: TypeAlias = Identity | InvalidCredential | None
"""The caller, the refusal, or None for a credential that may belong to another strategy."""


async def find_identity(
    binding: Binding, wanted: Requirements, connection: HTTPConnection, context: RequestContext
) -> Identity | None:
    """Returns the identity from the first strategy with a credential, or None without any.

    Raises InvalidCredential if a strategy refuses its credential, or none reads the Authorization
    header; Forbidden for a credential that a browser attached for another page.
    """
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
                source, outcome = "cached", strategy.cached(credential)
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
        context.challenges = _with_error(binding.challenges, strategy.challenge().scheme)
        if not wanted.revocable:
            raise InvalidCredential
        refused = True
    if refused:
        raise InvalidCredential
    if not tried_explicit:
        _may_use_ambient(binding, wanted, connection, context)  # raises for an unread header
    return None


def _check_csrf(connection: HTTPConnection, context: RequestContext, identity: Identity) -> None:
    try:
        check_browser_request(connection)
    except Forbidden:
        context.csrf_target = identity
        raise


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
        _check_csrf(connection, context, outcome)
    context.outcomes[strategy.name] = outcome
    if source is None:
        return
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
    if _is_for_another_gate(binding, sent, connection, context):
        return True
    if wanted.ignores_unread_header:
        return False
    if wanted.optional and sent == _EMPTY and not _has_ambient(binding, connection):
        return False
    context.challenges = _with_error(binding.challenges, sent.scheme.partition("\t")[0])
    raise InvalidCredential


def _is_for_another_gate(
    binding: Binding, sent: Authorization, connection: HTTPConnection, context: RequestContext
) -> bool:
    # A route with a gate for the cookie and one for a token requires both. The other one checks it.
    if sent.scheme in binding.schemes:
        return False
    bindings = [gate.bind(context.runtime) for gate in _gates_of_route(connection.scope)]
    if not any(item is binding for item in bindings):
        return False
    own = set(binding.strategies)
    return any(sent.scheme in item.schemes and own.isdisjoint(item.strategies) for item in bindings)


def _gates_of_route(scope: Scope) -> Iterator[Gate[object]]:
    # For HTTP, `scope["route"]` lacks the dependencies of including routers, and FastAPI's route
    # context has them. For WebSockets it is the other way round.
    context = scope.get("fastapi", {}).get("effective_route_context")
    candidates = (getattr(item, "dependant", None) for item in (context, scope.get("route")))
    dependant = next((item for item in candidates if item is not None), None)
    return iter(()) if dependant is None else gates_of(dependant)


def _has_ambient(binding: Binding, connection: HTTPConnection) -> bool:
    ambient = (strategy for strategy in binding.strategies if strategy.ambient)
    try:
        return any(strategy.read(connection) is not None for strategy in ambient)
    except InvalidCredential:
        return True  # an ambiguous one


def _with_error(challenges: tuple[Challenge, ...], scheme: str) -> tuple[Challenge, ...]:
    # RFC 6750, section 3.1: `error` is for requests with a bearer token only.
    if scheme.lower() != "bearer":
        return challenges
    return tuple(with_parameters(item, {"error": "invalid_token"}) for item in challenges)
