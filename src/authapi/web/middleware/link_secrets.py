"""Redacts the secrets of mailed links from the query, so that traces and logs do not contain them.

Tracing records the query (OpenTelemetry `url.query`), access logs do, and any middleware can read
it. This module moves the secret from the query to the scope before any of them runs. The pages read
it from the scope.
"""

import re
from typing import Final
from urllib.parse import parse_qsl, quote, quote_plus, urlencode

from opentelemetry import trace
from starlette._utils import get_route_path
from starlette.requests import HTTPConnection
from starlette.types import Scope

from authapi.web.answers.route_ownership import path_below

PREFIX: Final = "/account/"
"""The beginning of the paths of mailed links, below the prefix of authapi."""
_PARAMETER: Final = "token"
"""The query parameter with the secret."""
_KEY: Final = "authapi.link_secret"
_REDACTED: Final = "REDACTED"


def redact_link_secret(scope: Scope, prefix: str = "") -> None:
    """Moves the secret from the query to the scope, and redacts it in the current span.

    `prefix` is the path of authapi.
    """
    path = path_below(prefix, get_route_path(scope))
    if path is None or not path.startswith(PREFIX):
        return
    fields = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    secrets = [value for name, value in fields if name == _PARAMETER and value]
    if not secrets:
        return
    redacted = [(name, _REDACTED if name == _PARAMETER else value) for name, value in fields]
    scope[_KEY] = secrets[-1]  # Starlette also uses the last of several values
    scope["query_string"] = urlencode(redacted).encode()
    _redact_span(secrets)


def link_secret(connection: HTTPConnection) -> str:
    """Returns the secret from the query of this request, or an empty string."""
    secret: str = connection.scope.get(_KEY, "")
    return secret


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
