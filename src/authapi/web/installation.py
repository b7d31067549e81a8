"""Installs authapi in an application, as an authentication service or as a resource server.

An installation adds the middleware, the exception handlers, the security schemes in the OpenAPI
document and the routes. Before the first request it checks the gates of all routes, also in mounted
applications.
"""

import logging
import re
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from authapi.domain.scopes import supported_scopes
from authapi.errors import ConfigurationError
from authapi.services.jobs.shutdown import close_after_failure, close_all
from authapi.settings import EdgeSettings
from authapi.strategies.base import Strategy
from authapi.web import openapi, problems
from authapi.web.context import Runtime
from authapi.web.middleware.cors import ProblemCORSMiddleware
from authapi.web.middleware.preprocessing import PreprocessingMiddleware
from authapi.web.middleware.request import RequestMiddleware
from authapi.web.routing import AuthAPIRouter, check_prefix

_log = logging.getLogger("authapi")


class Installation:
    """A `Runtime` and the applications in which it is installed."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.apps: list[FastAPI] = []
        """The applications that have called `install`, in order."""
        self._mounted: list[FastAPI] = []

    def install(
        self,
        app: FastAPI,
        units: Mapping[str, APIRouter],
        *,
        prefix: str = "",
        other_paths: Iterable[str] = (),
    ) -> None:
        """Adds the middleware, the exception handlers, the OpenAPI security and the `units`.

        The routes are below `prefix`. `other_paths` are paths of authapi for which the caller adds
        the routes. Raises ConfigurationError if `prefix` is no path, or another one than before.
        """
        settings = self._runtime.settings
        self._set_prefix(prefix)
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
        own = AuthAPIRouter(
            units.values(),
            max_body_bytes=settings.max_body_bytes,
            prefix=settings.prefix,
            public_url=settings.public_url or "",
        )
        patterns = [cast("Route", route).path_regex for route in own.routes]
        patterns += [re.compile(re.escape(path) + r"\Z") for path in other_paths]
        app.add_middleware(RequestMiddleware, runtime=self._runtime, own_paths=patterns)
        _wrap_middleware_stack(app, settings.prefix, has_documents="well_known" in units)
        # Starlette builds the redirect for a trailing slash from the Host header, which an attacker
        # may control.
        app.router.redirect_slashes = False
        problems.install(app)
        app.include_router(own)
        openapi.install(app, self._runtime)
        self.apps.append(app)

    def _set_prefix(self, prefix: str) -> None:
        settings = self._runtime.settings
        checked = check_prefix(prefix, settings.base_url)
        if self.apps and checked != settings.prefix:
            raise ConfigurationError(
                f"authapi is installed with the prefix {settings.prefix!r} already: its tokens and"
                " links have one; create another AuthAPI for another prefix"
            )
        settings.set_prefix(checked)

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Starts the strategies on entry and stops them on exit, in reverse order.

        On exit, first ends the open WebSockets of `live_messages`.

        Raises ConfigurationError if a strategy cannot start; it stops those started before.
        """
        started: list[Strategy[Any]] = []
        try:
            for strategy in self._runtime.registry:
                started.insert(0, strategy)  # first: a strategy that fails to start is stopped too
                await strategy.start()
            self._runtime.session_watch.start()
            yield
        except BaseException:
            await close_after_failure(partial(self._stop, started))
            raise
        await self._stop(started)

    async def _stop(self, strategies: Iterable[Strategy[Any]]) -> None:
        await close_all(
            self._runtime.session_watch.stop, *(strategy.stop for strategy in strategies)
        )

    def check(self) -> None:
        """Binds the gates of all routes, and installs authapi in mounted applications with gates.

        Raises ConfigurationError if a route requires an unknown strategy.
        """
        for installed in self.apps:
            self._check_routes(installed)
            for prefix, mounted in _mounted_below(installed):
                self._install_in_mounted(mounted)
                self._check_routes(mounted, prefix)

    def _install_in_mounted(self, app: FastAPI) -> None:
        # A mounted application has its own exception handlers and OpenAPI document. Without gates
        # it needs neither.
        has_gates = any(gates for _, gates in openapi.gated_routes(app))
        if has_gates and app not in self.apps and app not in self._mounted:
            self._mounted.append(app)
            problems.install(app)
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
        services = self._runtime.services_if_any
        if services is not None and services.hooks.adds_scopes:
            return  # the application defines scopes of its own
        known = supported_scopes(self._runtime.settings)
        if not self._runtime.settings.scopes and services is None:
            return  # a resource server: the issuer defines the scopes
        for scope in scopes:
            if scope not in known:
                _log.warning(
                    "%s requires scope %r, which AUTHAPI_SCOPES does not define: "
                    "no credential can have it",
                    path,
                    scope,
                )


def _wrap_middleware_stack(app: FastAPI, prefix: str, *, has_documents: bool) -> None:
    # With `add_middleware`, Starlette's ServerErrorMiddleware and middleware that the application
    # adds later would be outside.
    build = app.build_middleware_stack

    def build_wrapped() -> ASGIApp:
        return PreprocessingMiddleware(build(), publishes=has_documents, prefix=prefix)

    app.build_middleware_stack = build_wrapped  # type: ignore[method-assign]  # Starlette has no hook


def select_units(
    units: Mapping[str, APIRouter],
    include: Collection[str] | None,
    app: FastAPI,
    settings: EdgeSettings,
) -> Mapping[str, APIRouter]:
    """Returns the `units` that `include` names; None selects all.

    The unit `docs` is omitted if docs are disabled or the application has a docs page. Raises
    ConfigurationError for an unknown name.
    """
    names = units if include is None else include
    for name in names:
        if name not in units:
            raise ConfigurationError(
                f"unknown unit of routes {name!r}; the units are {', '.join(units)}"
            )
    has_docs = settings.docs_enabled and app.docs_url is None
    return {name: units[name] for name in names if name != "docs" or has_docs}


def _mounted_below(app: FastAPI, prefix: str = "") -> Iterator[tuple[str, FastAPI]]:
    """Yields the applications mounted below `app`, at any depth, each with its path."""
    for context in iter_route_contexts(app.routes):
        mount = context.original_route
        if isinstance(mount, Mount) and isinstance(mount.app, FastAPI):
            path = f"{prefix}{mount.path}"
            yield path, mount.app
            yield from _mounted_below(mount.app, path)
