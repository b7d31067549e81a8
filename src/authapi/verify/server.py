"""Composition of a service that only trusts: strategies, gates and the edge, and nothing below."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from authapi.errors import ConfigurationError
from authapi.settings import EdgeSettings, load_edge_settings, warn_of_unknown_settings
from authapi.strategies.base import Strategy
from authapi.strategies.registry import Registry
from authapi.verify.introspection import RemoteIntrospection
from authapi.verify.jwt import RemoteJWT
from authapi.web.challenges import RESOURCE_METADATA
from authapi.web.context import Runtime
from authapi.web.installation import Installation, chosen
from authapi.web.routes import docs
from authapi.web.routes.health import live
from authapi.web.routes.oauth.well_known import add_resource_metadata
from authapi.web.routing import AuthAPIRoute

_health = APIRouter(route_class=AuthAPIRoute, tags=["health"])
# Alive, and no more: an issuer that is away is no reason to take requests elsewhere, where it is
# away as well.
_health.add_api_route("/health/live", live, methods=["GET"])

_metadata = APIRouter(route_class=AuthAPIRoute, tags=["metadata"])
add_resource_metadata(_metadata, RESOURCE_METADATA)

UNITS: Mapping[str, APIRouter] = {
    "health": _health,
    "well_known": _metadata,
    "docs": docs.router,
}


class ResourceServer:
    """Authentication for an application whose callers are known to somebody else.

        auth = ResourceServer(RemoteJWT(issuer="https://auth.example.com", audience="orders"))
        app = FastAPI(lifespan=auth.lifespan)
        auth.install(app)

    `strategies` are asked in this order, and are what `current_user("name")` names. `settings` come
    from the environment unless given. Raises ConfigurationError for settings or strategies that do
    not fit.
    """

    def __init__(self, *strategies: Strategy, settings: EdgeSettings | None = None) -> None:
        if not strategies:
            raise ConfigurationError("a resource server needs a strategy to recognise callers by")
        self.settings = settings or load_edge_settings()
        self.runtime = Runtime(self.settings, Registry(strategies))
        self._installation = Installation(self.runtime)
        _check_subjects(strategies)
        remote = [strategy for strategy in strategies if isinstance(strategy, RemoteJWT)]
        for strategy in remote:
            strategy.stand_beside(other for other in remote if other is not strategy)
            strategy.limit(self.settings.max_credential_bytes)

    def install(self, app: FastAPI, *, include: Collection[str] | None = None) -> None:
        """Add the edge, the error handlers, the OpenAPI security and our few routes to `app`.

        `include` names the units of routes to add (`authapi.verify.server.UNITS`), by default all.
        `/docs` is left to an application that has a docs page of its own.
        """
        self._installation.install(app, chosen(UNITS, include, app, self.settings))

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Look for the issuers, which may be away; close the connections after the last request.

        Raises ConfigurationError if a route asks for a strategy that there is not, or another
        issuer answers in place of one.
        """
        self._installation.check()
        warn_of_unknown_settings(type(self.settings))
        async with self._installation.started():
            yield


def _check_subjects(strategies: Collection[Strategy]) -> None:
    # Two issuers could call two people by one id (OWASP ASVS 6.8.1).
    issuers = {
        strategy.issuer or strategy.name  # one that is not named may be any
        for strategy in strategies
        if isinstance(strategy, RemoteJWT | RemoteIntrospection) and strategy.subjects_are_ids
    }
    if len(issuers) > 1:
        raise ConfigurationError(
            "only one issuer may give ids of users: name the issuer of every strategy, and set "
            "subjects_are_ids=False for the others"
        )
