"""The challenges of `WWW-Authenticate`: how one may authenticate, and where to read more of it."""

from collections.abc import Iterable, Mapping

from authapi.strategies.base import Challenge, Strategy
from authapi.web.context import Runtime

RESOURCE_METADATA = "/.well-known/oauth-protected-resource"
"""Where the metadata of this resource are (RFC 9728, section 3)."""


def challenges_of(strategies: Iterable[Strategy], runtime: Runtime) -> tuple[Challenge, ...]:
    """What invites the credentials of `strategies`, in order and without repetition.

    Bearer challenges say where a client learns who gives tokens (RFC 9728, section 5.1), if that
    can be read in this installation.
    """
    extra = {}
    if "well_known" in runtime.units:
        extra["resource_metadata"] = runtime.settings.issuer + RESOURCE_METADATA
    found = (extended(strategy.challenge(), extra) for strategy in strategies)
    return tuple({str(challenge): challenge for challenge in found}.values())


def is_bearer(challenge: Challenge) -> bool:
    """Whether it asks for a bearer token (RFC 6750), which has parameters of its own."""
    return challenge.scheme.lower() == "bearer"


def extended(challenge: Challenge, extra: Mapping[str, str]) -> Challenge:
    """`challenge` with more parameters, which only bearer challenges know."""
    if not is_bearer(challenge):
        return challenge
    return Challenge(challenge.scheme, {**challenge.parameters, **extra})
