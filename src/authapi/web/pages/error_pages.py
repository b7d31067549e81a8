"""Errors of the pages as HTML pages.

Users see these errors in a browser, where a problem document is of no use. `web.problems` creates
the problem document of each error, and calls `wants_page` to find out whether to send a page.
"""

from collections.abc import Mapping

from fastapi.routing import iter_route_contexts
from starlette._utils import get_route_path
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Scope

from authapi.web.answers.route_ownership import ROUTES, path_below
from authapi.web.context import context_of
from authapi.web.pages import addresses
from authapi.web.pages.rendering import render, sentence, too_many
from authapi.web.pages.texts import error_code

_PAGES = f"{ROUTES}pages."
"""The package with the routes of the pages."""
_HTML = frozenset({"text/html", "application/xhtml+xml", "text/*", "*/*"})
_MAX_ACCEPT = 1000
_NEEDS_PUBLIC_URL = frozenset({"foreign_origin", "https_required"})
_REPLACED_HEADERS = frozenset({"content-type", "content-length"})


def wants_page(scope: Scope, prefix: str) -> bool:
    """Whether an error of this request is answered with a page. `prefix` is the path of authapi.

    True if the path below it is /account or below, or that of an installed console, belongs to the
    pages of authapi and not to a route of the application, and `Accept` allows HTML. Browsers send
    `text/html` for links and forms. A client that accepts only JSON gets the problem document.
    """
    path = get_route_path(scope)
    own = path_below(prefix, path)
    if own is None:
        return False
    if own != addresses.PREFIX and not own.startswith(f"{addresses.PREFIX}/"):
        units = context_of(HTTPConnection(scope)).runtime.units
        if "console" not in units or not addresses.is_of_console(scope, prefix):
            return False
    return _belongs_to_pages(scope, path) and accepts_html(scope)


def error_page(document: Response, code: str, scope: Scope) -> Response:
    """The error page that replaces `document`, the problem document of an error with this `code`.

    It has the status and the headers of `document`. It does not contain input of the request.
    """
    connection, status = HTTPConnection(scope), document.status_code
    page = render(
        connection,
        "error",
        status=status,
        is_missing=code == "not_found",
        problem=_explanation(connection, code, document),
        link=_link_for(code, connection),
        # The log contains the reason, with this id.
        reference=context_of(connection).request_id,
    )
    for name, value in document.headers.items():
        if name not in _REPLACED_HEADERS:
            page.headers.append(name, value)
    return page


def accepts_html(scope: Scope) -> bool:
    """Whether the header `Accept` allows a page (RFC 9110, section 12.5.1).

    A request without the header accepts any media type.
    """
    values = [value for name, value in scope["headers"] if name == b"accept"]
    items = b",".join(values)[:_MAX_ACCEPT].decode("latin-1").lower().split(",")
    ranges = [item.partition(";") for item in items if item.strip()]
    return not ranges or any(
        media.strip() in _HTML and not _is_zero(parameters) for media, _, parameters in ranges
    )


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
    return str(getattr(endpoint, "__module__", None)).startswith(_PAGES)


def _is_zero(parameters: str) -> bool:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return value.strip() in ("0", "0.", "0.0", "0.00", "0.000")
    return False


def _explanation(connection: HTTPConnection, code: str, document: Response) -> str:
    status, seconds = document.status_code, document.headers.get("retry-after", "")
    if error_code(code, status) == "too_many_attempts" and seconds.isdigit():
        return too_many(connection, int(seconds))
    return sentence(connection, code, status)


def _link_for(code: str, connection: HTTPConnection) -> Mapping[str, str]:
    """Returns the address of the page that helps, and which one it is."""
    runtime = context_of(connection).runtime
    settings = runtime.settings
    path = path_below(settings.prefix, get_route_path(connection.scope)) or ""
    # A form at another origin than `public_url` would fail with the same error.
    use_public = settings.public_url is not None and code in _NEEDS_PUBLIC_URL
    name, kind = _target(path.removeprefix(f"{addresses.PREFIX}/"), runtime.units)
    if use_public:
        url = f"{settings.issuer}{addresses.PREFIX}/{name}".rstrip("/")
        return {"href": url, "kind": kind}
    return {"href": addresses.page(connection, name), "kind": kind}


def _target(own: str, units: set[str]) -> tuple[str, str]:
    if own == addresses.PREFIX and "account" in units:
        return "", "again"
    if own in _FORMS and _FORMS[own] in units:
        return own, "again"
    if "pages" in units and own in _MAIL_PAGES:
        return "forgot", "forgot"
    if "signin" in units:
        return "sign-in", "sign_in"
    return "forgot", "forgot"


_FORMS: Mapping[str, str] = {
    "forgot": "pages",
    "sign-in": "signin",
    "sign-in/second": "signin",
    "sign-up": "signin",
    "sign-out": "signin",
    "prove": "signin",
    "check-mail": "signin",
    "sign-in/enrol": "signin",
    "sign-in/address": "signin",
    "devices": "account",
    "security": "account",
    "security/password": "account",
    "security/app": "account",
    "security/app/remove": "account",
    "security/codes": "account",
    "security/passkeys": "account",
}
"""The pages that can be opened again, since no link in a mail leads to them, and their units."""
_MAIL_PAGES = frozenset({"confirm", "reset", "undo", "disown", "invitation"})
