"""Errors of the pages below /account as HTML pages.

Users see these errors in a browser, where a problem document is of no use. `web.problems` creates
the problem document of each error, and calls `wants_page` to find out whether to send a page.
"""

from collections.abc import Mapping
from urllib.parse import quote

from fastapi.routing import iter_route_contexts
from starlette._utils import get_route_path
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Scope

from authapi.web.answers.route_ownership import ROUTES, path_below
from authapi.web.context import context_of
from authapi.web.pages.rendering import Link, html, translation_for

PREFIX = "/account"

_FORMS = f"{ROUTES}forms"
"""The module with the routes of the pages."""
_HTML = frozenset({"text/html", "application/xhtml+xml", "text/*", "*/*"})
_MAX_ACCEPT = 1000
_NEEDS_PUBLIC_URL = frozenset({"foreign_origin", "https_required"})
_REPLACED_HEADERS = frozenset({"content-type", "content-length"})
_TEXT_BY_STATUS: Mapping[int, str] = {
    408: "request_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "too_many_attempts",
    431: "headers_too_large",
}
"""Texts for codes that have no text, such as those of errors of the framework."""


def wants_page(scope: Scope, prefix: str) -> bool:
    """Whether an error of this request is answered with a page. `prefix` is the path of authapi.

    True if the path below it is /account or below, belongs to the pages of authapi and not to a
    route of the application, and `Accept` allows HTML. Browsers send `text/html` for links and
    forms. A client that accepts only JSON gets the problem document.
    """
    path = get_route_path(scope)
    own = path_below(prefix, path)
    if own is None or (own != PREFIX and not own.startswith(f"{PREFIX}/")):
        return False
    return _belongs_to_pages(scope, path) and _accepts_html(scope)


def error_page(document: Response, code: str, scope: Scope) -> Response:
    """The error page that replaces `document`, the problem document of an error with this `code`.

    It has the status and the headers of `document`. It does not contain input of the request.
    """
    connection, status = HTTPConnection(scope), document.status_code
    translation = translation_for(connection)
    text = code
    if not translation.has_text(code):
        text = _TEXT_BY_STATUS.get(status, "other" if status >= 500 else "refused")
    base = _relative_base(scope, context_of(connection).runtime.settings.prefix)
    page = html(
        translation,
        status,
        title=translation.text("not_found.title" if code == "not_found" else "error"),
        base=base,
        error=translation.text(text),
        link=_link_for(code, base, connection),
        # The log contains the reason, with this id.
        reference=context_of(connection).request_id if status >= 500 else None,
    )
    for name, value in document.headers.items():
        if name not in _REPLACED_HEADERS:
            page.headers.append(name, value)
    return page


def _belongs_to_pages(scope: Scope, path: str) -> bool:
    matched, has_pages, is_foreign = scope.get("endpoint"), False, False
    for route in iter_route_contexts(getattr(scope.get("app"), "routes", ())):
        endpoint, pattern = getattr(route, "endpoint", None), getattr(route, "path_regex", None)
        is_page = _is_page(endpoint)
        if endpoint is not None and endpoint is matched:
            return is_page
        has_pages = has_pages or is_page
        is_foreign = is_foreign or (
            not is_page and pattern is not None and bool(pattern.match(path))
        )
    # No endpoint was matched: no route has this path, or a middleware refused the request.
    return has_pages and not is_foreign


def _is_page(endpoint: object) -> bool:
    return getattr(endpoint, "__module__", None) == _FORMS


def _accepts_html(scope: Scope) -> bool:
    # RFC 9110, section 12.5.1. A request without the header accepts any media type.
    values = [value for name, value in scope["headers"] if name == b"accept"]
    items = b",".join(values)[:_MAX_ACCEPT].decode("latin-1").lower().split(",")
    ranges = [item.partition(";") for item in items if item.strip()]
    return not ranges or any(
        media.strip() in _HTML and not _is_zero(parameters) for media, _, parameters in ranges
    )


def _is_zero(parameters: str) -> bool:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return value.strip() in ("0", "0.", "0.0", "0.00", "0.000")
    return False


def _link_for(code: str, base: str, connection: HTTPConnection) -> Link:
    settings = context_of(connection).runtime.settings
    # A form at another origin than `public_url` would fail with the same error.
    use_public = settings.public_url is not None and code in _NEEDS_PUBLIC_URL
    target = f"{settings.issuer}{PREFIX}/" if use_public else base
    path = path_below(settings.prefix, get_route_path(connection.scope))
    is_forgot = path == f"{PREFIX}/forgot"
    return Link(f"{target}forgot", "again" if is_forgot else "to_reset")


def _relative_base(scope: Scope, prefix: str) -> str:
    """The folder of the pages, relative to the URL of the request.

    A relative URL is correct also if a proxy has removed the beginning of the path.
    """
    path: str = scope["path"]
    raw: bytes = scope.get("raw_path") or quote(path).encode()
    # Browsers do not treat %2F as a slash, but `path` contains it decoded.
    above = path.count("/") - get_route_path(scope).count("/") + prefix.count("/")
    return "../" * (raw.count(b"/") - above - 1) + f"{PREFIX[1:]}/"
