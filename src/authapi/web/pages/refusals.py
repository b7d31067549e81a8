"""Refusals of the form pages as pages.

A person who meets an error below /account has a browser, and a problem document tells them nothing.
`web.errors` makes the document of each error and asks here whether its reader wants a page.
"""

from collections.abc import Mapping
from urllib.parse import quote

from fastapi.routing import iter_route_contexts
from starlette._utils import get_route_path
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Scope

from authapi.web.context import context_of
from authapi.web.pages.rendering import Way, html, wording_for

PREFIX = "/account"

_HTML = frozenset({"text/html", "application/xhtml+xml", "text/*", "*/*"})
_MAX_ACCEPT = 1000
_OF_ADDRESS = frozenset({"foreign_origin", "https_required"})
_OF_DOCUMENT = frozenset({"content-type", "content-length"})
_TEXT_OF: Mapping[int, str] = {
    408: "request_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "too_many_attempts",
    431: "headers_too_large",
}
"""For codes without a text of their own, such as those that the framework's errors give."""


def wants_page(scope: Scope) -> bool:
    """Whether the answer to an error of this request is read by a person, on the form pages.

    True for /account and what is below it, as far as this application has the pages there and no
    route of its own, unless `Accept` names no media type of HTML. Browsers that open or submit
    something send `text/html`; a client that accepts JSON only gets the problem document.
    """
    path = get_route_path(scope)
    if path != PREFIX and not path.startswith(f"{PREFIX}/"):
        return False
    return _is_of_pages(scope, path) and _accepts_html(scope)


def page_of(document: Response, code: str, scope: Scope) -> Response:
    """The page that says what `document` says, with its status and headers.

    `document` is the problem document of an error with this `code`. Nothing of the request is
    repeated.
    """
    connection, status = HTTPConnection(scope), document.status_code
    wording = wording_for(connection)
    text = code
    if not wording.knows(code):
        text = _TEXT_OF.get(status, "other" if status >= 500 else "refused")
    base = _way_to_pages(scope)
    page = html(
        wording,
        status,
        title=wording.say("not_found.title" if code == "not_found" else "error"),
        base=base,
        error=wording.say(text),
        way=_way_on(code, base, connection),
        # The log has the reason under this number.
        reference=context_of(connection).request_id if status >= 500 else None,
    )
    for name, value in document.headers.items():
        if name not in _OF_DOCUMENT:
            page.headers.append(name, value)
    return page


def _is_of_pages(scope: Scope, path: str) -> bool:
    chosen, installed, taken = scope.get("endpoint"), False, False
    for route in iter_route_contexts(getattr(scope.get("app"), "routes", ())):
        endpoint, pattern = getattr(route, "endpoint", None), getattr(route, "path_regex", None)
        ours = _is_ours(endpoint)
        if endpoint is not None and endpoint is chosen:
            return ours
        installed = installed or ours
        taken = taken or (not ours and pattern is not None and bool(pattern.match(path)))
    # No route was chosen: there is none, or the request was refused before.
    return installed and not taken


def _is_ours(endpoint: object) -> bool:
    return str(getattr(endpoint, "__module__", None)).startswith(f"{__package__}.")


def _accepts_html(scope: Scope) -> bool:
    # RFC 9110, section 12.5.1. Without the header, anything is accepted.
    values = [value for name, value in scope["headers"] if name == b"accept"]
    ranges = b",".join(values)[:_MAX_ACCEPT].decode("latin-1").lower().split(",")
    named = [item.partition(";") for item in ranges if item.strip()]
    return not named or any(
        media.strip() in _HTML and not _is_zero(parameters) for media, _, parameters in named
    )


def _is_zero(parameters: str) -> bool:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return value.strip() in ("0", "0.", "0.0", "0.00", "0.000")
    return False


def _way_on(code: str, base: str, connection: HTTPConnection) -> Way:
    public = context_of(connection).runtime.settings.public_url
    # A form under another address than the public one would be refused again.
    target = f"{public}{PREFIX}/" if public is not None and code in _OF_ADDRESS else base
    is_there = get_route_path(connection.scope) == f"{PREFIX}/forgot"
    return Way(f"{target}forgot", "again" if is_there else "to_reset")


def _way_to_pages(scope: Scope) -> str:
    """The folder of the pages, relative to the address that the browser has asked for.

    Relative, so that it holds below any prefix, whether the application knows of it or not.
    """
    path: str = scope["path"]
    raw: bytes = scope.get("raw_path") or quote(path).encode()
    # A %2F is no slash to a browser, though it is one in `path`.
    prefix = path.count("/") - get_route_path(scope).count("/")
    return "../" * (raw.count(b"/") - prefix - 1) + f"{PREFIX[1:]}/"
