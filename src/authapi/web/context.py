"""The context of a request: its installation, its id, its caller and the results of authentication.

`RequestMiddleware` stores a `RequestContext` in `scope["authapi"]`. The resolver, the routes and
the error handlers read it there, also in mounted applications.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opentelemetry.trace import Span
from starlette.requests import HTTPConnection

from authapi.domain.identity import Identity
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


@dataclass(slots=True)
class Runtime:
    """One installation of authapi in one application."""

    settings: EdgeSettings
    """The settings that every installation has."""
    registry: Registry
    services_if_any: Services | None = None
    """None in a resource server (`authapi.verify`), which has no database."""
    bindings: dict[object, object] = field(default_factory=dict, repr=False)
    """The `Binding` of each gate in this installation. The resolver fills it."""
    units: set[str] = field(default_factory=set)
    """The names of the installed units of routes (`authapi.web.routes.units`)."""
    _expiry_watch: SessionWatch = field(default_factory=SessionWatch, repr=False)
    """The `session_watch` of a resource server."""

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
    outcomes: dict[str, Identity | InvalidCredential | None] = field(default_factory=dict)
    """The result of each strategy, so that several gates call each strategy once."""
    identity: Identity | None = None
    """The caller, once a gate has authenticated the request."""
    csrf_target: Identity | None = None
    """The account whose credential a browser attached to a request from a foreign origin. The
    request is refused, so `identity` stays None; the event of the refusal names this account."""
    discards: tuple[tuple[str, str], ...] = ()
    """Response headers that make the client delete a credential that has ended."""
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

    def discard(self, identity: Identity) -> None:
        """Makes the client delete the credential of `identity`, which this request has ended."""
        if identity.strategy in self.runtime.registry:
            self.discards = self.runtime.registry[identity.strategy].discard()


def context_of(connection: HTTPConnection) -> RequestContext:
    """Returns the context of a request. Raises RuntimeError if authapi is not installed."""
    context = connection.scope.get(SCOPE_KEY)
    if not isinstance(context, RequestContext):
        raise RuntimeError("authapi is not installed: call AuthAPI().install(app)")
    return context
