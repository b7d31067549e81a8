"""Composition: the only place where things are put together.

The service is the package installed into an empty application: `create_app` does nothing that an
importing application could not do with `AuthAPI`.
"""

import logging
import re
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from typing import cast

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount, Route

from authapi.errors import ConfigurationError
from authapi.services import Services
from authapi.services.scopes import existing_scopes
from authapi.settings import Settings, load_settings
from authapi.strategies.registry import Registry
from authapi.web import errors, openapi
from authapi.web.breaches import range_check
from authapi.web.context import Runtime
from authapi.web.cors import ProblemCORSMiddleware
from authapi.web.middleware import EdgeMiddleware
from authapi.web.routes import UNITS
from authapi.web.routes.health import metrics_of
from authapi.web.routing import OwnRoutes

_log = logging.getLogger("authapi")


class AuthAPI:
    """Authentication for one application.

        auth = AuthAPI()
        app = FastAPI(lifespan=auth.lifespan)
        auth.install(app)

    `settings` come from the environment unless given. Nothing is opened before the lifespan runs.
    Raises ConfigurationError for settings or strategies that do not fit.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()
        services = Services.build(self.settings, breached=range_check(self.settings))
        self.runtime = Runtime(services=services, registry=Registry.load(services))
        self._apps: list[FastAPI] = []
        self._mounted: list[FastAPI] = []

    def install(self, app: FastAPI, *, include: Collection[str] | None = None) -> None:
        """Add the edge, the error handlers, the OpenAPI security and the routes to `app`.

        `include` names the units of routes to add (`authapi.web.routes.UNITS`), by default all.
        `/docs` is left to an application that has a docs page of its own.
        """
        names = UNITS if include is None else include
        for name in names:
            if name not in UNITS:
                raise ConfigurationError(
                    f"there is no unit of routes {name!r}; there are {', '.join(UNITS)}"
                )
        if self.settings.allowed_origins:
            app.add_middleware(
                ProblemCORSMiddleware,
                allow_origins=self.settings.allowed_origins,
                allow_credentials=True,
                allow_methods=["GET", "POST", "PATCH", "DELETE"],
                allow_headers=["Authorization", "Content-Type", "If-Match", "If-None-Match"],
                expose_headers=["ETag", "Retry-After", "WWW-Authenticate", "X-Request-ID"],
            )
        units = {
            name: UNITS[name]
            for name in names
            if name != "docs" or (self.settings.docs_enabled and app.docs_url is None)
        }
        self.runtime.units.update(units)
        own = OwnRoutes(units.values(), max_body_bytes=self.settings.max_body_bytes)
        patterns = [cast("Route", route).path_regex for route in own.routes]
        if self.settings.metrics_path is not None:
            patterns.append(re.compile(re.escape(self.settings.metrics_path) + r"\Z"))
        app.add_middleware(EdgeMiddleware, runtime=self.runtime, own_paths=patterns)
        # A redirect for a trailing slash would be built from the Host header of a stranger.
        app.router.redirect_slashes = False
        errors.install(app)
        app.include_router(own)
        if self.settings.metrics_path is not None:
            app.add_route(self.settings.metrics_path, metrics_of, include_in_schema=False)
        openapi.install(app, self.runtime)
        self._apps.append(app)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Open what requests need, and close it after the last one.

        Raises ConfigurationError if a route asks for a strategy that there is not, or the database,
        data folder or keys cannot be used.
        """
        for installed in self._apps:
            self._check_routes(installed)
            for prefix, mounted in _mounted_below(installed):
                self._adopt(mounted)
                self._check_routes(mounted, prefix)
        services = self.runtime.services
        await services.start()
        try:
            yield
        finally:
            await services.stop()

    def _adopt(self, app: FastAPI) -> None:
        # A mounted application answers errors and describes itself on its own, so one whose routes
        # have gates learns both; one that has none is left as it is.
        gated = any(gates for _, gates in openapi.gated_routes(app))
        if gated and app not in self._apps and app not in self._mounted:
            self._mounted.append(app)
            errors.install(app)
            openapi.install(app, self.runtime)

    def _check_routes(self, app: FastAPI, prefix: str = "") -> None:
        for route, gates in openapi.gated_routes(app):
            path = f"{prefix}{route.path}"
            for gate in gates:
                try:
                    gate.bind(self.runtime)
                except ConfigurationError as error:
                    methods = " ".join(sorted(route.methods or {"WEBSOCKET"}))
                    raise ConfigurationError(f"{methods} {path}: {error}") from None
                for scope in gate.requirements.scopes:
                    if scope not in existing_scopes(self.settings):
                        _log.warning(
                            "%s asks for scope %r, which AUTHAPI_SCOPES does not have: "
                            "nobody can hold it",
                            path,
                            scope,
                        )


def _mounted_below(app: FastAPI, prefix: str = "") -> Iterator[tuple[str, FastAPI]]:
    """The applications mounted below `app`, at any depth, each with its path."""
    for context in iter_route_contexts(app.routes):
        mount = context.original_route
        if isinstance(mount, Mount) and isinstance(mount.app, FastAPI):
            path = f"{prefix}{mount.path}"
            yield path, mount.app
            yield from _mounted_below(mount.app, path)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service: an empty application with authapi installed."""
    return create_service(settings)[1]


def create_service(settings: Settings | None = None) -> tuple[AuthAPI, FastAPI]:
    """The same, and what is installed in it."""
    auth = AuthAPI(settings)
    app = FastAPI(
        title="authapi",
        summary="Authentication with cookie sessions, opaque tokens and JWT.",
        version="0.1.0",
        lifespan=auth.lifespan,
        openapi_url="/openapi.json" if auth.settings.docs_enabled else None,
        docs_url=None,
        redoc_url=None,
    )
    auth.install(app)
    return auth, app
