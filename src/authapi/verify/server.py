"""Composition of a resource server: strategies, dependencies and middleware, without services."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI

from authapi.errors import ConfigurationError
from authapi.settings import EdgeSettings, load_edge_settings, warn_unknown_settings
from authapi.strategies.base import Strategy
from authapi.strategies.registry import Registry
from authapi.verify.introspection import RemoteIntrospection
from authapi.verify.jwt import RemoteJWT
from authapi.verify.several_issuers import with_others
from authapi.web.challenges import RESOURCE_METADATA
from authapi.web.context import Runtime
from authapi.web.installation import Installation, select_units
from authapi.web.routes import docs
from authapi.web.routes.health import live
from authapi.web.routes.oauth.well_known import add_resource_metadata
from authapi.web.routing import AuthAPIRoute

_health = APIRouter(route_class=AuthAPIRoute, tags=["health"])
# Liveness only: an unavailable issuer is unavailable for every instance, so a readiness check would
# take all of them out of the load balancer.
_health.add_api_route("/health/live", live, methods=["GET"])

_metadata = APIRouter(route_class=AuthAPIRoute, tags=["metadata"])
add_resource_metadata(_metadata, RESOURCE_METADATA)

UNITS: Mapping[str, APIRouter] = {
    "health": _health,
    "well_known": _metadata,
    "docs": docs.router,
}


class ResourceServer:
    """Authentication for an application that accepts the tokens of other issuers.

        auth = ResourceServer(RemoteJWT(issuer="https://auth.example.com", audience="orders"))
        app = FastAPI(lifespan=auth.lifespan)
        auth.install(app)

    The strategies are tried in this order; `current_user("name")` selects one by name. Settings are
    read from the environment unless given. Raises ConfigurationError if a setting is invalid, or
    two strategies have the same name or could give two users the same id.
    """

    def __init__(self, *strategies: Strategy[Any], settings: EdgeSettings | None = None) -> None:
        if not strategies:
            raise ConfigurationError("a resource server needs at least one strategy")
        self.settings = (settings or load_edge_settings()).model_copy()
        self.settings.set_prefix("")  # `install` sets that of this installation
        self.runtime = Runtime(self.settings, Registry(with_others(strategies)))
        self._installation = Installation(self.runtime)
        _check_subjects(strategies)

    def install(
        self,
        app: FastAPI,
        *,
        prefix: str = "",
        include: Collection[str] | None = None,
        governs_app: bool = False,
    ) -> None:
        """Adds the built-in routes, their layers and the OpenAPI security to `app`.

        `prefix` is the path of the routes, but for the metadata of the resource. `include` selects
        units of routes by name (`authapi.verify.server.UNITS`), by default all. `/docs` is not
        added to an application that has its own docs page. Other routes of `app` stay as they are,
        unless they have a gate. With `governs_app`, the headers, limits, CORS rules and error
        responses of authapi are for every path of `app`. Raises ConfigurationError if `include`
        names an unknown unit, if authapi is installed in `app` already, or as `AuthAPI.install` for
        `prefix`.
        """
        units = select_units(UNITS, include, app, self.settings)
        self._installation.install(app, units, prefix=prefix, governs_app=governs_app)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Starts the strategies, and stops them after the last request.

        An unavailable issuer is no error. Raises ConfigurationError if a route requires an unknown
        strategy or scope, if `app` has a gate where authapi is not installed, or if the metadata of
        an issuer belongs to another issuer.
        """
        self._installation.check(app)
        warn_unknown_settings(type(self.settings))
        async with self._installation.started():
            yield


def _check_subjects(strategies: Collection[Strategy[Any]]) -> None:
    # Two issuers could give the same id to two users (OWASP ASVS 6.8.1).
    issuers = {
        strategy.issuer or strategy.name  # an unnamed issuer counts as a separate one
        for strategy in strategies
        if isinstance(strategy, RemoteJWT | RemoteIntrospection) and strategy.subjects_are_ids
    }
    if len(issuers) > 1:
        raise ConfigurationError(
            "only one issuer may provide user ids: set the issuer of every strategy, and "
            "subjects_are_ids=False for all but one"
        )
