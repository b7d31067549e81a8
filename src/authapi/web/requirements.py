"""What a route asks of its caller, and what that means in one installation."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeAlias

from authapi.clock import now
from authapi.errors import (
    ConfigurationError,
    InactiveAccount,
    InsufficientScope,
    StaleAuthentication,
    SuperuserRequired,
    UnconfirmedEmail,
)
from authapi.identity import Identity
from authapi.strategies.base import Authorization, Challenge, Revocable, Strategy
from authapi.web.challenges import challenges_of
from authapi.web.context import RequestContext, Runtime

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_PARAMETER = rf"{_TOKEN}[ \t]*+=[ \t]*+(?:{_TOKEN}|{_QUOTED})"
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]++=*+")
_PARAMETERS = re.compile(rf"{_PARAMETER}(?:[ \t]*+,[ \t]*+{_PARAMETER})*+")

PROXY_SCHEMES = {
    "basic": _TOKEN68,
    "digest": _PARAMETERS,
    "negotiate": _TOKEN68,
    "ntlm": _TOKEN68,
}
"""The schemes that proxies in front of a service authenticate callers by themselves with, and the
form of one credential of each (RFC 9110, section 11.4)."""

Writes: TypeAlias = Literal["by_account", "by_session", "uncounted"]
"""`by_session` is for changes that an owner must be able to make while a thief of another session
uses up the limit. `uncounted` is for routes that write nothing lasting, or only end something."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a route asks of its caller."""

    strategies: tuple[str, ...] = ()
    """Names; none means all."""
    scopes: tuple[str, ...] = ()
    verified: bool = False
    superuser: bool = False
    fresh: timedelta | Literal[True] | None = None
    optional: bool = False
    revocable: bool = False
    """Only strategies that can log out. One that is over is passed over for another."""
    lenient: bool = False
    """A caller with a bad credential is a stranger, and not refused."""
    if_configured: bool = False
    """Names that the settings do not have are left out instead of being an error."""
    open_to_headers: bool = False
    """A caller whose Authorization header no strategy reads is a stranger, and not refused."""
    exchangeable: tuple[str, ...] = ()
    """Names besides, where the settings have other services to exchange a credential for."""
    writes: Writes | None = None
    """How `limit_writes` counts a request to this route of ours; None for one that only reads."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What requirements mean in one installation."""

    strategies: tuple[Strategy, ...]
    schemes: frozenset[str]
    """Authorization schemes, in lower case, that the strategies understand."""
    proxy_schemes: frozenset[str]
    """Those of `PROXY_SCHEMES` that no strategy of the installation understands."""
    challenges: tuple[Challenge, ...]

    def leaves_to_proxy(self, sent: Authorization) -> bool:
        """Whether `sent` is one credential, and meant for a proxy in front of this service."""
        if sent.scheme not in self.proxy_schemes:
            return False
        return PROXY_SCHEMES[sent.scheme].fullmatch(sent.credential) is not None


def check(wanted: Requirements, identity: Identity, context: RequestContext) -> None:
    """Return if `identity` is enough. Raises, in this order, the refusals below."""
    if not identity.user.is_active:
        raise InactiveAccount
    if wanted.fresh is not None:
        limit = context.runtime.settings.fresh_max_age if wanted.fresh is True else wanted.fresh
        # A personal access token has no `amr`: nobody logged in with it, however young it is.
        if not identity.amr or now() - identity.auth_time > limit:
            raise StaleAuthentication(max_age=int(limit.total_seconds()))
    if not identity.scopes.issuperset(wanted.scopes):
        raise InsufficientScope(required=wanted.scopes)
    if wanted.verified and identity.user.email_confirmed_at is None:
        raise UnconfirmedEmail
    if wanted.superuser and not identity.user.is_superuser:
        raise SuperuserRequired


def requirements(
    strategies: tuple[str, ...],
    scopes: Collection[str],
    verified: bool,
    superuser: bool,
    fresh: timedelta | Literal[True] | None,
    optional: bool,
) -> Requirements:
    """Those that somebody wrote, in one order: equal ones are to be equal."""
    if isinstance(scopes, str):
        raise TypeError("scopes takes a collection of names, not one string")
    return Requirements(
        strategies=tuple(dict.fromkeys(strategies)),
        scopes=tuple(sorted(set(scopes))),
        verified=verified,
        superuser=superuser,
        fresh=fresh,
        optional=optional,
    )


def bind(wanted: Requirements, runtime: Runtime) -> Binding:
    """What they mean there. Raises ConfigurationError for a strategy that there is not."""
    registry = runtime.registry
    asked = wanted.strategies
    if wanted.exchangeable and runtime.services.settings.jwt_audiences:
        asked += wanted.exchangeable
    unknown = [name for name in asked if name not in registry]
    names = [name for name in asked or registry.names if name in registry]
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
        challenges=challenges_of(strategies, runtime),
    )


def _schemes(strategies: Iterable[Strategy]) -> frozenset[str]:
    explicit = (item.challenge() for item in strategies if not item.ambient)
    return frozenset(challenge.scheme.lower() for challenge in explicit)
