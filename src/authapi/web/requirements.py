"""Gates: their requirements, and the binding to the strategies of an installation."""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Generic, Literal, NoReturn, TypeAlias, TypeVar

from fastapi.dependencies.models import Dependant
from starlette.requests import HTTPConnection
from starlette.types import Scope

from authapi.clock import now
from authapi.domain.identity import Identity
from authapi.errors import (
    ConfigurationError,
    InactiveAccount,
    InsufficientScope,
    StaleAuthentication,
    SuperuserRequired,
    UnconfirmedEmail,
)
from authapi.strategies.base import Authorization, Challenge, Revocable, Strategy
from authapi.web.challenges import build_challenges
from authapi.web.context import RequestContext, Runtime

T_co = TypeVar("T_co", covariant=True)

# No group is possessive: Python 3.11 before 3.11.5 accepts other texts then (cpython gh-106052).
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_PARAMETER = rf"{_TOKEN}[ \t]*+=[ \t]*+(?:{_TOKEN}|{_QUOTED})"
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]++=*+")
_PARAMETERS = re.compile(rf"{_PARAMETER}(?:[ \t]*+,[ \t]*+{_PARAMETER})*")

PROXY_SCHEMES = {
    "basic": _TOKEN68,
    "digest": _PARAMETERS,
    "negotiate": _TOKEN68,
    "ntlm": _TOKEN68,
}
"""The authentication schemes of reverse proxies, each with the syntax of one credential (RFC 9110,
section 11.4)."""

Writes: TypeAlias = Literal["by_account", "by_session", "uncounted"]
"""How `limit_writes` counts a request. `by_session` is for changes that an account's owner must be
able to make while an attacker with another session exhausts the limit. `uncounted` is for routes
that store nothing or only end something."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """The requirements that a gate checks."""

    strategies: tuple[str, ...] = ()
    """Names of strategies; empty means all of the settings."""
    scopes: tuple[str, ...] = ()
    verified: bool = False
    superuser: bool = False
    fresh: timedelta | Literal[True] | None = None
    optional: bool = False
    revocable: bool = False
    """Accept `Revocable` strategies only. A valid credential is accepted beside an invalid one."""
    ignores_invalid_credential: bool = False
    """Treat a request with an invalid credential as anonymous instead of refusing it."""
    if_configured: bool = False
    """Ignore names of strategies that the settings do not have instead of raising an error."""
    ignores_unread_header: bool = False
    """Treat a request whose Authorization header no strategy reads as anonymous."""
    exchangeable: tuple[str, ...] = ()
    """Further strategies, accepted if `jwt_audiences` names services to exchange a token for."""
    writes: Writes | None = None
    """How `limit_writes` counts a request to this route; None if the route only reads."""


@dataclass(frozen=True, slots=True)
class Binding:
    """Requirements, resolved against the strategies of one installation."""

    strategies: tuple[Strategy[Any], ...]
    schemes: frozenset[str]
    """The authentication schemes of these strategies, in lower case."""
    proxy_schemes: frozenset[str]
    """The `PROXY_SCHEMES` that no strategy of the installation uses."""
    challenges: tuple[Challenge, ...]

    def is_for_proxy(self, authorization: Authorization) -> bool:
        """Whether the header has one well-formed credential for a reverse proxy."""
        if authorization.scheme not in self.proxy_schemes:
            return False
        return PROXY_SCHEMES[authorization.scheme].fullmatch(authorization.credential) is not None


class NotCalled:
    """Marks an argument of a function that returns a gate: the function itself is no dependency.

    FastAPI asks pydantic for the schema of each parameter of a dependency, when the route is added.
    """

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> NoReturn:
        """Raises ConfigurationError."""
        raise ConfigurationError(
            "current_user and current_identity return the dependency: "
            "write Depends(current_user()), not Depends(current_user)"
        )


Scopes: TypeAlias = Annotated[Collection[str], NotCalled()]
"""Names of scopes."""


class Gate(Generic[T_co]):
    """A dependency that accepts or refuses a request."""

    def __init__(self, requirements: Requirements) -> None:
        self.requirements = requirements

    async def __call__(self, connection: HTTPConnection) -> T_co:
        """Returns the value for the handler. Raises as `current_user` describes."""
        raise TypeError("use current_user or current_identity")

    def bind(self, runtime: Runtime) -> Binding:
        """Returns the cached binding. Raises ConfigurationError if a strategy is unknown."""
        binding = runtime.bindings.get(self)
        if not isinstance(binding, Binding):
            binding = runtime.bindings[self] = bind_requirements(self.requirements, runtime)
        return binding


def gates_of(dependant: Dependant) -> Iterator[Gate[object]]:
    """Yields the gates among the dependencies of a route."""
    if isinstance(dependant.call, Gate):
        yield dependant.call
    for dependency in dependant.dependencies:
        yield from gates_of(dependency)


def gates_of_route(scope: Scope) -> Iterator[Gate[object]]:
    """Yields the gates of the route that answers a request."""
    # For HTTP, `scope["route"]` lacks the dependencies of including routers, and FastAPI's route
    # context has them. For WebSockets it is the other way round.
    context = scope.get("fastapi", {}).get("effective_route_context")
    candidates = (getattr(item, "dependant", None) for item in (context, scope.get("route")))
    dependant = next((item for item in candidates if item is not None), None)
    return iter(()) if dependant is None else gates_of(dependant)


def check_requirements(wanted: Requirements, identity: Identity, context: RequestContext) -> None:
    """Checks that `identity` meets the requirements.

    Raises InactiveAccount, StaleAuthentication, InsufficientScope, UnconfirmedEmail or
    SuperuserRequired, checked in this order.
    """
    if not identity.user.is_active:
        raise InactiveAccount
    if wanted.fresh is not None:
        limit = context.runtime.settings.fresh_max_age if wanted.fresh is True else wanted.fresh
        # A personal access token has no `amr`: creating one is not a login.
        if not identity.amr or now() - identity.auth_time > limit:
            raise StaleAuthentication(max_age=int(limit.total_seconds()))
    if not identity.scopes.issuperset(wanted.scopes):
        raise InsufficientScope(required=wanted.scopes)
    if wanted.verified and identity.user.email_confirmed_at is None:
        raise UnconfirmedEmail
    if wanted.superuser and not identity.user.is_superuser:
        raise SuperuserRequired


def normalized_requirements(
    strategies: tuple[str, ...],
    scopes: Collection[str],
    verified: bool,
    superuser: bool,
    fresh: timedelta | Literal[True] | None,
    optional: bool,
) -> Requirements:
    """Returns requirements in a normal form, so that equal arguments give equal gates.

    Raises TypeError if `scopes` is a string.
    """
    if isinstance(scopes, str):
        raise TypeError("scopes must be a collection of names, not a string")
    return Requirements(
        strategies=tuple(dict.fromkeys(strategies)),
        scopes=tuple(sorted(set(scopes))),
        verified=verified,
        superuser=superuser,
        fresh=fresh,
        optional=optional,
    )


def bind_requirements(wanted: Requirements, runtime: Runtime) -> Binding:
    """Resolves requirements against the strategies of an installation.

    Raises ConfigurationError if a strategy is unknown, unless they are `if_configured`.
    """
    registry = runtime.registry
    requested = wanted.strategies
    if wanted.exchangeable and runtime.services.settings.jwt_audiences:
        requested += wanted.exchangeable
    unknown = [name for name in requested if name not in registry]
    names = [name for name in requested or registry.names if name in registry]
    if unknown and not wanted.if_configured:
        raise ConfigurationError(
            f"unknown strategy {unknown[0]!r}; the settings have {', '.join(registry.names)}"
        )
    if wanted.revocable:
        names = [name for name in names if isinstance(registry[name], Revocable)]
    strategies = registry.in_order(names) if names else ()
    return Binding(
        strategies=strategies,
        schemes=_schemes(strategies),
        proxy_schemes=frozenset(PROXY_SCHEMES) - _schemes(registry),
        challenges=build_challenges(strategies, runtime),
    )


def _schemes(strategies: Iterable[Strategy[Any]]) -> frozenset[str]:
    explicit = (item.challenge() for item in strategies if not item.ambient)
    return frozenset(challenge.scheme.lower() for challenge in explicit)
