"""Gates: their requirements, and the binding to the strategies of an installation."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated, Any, Generic, Literal, NoReturn, TypeAlias, TypeVar

from fastapi.dependencies.models import Dependant
from starlette.requests import HTTPConnection
from starlette.types import Scope

from authapi.clock import now
from authapi.domain.factors.authentication_context import (
    ACR_VALUES,
    MFA,
    SINGLE_FACTOR,
    TWO_FACTORS,
    meets_acr,
    strongest,
)
from authapi.domain.factors.policy import is_too_weak
from authapi.domain.identity import Identity
from authapi.domain.scopes import has_rank
from authapi.errors import (
    ConfigurationError,
    InactiveAccount,
    InsufficientAuthentication,
    InsufficientScope,
    InvalidCredential,
    StaleAuthentication,
    SuperuserRequired,
    UnconfirmedEmail,
)
from authapi.strategies.base import Authorization, Challenge, Revocable, Strategy
from authapi.web.challenges import PROXY_SCHEMES, build_challenges
from authapi.web.context import RequestContext, Runtime

T_co = TypeVar("T_co", covariant=True)

SecondFactor: TypeAlias = Literal[False, True, "enrolled"] | timedelta
"""What a gate asks of a second factor. True: this login has proved one. "enrolled": it has, if the
account has one. A timedelta: it has, at most this long ago."""

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
    mfa: SecondFactor = False
    acr: str | None = None
    """The context class that the login must have, or a stronger one."""
    optional: bool = False
    revocable: bool = False
    """Accept `Revocable` strategies only. A valid credential is accepted beside an invalid one."""
    ignores_invalid_credential: bool = False
    """Treat a request with an invalid credential as anonymous instead of refusing it."""
    if_configured: bool = False
    """Ignore names of strategies that the settings do not have instead of raising an error."""
    ignores_unread_header: bool = False
    """Treat a request whose Authorization header no strategy reads as anonymous."""
    accepts_one_factor: bool = False
    """Accept a login by one factor where `mfa=required`: one adds or proves a second factor by the
    route, or logs out."""
    exchangeable: tuple[str, ...] = ()
    """Further strategies, accepted if `jwt_audiences` names services to exchange a token for."""
    writes: Writes | None = None
    """How `limit_writes` counts a request to this route; None if the route only reads."""

    def __post_init__(self) -> None:
        """Raises TypeError or ValueError if `fresh`, `mfa` or `acr` is not permitted."""
        fresh: object = self.fresh  # callers without a type checker may pass other types
        if not isinstance(fresh, timedelta) and fresh is not None and fresh is not True:
            raise TypeError(f"fresh must be True, None or a timedelta, not {fresh!r}")
        mfa: object = self.mfa
        if isinstance(mfa, timedelta):
            if mfa <= timedelta(0):
                raise ValueError("the timedelta of mfa must be positive")
        elif not isinstance(mfa, bool) and mfa != "enrolled":
            kind = ValueError if isinstance(mfa, str) else TypeError
            raise kind(f'mfa must be True, False, "enrolled" or a timedelta, not {mfa!r}')
        if self.acr is not None and self.acr not in ACR_VALUES:
            raise ValueError(f"acr must be one of {', '.join(ACR_VALUES)}, not {self.acr!r}")


@dataclass(frozen=True, slots=True)
class Binding:
    """Requirements, resolved against the strategies of one installation."""

    strategies: tuple[Strategy[Any], ...]
    schemes: frozenset[str]
    """The authentication schemes of these strategies, in lower case."""
    proxy_schemes: frozenset[str]
    """The `PROXY_SCHEMES` that no strategy of the installation uses."""
    challenges: tuple[Challenge, ...]
    refuses_one_factor: bool
    """Whether `mfa=required` closes the route to a login by one factor."""
    ranks_by_factors: bool
    """Whether the route is for superusers, whose rank `mfa_required_superusers` ties to two
    factors."""

    def is_for_proxy(self, authorization: Authorization) -> bool:
        """Whether the header has one well-formed credential for a reverse proxy."""
        if authorization.scheme not in self.proxy_schemes:
            return False
        return PROXY_SCHEMES[authorization.scheme].fullmatch(authorization.credential) is not None

    def has_ambient(self, connection: HTTPConnection) -> bool:
        """Whether the request has a credential that browsers send by themselves."""
        ambient = (strategy for strategy in self.strategies if strategy.ambient)
        try:
            return any(strategy.read(connection) is not None for strategy in ambient)
        except InvalidCredential:
            return True  # an ambiguous one


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


def is_for_another_gate(
    binding: Binding, sent: Authorization, connection: HTTPConnection, context: RequestContext
) -> bool:
    """Whether another gate of the route checks this Authorization header.

    A route with a gate for the cookie and one for a token requires both.
    """
    if sent.scheme in binding.schemes:
        return False
    bindings = [gate.bind(context.runtime) for gate in gates_of_route(connection.scope)]
    if not any(item is binding for item in bindings):
        return False
    own = set(binding.strategies)
    return any(sent.scheme in item.schemes and own.isdisjoint(item.strategies) for item in bindings)


def check_requirements(
    binding: Binding, wanted: Requirements, identity: Identity, context: RequestContext
) -> None:
    """Checks that `identity` meets the requirements, and what the settings add to them.

    Raises InactiveAccount, StaleAuthentication or InsufficientAuthentication, InsufficientScope,
    UnconfirmedEmail or SuperuserRequired, checked in this order.
    """
    if not identity.user.is_active:
        raise InactiveAccount
    if _settings_ask_for_mfa(binding, identity, context.runtime):
        wanted = replace(wanted, mfa=wanted.mfa if isinstance(wanted.mfa, timedelta) else True)
    if wanted.fresh is not None or wanted.mfa is not False or wanted.acr is not None:
        _check_login(wanted, identity, context.runtime.settings.fresh_max_age)
    if not identity.scopes.issuperset(wanted.scopes):
        raise InsufficientScope(required=wanted.scopes)
    if wanted.verified and identity.user.email_confirmed_at is None:
        raise UnconfirmedEmail
    if wanted.superuser and not identity.user.is_superuser:
        raise SuperuserRequired


def is_ignored(binding: Binding, identity: Identity, runtime: Runtime) -> bool:
    """Whether an optional gate takes this caller for an anonymous one.

    `mfa=required` refuses the login, and a browser sends its cookie by itself: it must not close a
    page that needs no login.
    """
    return _is_login_refused(binding, identity, runtime) and (
        runtime.registry[identity.strategy].ambient
    )


def _is_login_refused(binding: Binding, identity: Identity, runtime: Runtime) -> bool:
    """Whether `mfa=required` refuses the login of this caller, which proved one factor before."""
    if not binding.refuses_one_factor:
        return False
    return is_too_weak(identity.amr, runtime.services.settings) and runtime.is_account(identity)


def _settings_ask_for_mfa(binding: Binding, identity: Identity, runtime: Runtime) -> bool:
    """Whether the settings ask for a second factor, also where the gate does not."""
    if _is_login_refused(binding, identity, runtime):
        return True
    if not binding.ranks_by_factors or not identity.user.is_superuser:
        return False
    has_own_rank = has_rank(identity.user, identity.amr, runtime.services.settings)
    return not has_own_rank and runtime.is_account(identity)


def required_acr(wanted: Requirements, *, has_mfa: bool) -> str | None:
    """Returns the weakest context class that `wanted` accepts; None if it accepts any.

    `has_mfa` is whether the account has a second factor.
    """
    if wanted.mfa is False:
        return wanted.acr
    is_proved_once = wanted.mfa == "enrolled" and not has_mfa
    acr = SINGLE_FACTOR if is_proved_once else TWO_FACTORS
    return acr if wanted.acr is None else strongest(acr, wanted.acr)


def login_requirements(
    gates: Iterable[Requirements], *, fresh_max_age: timedelta
) -> dict[str, object]:
    """Returns what several gates together require of a login; empty if nothing.

    The members are `mfa` (True or "enrolled"), `acr`, and in seconds `max_age` of the login and
    `mfa_max_age` of the second factor.
    """
    found: dict[str, object] = {}
    acr: str | None = None
    ages: dict[str, list[timedelta]] = {"max_age": [], "mfa_max_age": []}
    for wanted in gates:
        if wanted.mfa == "enrolled":
            found.setdefault("mfa", "enrolled")
        elif wanted.mfa is not False:
            found["mfa"] = True
        if isinstance(wanted.mfa, timedelta):
            ages["mfa_max_age"].append(wanted.mfa)
        if wanted.fresh is not None:
            ages["max_age"].append(fresh_max_age if wanted.fresh is True else wanted.fresh)
        own = wanted.acr if wanted.mfa == "enrolled" else required_acr(wanted, has_mfa=True)
        if own is not None:
            acr = own if acr is None else strongest(acr, own)
    if acr is not None:
        found["acr"] = acr
    return found | {name: int(min(each).total_seconds()) for name, each in ages.items() if each}


def _check_login(wanted: Requirements, identity: Identity, fresh_max_age: timedelta) -> None:
    """Checks the age and the strength of a login together: one login can meet both (RFC 9470).

    Raises StaleAuthentication if only the age is missing, else InsufficientAuthentication.
    """
    at, ages = now(), list[timedelta]()
    if wanted.fresh is not None:
        limit = fresh_max_age if wanted.fresh is True else wanted.fresh
        # A personal access token has no `amr`: creating one is not a login.
        if not identity.amr or at - identity.auth_time > limit:
            ages.append(limit)
    acr = required_acr(wanted, has_mfa=identity.user.mfa)
    is_strong = _is_strong(wanted, identity)
    if isinstance(wanted.mfa, timedelta):
        proved_at = identity.mfa_at
        if not is_strong or proved_at is None or at - proved_at > wanted.mfa:
            is_strong = False
            ages.append(wanted.mfa)
    max_age = int(min(ages).total_seconds()) if ages else None
    # A login proves one factor in any case, so its age alone says what is missing.
    if acr is not None and not is_strong and (max_age is None or acr != SINGLE_FACTOR):
        raise InsufficientAuthentication(acr=acr, max_age=max_age)
    if max_age is not None:
        raise StaleAuthentication(max_age=max_age)


def _is_strong(wanted: Requirements, identity: Identity) -> bool:
    """Whether the login has proved the factors that `wanted` asks for, at any time.

    A credential that no login has issued, such as a personal access token, proves none.
    """
    amr = identity.amr
    if wanted.mfa == "enrolled" and not identity.user.mfa:
        is_proved = bool(amr)
    else:
        is_proved = wanted.mfa is False or MFA in amr
    return is_proved and (wanted.acr is None or meets_acr(identity.acr, wanted.acr))


def normalized_requirements(
    strategies: tuple[str, ...],
    scopes: Collection[str],
    verified: bool,
    superuser: bool,
    fresh: timedelta | Literal[True] | None,
    mfa: SecondFactor,
    acr: str | None,
    optional: bool,
) -> Requirements:
    """Returns requirements in a normal form, so that equal arguments give equal gates.

    Raises TypeError if `scopes` is a string, TypeError or ValueError as `Requirements`.
    """
    if isinstance(scopes, str):
        raise TypeError("scopes must be a collection of names, not a string")
    return Requirements(
        strategies=tuple(dict.fromkeys(strategies)),
        scopes=tuple(sorted(set(scopes))),
        verified=verified,
        superuser=superuser,
        fresh=fresh,
        mfa=mfa,
        acr=acr,
        optional=optional,
    )


def bind_requirements(wanted: Requirements, runtime: Runtime) -> Binding:
    """Resolves requirements against the strategies of an installation.

    Unless they are `if_configured`, raises ConfigurationError if a strategy is unknown, or if its
    callers are accounts of another service and `mfa` asks what only that service knows.
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
    foreign = [item.name for item in strategies if not item.users_are_accounts]
    if foreign and not isinstance(wanted.mfa, bool) and not wanted.if_configured:
        asked = repr(wanted.mfa) if isinstance(wanted.mfa, str) else "timedelta"
        raise ConfigurationError(
            f"mfa={asked} is not possible with the strategy {foreign[0]!r}: its credentials tell "
            "neither whether the account has a second factor nor when it was proved; use mfa=True"
        )
    services = runtime.services_if_any
    mfa = None if services is None else services.settings.mfa
    is_ranked = services is not None and services.settings.mfa_required_superusers
    return Binding(
        strategies=strategies,
        schemes=_schemes(strategies),
        proxy_schemes=frozenset(PROXY_SCHEMES) - _schemes(registry),
        challenges=build_challenges(strategies, runtime),
        refuses_one_factor=mfa == "required" and not wanted.accepts_one_factor,
        ranks_by_factors=is_ranked and wanted.superuser,
    )


def _schemes(strategies: Iterable[Strategy[Any]]) -> frozenset[str]:
    explicit = (item.challenge() for item in strategies if not item.ambient)
    return frozenset(challenge.scheme.lower() for challenge in explicit)
