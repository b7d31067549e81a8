"""What every application with authapi gets, whether it issues credentials or only trusts them.

The edge around it, errors as problem documents, the security of its routes in the OpenAPI document;
and before the first request, a look at what its gates ask for, in mounted applications too.
"""

import logging
import re
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from authapi.errors import ConfigurationError
from authapi.services.background.closing import close_after_failure, close_all
from authapi.services.scopes import existing_scopes
from authapi.settings import EdgeSettings
from authapi.strategies.base import Strategy
from authapi.web import errors, openapi
from authapi.web.context import Runtime
from authapi.web.edge.cors import ProblemCORSMiddleware
from authapi.web.edge.middleware import EdgeMiddleware
from authapi.web.edge.outer import OuterEdge
from authapi.web.routing import OwnRoutes

_log = logging.getLogger("authapi")


class Installation:
    """One `Runtime` in the applications that it is installed into."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._apps: list[FastAPI] = []
        self._mounted: list[FastAPI] = []

    def install(
        self, app: FastAPI, units: Mapping[str, APIRouter], *, other_paths: Iterable[str] = ()
    ) -> None:
        """Add the edge, the error handlers, the OpenAPI security and the routes of `units`.

        `other_paths` are ours as well, and added by somebody else.
        """
        settings = self._runtime.settings
        if settings.allowed_origins:
            app.add_middleware(
                ProblemCORSMiddleware,
                allow_origins=settings.allowed_origins,
                allow_credentials=True,
                allow_methods=["GET", "POST", "PATCH", "DELETE"],
                allow_headers=["Authorization", "Content-Type", "If-Match", "If-None-Match"],
                expose_headers=["ETag", "Retry-After", "WWW-Authenticate", "X-Request-ID"],
            )
        self._runtime.units.update(units)
        own = OwnRoutes(units.values(), max_body_bytes=settings.max_body_bytes)
        patterns = [cast("Route", route).path_regex for route in own.routes]
        patterns += [re.compile(re.escape(path) + r"\Z") for path in other_paths]
        app.add_middleware(EdgeMiddleware, runtime=self._runtime, own_paths=patterns)
        _surround(app, has_documents="well_known" in units)
        # A redirect for a trailing slash would be built from the Host header of a stranger.
        app.router.redirect_slashes = False
        errors.install(app)
        app.include_router(own)
        openapi.install(app, self._runtime)
        self._apps.append(app)

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Inside, the strategies are started.

        Raises ConfigurationError if one cannot be; those before it are stopped then.
        """
        begun: list[Strategy] = []
        try:
            for strategy in self._runtime.registry:
                begun.insert(0, strategy)  # what has begun to open is closed as well
                await strategy.start()
            yield
        except BaseException:
            await close_after_failure(partial(_stop, begun))
            raise
        await _stop(begun)

    def check(self) -> None:
        """Bind the gates of all routes, and adopt mounted applications that have some.

        Raises ConfigurationError if a route asks for a strategy that there is not.
        """
        for installed in self._apps:
            self._check_routes(installed)
            for prefix, mounted in _mounted_below(installed):
                self._adopt(mounted)
                self._check_routes(mounted, prefix)

    def _adopt(self, app: FastAPI) -> None:
        # A mounted application answers errors and describes itself on its own, so one whose routes
        # have gates learns both; one that has none is left as it is.
        gated = any(gates for _, gates in openapi.gated_routes(app))
        if gated and app not in self._apps and app not in self._mounted:
            self._mounted.append(app)
            errors.install(app)
            openapi.install(app, self._runtime)

    def _check_routes(self, app: FastAPI, prefix: str = "") -> None:
        for route, gates in openapi.gated_routes(app):
            path = f"{prefix}{route.path}"
            for gate in gates:
                try:
                    gate.bind(self._runtime)
                except ConfigurationError as error:
                    methods = " ".join(sorted(route.methods or {"WEBSOCKET"}))
                    raise ConfigurationError(f"{methods} {path}: {error}") from None
                self._check_scopes(gate.requirements.scopes, path)

    def _check_scopes(self, scopes: Iterable[str], path: str) -> None:
        known = existing_scopes(self._runtime.settings)
        if not self._runtime.settings.scopes and self._runtime.services_if_any is None:
            return  # the issuer knows which there are
        for scope in scopes:
            if scope not in known:
                _log.warning(
                    "%s asks for scope %r, which AUTHAPI_SCOPES does not have: nobody can hold it",
                    path,
                    scope,
                )


async def _stop(strategies: Iterable[Strategy]) -> None:
    await close_all(*(strategy.stop for strategy in strategies))


def _surround(app: FastAPI, *, has_documents: bool) -> None:
    # `add_middleware` would not do: what the application adds later stands outside, and Starlette's
    # own answer to an exception in all cases.
    build = app.build_middleware_stack

    def surrounded() -> ASGIApp:
        return OuterEdge(build(), publishes=has_documents)

    app.build_middleware_stack = surrounded  # type: ignore[method-assign]  # there is no other way out


def chosen(
    units: Mapping[str, APIRouter],
    include: Collection[str] | None,
    app: FastAPI,
    settings: EdgeSettings,
) -> Mapping[str, APIRouter]:
    """Those of `units` that `include` names, None meaning all.

    `docs` is left to an application that has a docs page of its own. Raises ConfigurationError for
    a name that there is not.
    """
    names = units if include is None else include
    for name in names:
        if name not in units:
            raise ConfigurationError(
                f"there is no unit of routes {name!r}; there are {', '.join(units)}"
            )
    has_docs = settings.docs_enabled and app.docs_url is None
    return {name: units[name] for name in names if name != "docs" or has_docs}


def _mounted_below(app: FastAPI, prefix: str = "") -> Iterator[tuple[str, FastAPI]]:
    """The applications mounted below `app`, at any depth, each with its path."""
    for context in iter_route_contexts(app.routes):
        mount = context.original_route
        if isinstance(mount, Mount) and isinstance(mount.app, FastAPI):
            path = f"{prefix}{mount.path}"
            yield path, mount.app
            yield from _mounted_below(mount.app, path)
