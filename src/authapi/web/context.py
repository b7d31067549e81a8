"""The context of a request: its installation, its id, its caller and the results of authentication.

`RequestMiddleware` stores a `RequestContext` in `scope["authapi"]`. The resolver, the routes and
the error handlers read it there, also in mounted applications. For a route of an application in
which authapi is a guest, `GuestMiddleware` stores a `Visit` instead, which creates the context when
a gate asks for it.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from opentelemetry.trace import Span
from starlette.requests import HTTPConnection
from starlette.types import Scope

from authapi.domain.client import Client, Peer
from authapi.domain.federation.providers import NoProviders, Providers
from authapi.domain.identity import Identity
from authapi.domain.monitoring.findings import Report
from authapi.errors import InvalidCredential
from authapi.services import Services
from authapi.services.sessions.liveness import CheckedIdentity
from authapi.services.sessions.watch import SessionWatch
from authapi.settings import EdgeSettings
from authapi.strategies.base import Challenge
from authapi.strategies.registry import Registry
from authapi.web.answers.open_socket import OpenSocket

if TYPE_CHECKING:
    from authapi.services.metrics import Metrics

SCOPE_KEY = "authapi"


@dataclass(slots=True, weakref_slot=True)
class Runtime:
    """One installation of authapi in one application."""

    settings: EdgeSettings
    """The settings that every installation has."""
    registry: Registry
    services_if_any: Services | None = None
    """None in a resource server (`authapi.verify`), which has no database."""
    diagnose: Callable[[], Awaitable[Report]] | None = field(default=None, repr=False)
    """Checks the installation, within a bound of time. None in a resource server."""
    bindings: dict[object, object] = field(default_factory=dict, repr=False)
    """The `Binding` of each gate in this installation. The resolver fills it."""
    units: set[str] = field(default_factory=set)
    """The names of the installed units of routes (`authapi.web.routes.units`)."""
    site: object = field(default=None, repr=False)
    """The `Site` of the pages. `web.pages.site` creates it at the first use."""
    upstreams: Providers = field(default_factory=NoProviders, repr=False)
    """The providers at which people log in, by their names in the settings."""
    _expiry_watch: SessionWatch = field(default_factory=SessionWatch, repr=False)
    """The `session_watch` of a resource server."""
    is_started: bool = False
    """Whether the lifespan of the application has started the strategies."""

    @property
    def services(self) -> Services:
        """The services of this installation. Raises RuntimeError in a resource server."""
        if self.services_if_any is None:
            raise RuntimeError("this application is a resource server: it has no services")
        return self.services_if_any

    @property
    def session_watch(self) -> SessionWatch:
        """The open connections of this application that end with their session."""
        if self.services_if_any is None:
            return self._expiry_watch
        return self.services_if_any.session_watch

    def is_account(self, identity: Identity) -> bool:
        """Whether the user of this caller is an account of this service."""
        if self.services_if_any is None:
            return False
        name = identity.strategy
        return name not in self.registry or self.registry[name].users_are_accounts

    @property
    def metrics(self) -> "Metrics | None":
        """The Prometheus metrics, or None if they are disabled."""
        return None if self.services_if_any is None else self.services_if_any.metrics

    async def record_access_refused(self, code: str, identity: Identity | None) -> None:
        """Records the event `access_refused`, unless this is a resource server."""
        if self.services_if_any is not None:
            await self.services_if_any.audit.record_access_refused(code, identity)


@dataclass(slots=True)
class RequestContext:
    """The state of one request."""

    runtime: Runtime
    request_id: str
    own_path: str | None = None
    """The path of the request if a route of authapi answers it; None for other routes."""
    outcomes: dict[str, Identity | InvalidCredential | None] = field(default_factory=dict)
    """The result of each strategy, so that several gates call each strategy once."""
    identity: Identity | None = None
    """The caller, once a gate has authenticated the request."""
    csrf_target: Identity | None = None
    """The account whose credential a browser attached to a request from a foreign origin. The
    request is refused, so `identity` stays None; the event of the refusal names this account."""
    discards: tuple[tuple[str, str], ...] = ()
    """Response headers that make the client delete a credential that has ended, or keep the one
    that has replaced it."""
    span: Span | None = None
    """FastAPI's OpenTelemetry span of this request, if there is one."""
    is_accepted: bool = False
    """Whether this is a WebSocket after its handshake was accepted."""
    socket: OpenSocket | None = None
    """The WebSocket of this request; None for HTTP."""
    checked: CheckedIdentity | None = None
    """The last result of `identity_is_live`."""
    challenges: tuple[Challenge, ...] | None = None
    """The challenges for a 401 or 403 response; None before a gate has set them."""
    check_headers: Callable[[Scope], None] | None = None
    """Raises the refusal of headers that a gate must not read; None if they are checked already."""
    is_gated: bool = False
    """Whether a gate has looked for a caller: the response depends on the credential."""
    is_private: bool = False
    """Whether a gate has found or refused a caller: the response is for this client only."""
    counted: frozenset[str] = frozenset()
    """The strategies that were asked before the body, and are asked again after it."""

    def discard(self, identity: Identity) -> None:
        """Makes the client delete the credential of `identity`, which this request has ended."""
        if identity.strategy in self.runtime.registry:
            self.discards = self.runtime.registry[identity.strategy].discard()


class Guest(Protocol):
    """Where authapi is installed as a guest (`GuestMiddleware`)."""

    @property
    def new_request_id(self) -> Callable[[], str]:
        """Returns a new request id."""

    def create_context(self, scope: Scope, request_id: str) -> RequestContext:
        """Returns the context of a request."""

    def read_client(
        self,
        headers: Iterable[tuple[bytes, bytes]],
        peer: Peer | None,
        *,
        request_id: str,
    ) -> Client:
        """Returns the client of a request."""


class Visit:
    """A request for a route of an application in which authapi is a guest.

    Its context is created at the first use, because most requests need none.
    """

    # Every request of the application has one: without a constructor, which would be a call, and
    # with slots. It does not refer to the scope. That would be a cycle for the garbage collector;
    # and timers of a server keep the context variables of a request, which lead to the visit,
    # beyond its end.
    __slots__ = ("_request_id", "context", "guest", "headers", "peer")

    guest: "Guest"
    headers: Iterable[tuple[bytes, bytes]]
    """The headers of the request."""
    peer: Peer | None
    context: RequestContext | None
    """None until the first use."""
    _request_id: str

    def open(self, scope: Scope) -> RequestContext:
        """Returns the context of the request."""
        if self.context is None:
            self.context = self.guest.create_context(scope, self.request_id())
        return self.context

    def request_id(self) -> str:
        """Returns the id of the request, which the first call assigns."""
        try:
            return self._request_id
        except AttributeError:
            self._request_id = self.guest.new_request_id()
            return self._request_id

    def __call__(self) -> Client:
        """Returns the client of the request, also after its end."""
        return self.guest.read_client(self.headers, self.peer, request_id=self.request_id())


class VisitByWebSocket(Visit):
    """A WebSocket at a route of the application."""

    __slots__ = ("is_accepted", "socket")

    is_accepted: bool
    """Whether its handshake was accepted."""
    socket: OpenSocket

    def open(self, scope: Scope) -> RequestContext:
        """Returns the context of the connection."""
        context = super().open(scope)
        context.is_accepted, context.socket = self.is_accepted, self.socket
        return context


NOT_INSTALLED = "authapi is not installed in this application: call AuthAPI().install(app)"
NOT_STARTED = "authapi is not started: create the application with FastAPI(lifespan=auth.lifespan)"


def context_of(connection: HTTPConnection) -> RequestContext:
    """Returns the context of a request. Raises RuntimeError if authapi is not installed."""
    found = connection.scope.get(SCOPE_KEY)
    if isinstance(found, RequestContext):
        return found
    if isinstance(found, Visit):
        return found.open(connection.scope)
    raise RuntimeError(NOT_INSTALLED)


def disabled_members(scope: Scope) -> frozenset[str]:
    """Returns the members of bodies that the settings do not allow, for a route of authapi."""
    services = context_of(HTTPConnection(scope)).runtime.services_if_any
    has_names = services is None or services.settings.login_identifier != "email"
    return frozenset() if has_names or not is_for_own_path(scope) else frozenset({"username"})


def is_for_own_path(scope: Scope) -> bool:
    """Whether a route of authapi answers this request.

    False for another path than that of the request: Starlette asks whether to redirect to a path
    with or without a slash.
    """
    context = scope.get(SCOPE_KEY)
    return isinstance(context, RequestContext) and context.own_path == scope["path"]
