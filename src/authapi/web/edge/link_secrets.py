"""Secrets in the query of a link from a mail: kept out of traces and logs.

The query of a request is an attribute of its span (OpenTelemetry `url.query`), a part of its line
in an access log, and at hand for every middleware. So the secret is taken out of the query before
any of these sees it, and the pages read it from the scope.
"""

import re
from typing import Final
from urllib.parse import parse_qsl, quote, quote_plus, urlencode

from opentelemetry import trace
from starlette._utils import get_route_path
from starlette.requests import HTTPConnection
from starlette.types import Scope

PREFIX: Final = "/account/"
"""Where the links of mails lead to pages of ours."""
_PARAMETER: Final = "token"
"""In which parameter of the query they carry the secret."""
_KEY: Final = "authapi.link_secret"
_HIDDEN: Final = "REDACTED"


def hide_secret(scope: Scope) -> None:
    """Take the secret out of the query of a request to a page, and out of the span around it."""
    if not get_route_path(scope).startswith(PREFIX):
        return
    fields = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    secrets = [value for name, value in fields if name == _PARAMETER and value]
    if not secrets:
        return
    shown = [(name, _HIDDEN if name == _PARAMETER else value) for name, value in fields]
    scope[_KEY] = secrets[-1]  # as Starlette reads a name that comes twice
    scope["query_string"] = urlencode(shown).encode()
    _redact_span(secrets)


def link_secret(connection: HTTPConnection) -> str:
    """The secret that came in the query of this request, or an empty text."""
    found: str = connection.scope.get(_KEY, "")
    return found


def _redact_span(secrets: list[str]) -> None:
    # Instrumentations call the attribute `url.query`, `url.full`, `http.url` or `http.target`.
    span = trace.get_current_span()
    spellings = {
        spelt
        for secret in secrets
        for spelt in (secret, quote(secret), quote(secret, safe=""), quote_plus(secret))
    }
    found = re.compile("|".join(map(re.escape, sorted(spellings, key=len, reverse=True))))
    for name, value in dict(getattr(span, "attributes", None) or {}).items():
        if isinstance(value, str) and found.search(value):
            span.set_attribute(name, found.sub(_HIDDEN, value))
