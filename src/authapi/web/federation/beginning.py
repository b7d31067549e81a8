"""Begins a visit to a provider, for a request of an own or allowed page."""

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request

from authapi.domain.client import current_client
from authapi.domain.federation.upstream import Upstream
from authapi.errors import ForeignOrigin, InputError, InvalidInput, ProviderUnknown, Unavailable
from authapi.strategies.base import read_header
from authapi.web.context import Runtime, context_of
from authapi.web.federation.flows import FlowStart, Headers, keep_flow, new_flow
from authapi.web.pages import addresses

_OWN_SITES = frozenset({"same-origin", "none"})


def upstream_of(runtime: Runtime, name: str) -> Upstream:
    """Returns the provider `name`. Raises ProviderUnknown."""
    try:
        return runtime.upstreams[name]
    except KeyError:
        raise ProviderUnknown from None


def check_own_link(connection: HTTPConnection) -> None:
    """Raises ForeignOrigin unless an own page, or the address bar, has caused a GET request.

    A link of a foreign page could log its visitor in to the account of an attacker. A GET request
    has no `Origin`. Browsers that do not send `Sec-Fetch-Site`, as over plain HTTP, send a
    `Referer`, which a foreign page can leave out, but not forge.
    """
    site = read_header(connection, b"sec-fetch-site")
    if site is not None:
        if site not in _OWN_SITES:
            raise ForeignOrigin
        return
    try:
        found = urlsplit(read_header(connection, b"referer") or "")
    except ValueError:
        raise ForeignOrigin from None
    own = urlsplit(context_of(connection).runtime.settings.base_url)
    if (found.scheme, found.netloc) != (own.scheme, own.netloc):
        raise ForeignOrigin


def parse_continue(connection: HTTPConnection, text: str | None) -> str | None:
    """Returns where a login may lead. Raises InvalidInput for any other text."""
    if not text:
        return None
    if (found := addresses.wanted(connection, text)) is None:
        message = "must be a path of this host, or a URL of an origin in AUTHAPI_RETURN_ORIGINS"
        raise InvalidInput(InputError(("body", "continue"), "continue_invalid", message))
    return found


async def begin(
    request: Request, start: FlowStart, *, hint: str | None = None
) -> tuple[str, Headers]:
    """Returns the address at the provider, and the headers that keep the flow in the browser.

    Raises ProviderUnknown, ProviderUnavailable, TooManyAttempts, and InvalidInput if `continue` is
    too long for a cookie.
    """
    runtime = context_of(request).runtime
    upstream = upstream_of(runtime, start.provider)
    await runtime.services.rate_limits.consume_visit(current_client())
    flow = new_flow(start)
    headers = keep_flow(request, flow)
    uri = runtime.upstreams.redirect_uri(upstream.name)
    try:
        url = await upstream.authorization_url(flow, redirect_uri=uri, hint=hint)
    except Unavailable as error:
        count(runtime, upstream.name, getattr(error, "code", "other"))
        raise
    count(runtime, upstream.name, "started")
    return url, headers


def count(runtime: Runtime, provider: str, outcome: str) -> None:
    """Counts the outcome of a step of a login. `provider` is a name of the settings."""
    if runtime.metrics is not None:
        runtime.metrics.count_federated(provider, outcome)
