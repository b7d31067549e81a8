"""Installs authapi in an application, as an authentication service or as a resource server.

An installation adds the routes of authapi, the layers around them, the handler for refusals and the
security in the OpenAPI document. In the service, its layers and its error responses are for every
path. In an application, authapi is a guest: they are for its own paths, and other routes stay as
they are (`web.middleware.guest`). Before the first request it checks the gates of all routes, also
in mounted applications.
"""

import logging
import re
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast
from weakref import WeakKeyDictionary, ref

from fastapi import APIRouter, FastAPI
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from authapi.domain.scopes import supported_scopes
from authapi.errors import ConfigurationError
from authapi.services.jobs.shutdown import close_after_failure, close_all
from authapi.settings import EdgeSettings
from authapi.strategies.base import Strategy
from authapi.web import openapi, problems
from authapi.web.context import NOT_INSTALLED, NOT_STARTED, Runtime
from authapi.web.middleware.cors import ProblemCORSMiddleware
from authapi.web.middleware.dispatch import is_only_fastapi
from authapi.web.middleware.gated_routes import shorten_routes
from authapi.web.middleware.guest import GuestMiddleware, OwnRoutes
from authapi.web.middleware.own_paths import OwnPaths, replaced_routes
from authapi.web.middleware.preprocessing import PreprocessingMiddleware
from authapi.web.middleware.request import RequestMiddleware
from authapi.web.routing import AuthAPIRouter, check_prefix

_log = logging.getLogger("authapi")


_installations: "WeakKeyDictionary[FastAPI, ref[Runtime]]" = WeakKeyDictionary()
"""The installation in each application. An application has at most one, and its layers own it: a
runtime leads to its applications, so that a strong reference here would keep both for ever."""


def runtime_of(app: FastAPI) -> Runtime:
    """Returns the installation of authapi in `app`. Raises RuntimeError if there is none."""
    found = _installations.get(app)
    runtime = None if found is None else found()
    if runtime is None:
        raise RuntimeError(NOT_INSTALLED)
    return runtime


class Installation:
    """A `Runtime` and the applications in which it is installed."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.apps: list[FastAPI] = []
        """The applications that have called `install`, in order."""
        self._governed: list[FastAPI] = []
        self._mounted: list[FastAPI] = []

    def install(
        self,
        app: FastAPI,
        units: Mapping[str, APIRouter],
        *,
        prefix: str = "",
        other_paths: Sequence[str] = (),
        governs_app: bool = False,
    ) -> None:
        """Adds the routes of the `units`, the layers around them and the OpenAPI security.

        The routes are below `prefix`. `other_paths` are paths of authapi for which the caller adds
        the routes. With `governs_app`, the layers and the error responses are for every path of
        `app`. Raises ConfigurationError if `prefix` is no path, or another one than before, and if
        authapi is installed in `app` already.
        """
        if app in _installations:
            raise ConfigurationError(
                "authapi is installed in this application already: call install(app) once"
            )
        self._set_prefix(prefix)
        settings = self._runtime.settings
        _installations[app] = ref(self._runtime)
        self._runtime.units.update(units)
        own = AuthAPIRouter(
            units.values(),
            max_body_bytes=settings.max_body_bytes,
            prefix=settings.prefix,
            public_url=settings.public_url or "",
        )
        layers = _Layers(self._runtime, app, own, other_paths, publishes="well_known" in units)
        if governs_app:
            layers.add_around_all()
            problems.install(app)
            self._governed.append(app)
        else:
            layers.add_around_own()
            problems.install_for_gates(app)
        own.include_in(app)
        openapi.install(
            app, self._runtime, own, before=layers.replace_routes, governs_app=governs_app
        )
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
            self._runtime.is_started = True
            yield
        except BaseException:
            self._runtime.is_started = False
            await close_after_failure(partial(self._stop, started))
            raise
        self._runtime.is_started = False
        await self._stop(started)

    async def _stop(self, strategies: Iterable[Strategy[Any]]) -> None:
        await close_all(
            self._runtime.session_watch.stop, *(strategy.stop for strategy in strategies)
        )

    def check(self, app: object = None) -> None:
        """Binds the gates of all routes, and prepares mounted applications with gates.

        `app` is the application that starts. Raises ConfigurationError if a route requires an
        unknown strategy, or if `app` has a gate outside of the applications in which authapi is
        installed.
        """
        _check_outside(app)
        for installed in self.apps:
            self._check_routes(installed)
            shorten_routes(installed)
            for prefix, mounted in _mounted_below(installed):
                if mounted not in _installations:
                    self._install_in_mounted(mounted, governs_app=installed in self._governed)
                    self._check_routes(mounted, prefix)
                    shorten_routes(mounted)

    def _install_in_mounted(self, app: FastAPI, *, governs_app: bool) -> None:
        # A mounted application has its own exception handlers and OpenAPI document. Without gates
        # it needs neither.
        has_gates = any(gates for _, gates in openapi.gated_routes(app))
        if has_gates and app not in self._mounted:
            self._mounted.append(app)
            (problems.install if governs_app else problems.install_for_gates)(app)
            openapi.install(app, self._runtime, governs_app=governs_app)

    def _check_routes(self, app: FastAPI, prefix: str = "") -> None:
        for route, gates in openapi.gated_routes(app):
            path = f"{prefix}{route.path}"
            for gate in gates:
                try:
                    gate.bind(self._runtime)
                except ConfigurationError as error:
                    raise ConfigurationError(f"{_name_of(route, prefix)}: {error}") from None
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


class _Layers:
    """The ASGI layers that an installation adds to an application."""

    def __init__(
        self,
        runtime: Runtime,
        app: FastAPI,
        own: AuthAPIRouter,
        other_paths: Sequence[str],
        *,
        publishes: bool,
    ) -> None:
        self._runtime, self._app, self._own = runtime, app, own
        self._other_paths, self._publishes = other_paths, publishes
        # Encoded slashes and upgrades are refused at these paths.
        patterns = [cast("Route", route).path_regex for route in own.routes]
        patterns += [re.compile(re.escape(path) + r"\Z") for path in other_paths]
        self._patterns = patterns
        origins = runtime.settings.allowed_origins
        self._cors = _cors_options(origins) if origins else None
        self._paths: OwnPaths | None = None

    def add_around_all(self) -> None:
        """Adds the layers of the service, for every path."""
        if self._cors is not None:
            self._app.add_middleware(ProblemCORSMiddleware, **self._cors)
        self._app.add_middleware(
            RequestMiddleware,
            runtime=self._runtime,
            own_paths=self._patterns,
            find_shortcut=self._own.shortcut,
        )
        # Starlette builds the redirect for a trailing slash from the Host header, which an attacker
        # may control.
        self._app.router.redirect_slashes = False
        self._wrap(self._as_service)

    def _as_service(self, stack: ASGIApp) -> ASGIApp:
        layers, layer = list[ASGIApp](), cast("Any", stack)
        while layer is not None and not isinstance(layer, RequestMiddleware):
            layers.append(layer)
            layer = getattr(layer, "app", None)
        return self._preprocessed(stack, layer if is_only_fastapi(layers) else None)

    def add_around_own(self) -> None:
        """Adds the layers of a guest, for the paths of authapi."""
        self._wrap(self._as_guest)

    def replace_routes(self) -> None:
        """Removes our routes that the application replaces by routes of its own."""
        if replaced := replaced_routes(self._app, self._own):
            self._own.remove(replaced)

    def _as_guest(self, stack: ASGIApp) -> ASGIApp:
        self.replace_routes()
        if self._paths is None:
            self._paths = OwnPaths(self._app, self._own, self._other_paths)
            self._own.move_last_in(self._app)
        paths = self._paths
        own: ASGIApp = OwnRoutes(stack, paths=paths, replaces_cors=self._cors is not None)
        if self._cors is not None:
            own = ProblemCORSMiddleware(own, **self._cors)
        own = self._preprocessed(
            RequestMiddleware(own, self._runtime, self._patterns, self._own.shortcut)
        )
        return GuestMiddleware(
            stack,
            own=own,
            paths=paths,
            runtime=self._runtime,
            application=self._app,
            router=self._own,
        ).with_known_paths()

    def _preprocessed(self, app: ASGIApp, inner: RequestMiddleware | None = None) -> ASGIApp:
        return PreprocessingMiddleware(
            app,
            inner=inner,
            publishes=self._publishes,
            prefix=self._runtime.settings.prefix,
            check_start=self._check_started,
        )

    def _check_started(self) -> None:
        if not self._runtime.is_started:
            raise ConfigurationError(NOT_STARTED)

    def _wrap(self, wrap: Callable[[ASGIApp], ASGIApp]) -> None:
        # With `add_middleware`, Starlette's ServerErrorMiddleware and middleware that the
        # application adds later would be outside.
        build = self._app.build_middleware_stack
        self._app.build_middleware_stack = lambda: wrap(build())  # type: ignore[method-assign]  # Starlette has no hook


def _cors_options(origins: Sequence[str]) -> dict[str, Any]:
    return {
        "allow_origins": origins,
        "allow_credentials": True,
        "allow_methods": ["GET", "POST", "PATCH", "DELETE"],
        "allow_headers": ["Authorization", "Content-Type", "If-Match", "If-None-Match"],
        "expose_headers": ["ETag", "Retry-After", "WWW-Authenticate", "X-Request-ID"],
    }


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


def _check_outside(app: object) -> None:
    """Raises ConfigurationError for a gate in an application in which authapi is not installed."""
    if not isinstance(app, FastAPI) or app in _installations:
        return
    for route, gates in openapi.gated_routes(app):
        if gates:
            raise ConfigurationError(f"{_name_of(route)} requires a caller, but {NOT_INSTALLED}")
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, Mount):
            _check_outside(context.original_route.app)


def _name_of(route: RouteContext, prefix: str = "") -> str:
    """Returns the methods and the path of a route, for messages."""
    return f"{' '.join(sorted(route.methods or {'WEBSOCKET'}))} {prefix}{route.path}"


def _mounted_below(app: FastAPI, prefix: str = "") -> Iterator[tuple[str, FastAPI]]:
    """Yields the applications mounted below `app`, at any depth, each with its path."""
    for context in iter_route_contexts(app.routes):
        mount = context.original_route
        if isinstance(mount, Mount) and isinstance(mount.app, FastAPI):
            path = f"{prefix}{mount.path}"
            yield path, mount.app
            yield from _mounted_below(mount.app, path)
