"""Addresses of pages: relative to the request, so that they hold behind a proxy and a prefix."""

from collections.abc import Mapping
from urllib.parse import quote, urlencode, urlsplit

from starlette._utils import get_route_path
from starlette.requests import HTTPConnection
from starlette.types import Scope

from authapi.web.answers.route_ownership import WITH_PROVIDERS, path_below
from authapi.web.context import context_of
from authapi.web.pages.next import safe_next

PREFIX = "/account"
"""The path of the pages for all people, below the prefix of authapi."""
CALLBACKS = WITH_PROVIDERS
"""The beginning of the paths to which providers lead back, below the prefix of authapi."""
CONSOLE = "/console"
"""The path of the pages for superusers."""


def base_of(scope: Scope, prefix: str) -> str:
    """The folder of the pages for all people, relative to the URL of the request.

    A relative URL is correct also if a proxy has removed the beginning of the path.
    """
    depth = _depth(scope, prefix)
    if depth == 0 or is_of_console(scope, prefix) or _is_callback(scope, prefix):
        return "../" * depth + f"{PREFIX[1:]}/"
    return "../" * (depth - 1)


def is_of_console(scope: Scope, prefix: str) -> bool:
    """Whether the path of the request is that of the console, or below it."""
    own = path_below(prefix, get_route_path(scope)) or ""
    return own == CONSOLE or own.startswith(f"{CONSOLE}/")


def _is_callback(scope: Scope, prefix: str) -> bool:
    """Whether a provider leads back to the path of the request."""
    return (path_below(prefix, get_route_path(scope)) or "").startswith(CALLBACKS)


def page(connection: HTTPConnection, name: str, **query: str | None) -> str:
    """Returns the address of the page `name`, relative to the request.

    `query` are its parameters; those that are None or empty are left out.
    """
    scope, settings = connection.scope, context_of(connection).runtime.settings
    path = base_of(scope, settings.prefix) + name if name else f"{_above(connection)}{PREFIX[1:]}"
    return with_query(path, query)


def console(connection: HTTPConnection, name: str = "", **query: str | None) -> str:
    """Returns the address of the page `name` of the console, as `page` does."""
    path = console_folder(connection) + name if name else f"{_above(connection)}{CONSOLE[1:]}"
    return with_query(path, query)


def console_folder(connection: HTTPConnection) -> str:
    """Returns the folder of the pages of the console, relative to the request."""
    scope, prefix = connection.scope, context_of(connection).runtime.settings.prefix
    depth = _depth(scope, prefix)
    if depth and is_of_console(scope, prefix):
        return "../" * (depth - 1)
    return f"{_above(connection)}{CONSOLE[1:]}/"


def home(connection: HTTPConnection) -> str:
    """Returns where a sign-in leads that names no page, and the name of the service on pages."""
    runtime = context_of(connection).runtime
    configured: str | None = runtime.services.settings.home_url
    if configured is not None:
        return configured
    if "account" in runtime.units:
        return page(connection, "")
    # The root of the application.
    return _above(connection) + "../" * runtime.settings.prefix.count("/")


def sign_in(connection: HTTPConnection, **query: str | None) -> str | None:
    """Returns the address of the page to sign in; None if there is none.

    A page of the application gets no `query`.
    """
    runtime = context_of(connection).runtime
    if "signin" in runtime.units:
        return page(connection, "sign-in", **query)
    link: str | None = runtime.services.settings.sign_in_link
    return link


def wanted(connection: HTTPConnection, text: str | None) -> str | None:
    """Returns the address to which a sign-in may lead, if `text` is one (`web.pages.next`)."""
    settings = context_of(connection).runtime.services.settings
    return safe_next(text, (*settings.allowed_return_origins, _own_origin(settings.base_url)))


def visible_path(connection: HTTPConnection, own: str | None = None) -> str:
    """Returns a path as the browser shows it: `own`, a path of authapi; by default the requested.

    A proxy may have removed the beginning of the path, which the public URL has.
    """
    settings, scope = context_of(connection).runtime.settings, connection.scope
    below = path_below(settings.prefix, get_route_path(scope)) or ""
    path: str = scope["path"]
    above = path.removesuffix(below) if settings.public_url is None else _path(settings.issuer)
    return quote(above + (below if own is None else own))


def _above(connection: HTTPConnection) -> str:
    """Returns the folder of `/account`, relative to the request."""
    return "../" * _depth(connection.scope, context_of(connection).runtime.settings.prefix) or "./"


def _depth(scope: Scope, prefix: str) -> int:
    """Returns the number of folders between the prefix of authapi and the requested page."""
    path: str = scope["path"]
    raw: bytes = scope.get("raw_path") or quote(path).encode()
    # Browsers do not treat %2F as a slash, but `path` contains it decoded.
    above = path.count("/") - get_route_path(scope).count("/") + prefix.count("/")
    return raw.count(b"/") - above - 1


def with_query(path: str, query: Mapping[str, str | None]) -> str:
    """Returns `path` with those parameters that are neither None nor empty."""
    given = {key: value for key, value in query.items() if value}
    return f"{path}?{urlencode(given)}" if given else path


def _own_origin(base_url: str) -> str:
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc}"


def _path(url: str) -> str:
    return urlsplit(url).path
