"""What a request carries along: the installation that it runs in, its id, and who it comes from.

`EdgeMiddleware` puts a `RequestContext` into `scope["authapi"]`, where the resolver, the routes and
the error handlers find it, also in mounted applications.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opentelemetry.trace import Span
from starlette.requests import HTTPConnection

from authapi.errors import InvalidCredential
from authapi.identity import Identity
from authapi.services import Services
from authapi.settings import EdgeSettings
from authapi.strategies.base import Challenge
from authapi.strategies.registry import Registry

if TYPE_CHECKING:
    from authapi.services.metrics import Metrics

SCOPE_KEY = "authapi"


@dataclass(slots=True)
class Runtime:
    """One installation of authapi in one application."""

    settings: EdgeSettings
    """What the operator decided, as far as every installation has it."""
    registry: Registry
    services_if_any: Services | None = None
    """None in a service that only trusts others (`authapi.verify`): it has no database."""
    bindings: dict[object, object] = field(default_factory=dict, repr=False)
    """Gates by what they stand for here; filled by the resolver."""
    units: set[str] = field(default_factory=set)
    """Names of the units of routes that are installed (`authapi.web.routes.UNITS`)."""

    @property
    def services(self) -> Services:
        """What routes of ours stand on. Raises RuntimeError where there are none."""
        if self.services_if_any is None:
            raise RuntimeError("this application has no services: it only trusts others")
        return self.services_if_any

    @property
    def metrics(self) -> "Metrics | None":
        """Counts for Prometheus, if anybody wants them."""
        return None if self.services_if_any is None else self.services_if_any.metrics

    async def access_refused(self, code: str, identity: Identity | None) -> None:
        """Write a refusal down where there are events; the log hears of it in any case."""
        if self.services_if_any is not None:
            await self.services_if_any.audit.access_refused(code, identity)


@dataclass(slots=True)
class RequestContext:
    """One request."""

    runtime: Runtime
    request_id: str
    outcomes: dict[str, Identity | InvalidCredential | None] = field(default_factory=dict)
    """What each strategy answered, so that none is asked twice."""
    identity: Identity | None = None
    """Who is calling, once a gate has found out."""
    misused: Identity | None = None
    """Whose credential a browser added for a page that has no business with us. Nobody is served as
    them; the event of the refusal names them, as it is they who were attacked."""
    discards: tuple[tuple[str, str], ...] = ()
    """Response headers by which the client drops what it presented, and what is dead."""
    span: Span | None = None
    """FastAPI's OpenTelemetry span of this request, if there is one."""
    is_accepted: bool = False
    """Whether this is a WebSocket whose handshake is accepted."""
    challenges: tuple[Challenge, ...] | None = None
    """What a 401 or 403 of this request has to say in `WWW-Authenticate`."""

    def discard(self, identity: Identity) -> None:
        """Have the client drop the credential of `identity`, which this request has ended."""
        if identity.strategy in self.runtime.registry:
            self.discards = self.runtime.registry[identity.strategy].discard()


def context_of(connection: HTTPConnection) -> RequestContext:
    """The context of this request. Raises RuntimeError in an application without authapi."""
    context = connection.scope.get(SCOPE_KEY)
    if not isinstance(context, RequestContext):
        raise RuntimeError("this application has no authapi: call AuthAPI().install(app)")
    return context
