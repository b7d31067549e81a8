"""Redacts the secrets of links from the query, so that traces and logs do not contain them.

They are the tokens of mailed links, and what a provider sends back after a login there. Tracing
records the query (OpenTelemetry `url.query`), access logs do, and any middleware can read it. This
module moves the secrets from the query to the scope before any of them runs. The routes read them
from the scope.
"""

import re
from collections.abc import Collection
from typing import Final
from urllib.parse import parse_qsl, quote, quote_plus, urlencode

from opentelemetry import trace
from starlette._utils import get_route_path
from starlette.requests import HTTPConnection
from starlette.types import Scope

from authapi.web.answers.route_ownership import path_below
from authapi.web.pages.addresses import CALLBACKS

PREFIX: Final = "/account/"
"""The beginning of the paths of mailed links, below the prefix of authapi."""
_PARAMETER: Final = "token"
"""The query parameter with the secret."""
_KEY: Final = "authapi.link_secret"
_OF_CALLBACK: Final = frozenset({"code", "state", "user", "id_token", "access_token"})
"""The query parameters of a callback that are secret, or name a person."""
_CALLBACK_KEY: Final = "authapi.callback"
_REDACTED: Final = "REDACTED"


def redact_link_secret(scope: Scope, prefix: str = "") -> None:
    """Moves the secrets from the query to the scope, and redacts them in the current span.

    `prefix` is the path of authapi.
    """
    path = path_below(prefix, get_route_path(scope))
    if path is None:
        return
    if path.startswith(PREFIX):
        secrets = [pair for pair in _redact(scope, {_PARAMETER}) if pair[1]]
        if secrets:
            # Starlette also uses the last of several values.
            scope[_KEY] = secrets[-1][1]
    elif path.startswith(CALLBACKS):
        scope[_CALLBACK_KEY] = _redact(scope, _OF_CALLBACK)


def link_secret(connection: HTTPConnection) -> str:
    """Returns the secret from the query of this request, or an empty string."""
    secret: str = connection.scope.get(_KEY, "")
    return secret


def callback_parameters(connection: HTTPConnection) -> list[tuple[str, str]]:
    """Returns the query of a request by which a provider leads back, with its secrets."""
    secrets: list[tuple[str, str]] = connection.scope.get(_CALLBACK_KEY, [])
    others = parse_qsl(connection.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return [*secrets, *(pair for pair in others if pair[0] not in _OF_CALLBACK)]


def _redact(scope: Scope, names: Collection[str]) -> list[tuple[str, str]]:
    """Redacts the parameters `names` in the query and the current span.

    Returns them, also those that are empty.
    """
    fields = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    found = [(name, value) for name, value in fields if name in names]
    if secrets := [value for _, value in found if value]:
        redacted = [(name, _REDACTED if name in names else value) for name, value in fields]
        scope["query_string"] = urlencode(redacted).encode()
        _redact_span(secrets)
    return found


def _redact_span(secrets: list[str]) -> None:
    # Instrumentations name the attribute `url.query`, `url.full`, `http.url` or `http.target`.
    span = trace.get_current_span()
    encodings = {
        encoded
        for secret in secrets
        for encoded in (secret, quote(secret), quote(secret, safe=""), quote_plus(secret))
    }
    pattern = re.compile("|".join(map(re.escape, sorted(encodings, key=len, reverse=True))))
    for name, value in dict(getattr(span, "attributes", None) or {}).items():
        if isinstance(value, str) and pattern.search(value):
            span.set_attribute(name, pattern.sub(_REDACTED, value))
