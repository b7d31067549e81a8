"""Challenges in `WWW-Authenticate` (RFC 9110, section 11.6.1), and schemes of reverse proxies."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from authapi.strategies.base import Challenge, Strategy
from authapi.web.context import Runtime

RESOURCE_METADATA = "/.well-known/oauth-protected-resource"
"""The path of the protected resource metadata (RFC 9728, section 3)."""

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


def build_challenges(
    strategies: Iterable[Strategy[Any]], runtime: Runtime
) -> tuple[Challenge, ...]:
    """Returns the challenges of `strategies`, in order and without duplicates.

    Bearer challenges have the URL of the protected resource metadata (RFC 9728, section 5.1) if the
    routes `well_known` are installed.
    """
    parameters = {}
    if "well_known" in runtime.units:
        parameters["resource_metadata"] = runtime.settings.base_url + RESOURCE_METADATA
    challenges = (with_parameters(strategy.challenge(), parameters) for strategy in strategies)
    return tuple({str(challenge): challenge for challenge in challenges}.values())


def is_bearer(challenge: Challenge) -> bool:
    """Whether the challenge is for bearer tokens (RFC 6750, section 3)."""
    return challenge.scheme.lower() == "bearer"


def with_invalid_token(challenges: tuple[Challenge, ...], scheme: str) -> tuple[Challenge, ...]:
    """Returns the challenges for a request whose credential of this scheme is not valid."""
    # RFC 6750, section 3.1: `error` is for requests with a bearer token only.
    if scheme.lower() != "bearer":
        return challenges
    return tuple(with_parameters(item, {"error": "invalid_token"}) for item in challenges)


def with_parameters(challenge: Challenge, parameters: Mapping[str, str]) -> Challenge:
    """Returns `challenge` with more `parameters`, or unchanged if it is no bearer challenge."""
    if not is_bearer(challenge):
        return challenge
    return Challenge(challenge.scheme, {**challenge.parameters, **parameters})
