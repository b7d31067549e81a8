"""Composition root: `AuthAPI` for importing applications, and `create_app` for the service.

The service is an empty FastAPI application with `AuthAPI` installed. `create_app` uses only what an
importing application can use.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from authapi.outbound.breaches import build_breach_check
from authapi.outbound.webhooks import build_webhook_post
from authapi.services import Services
from authapi.services.hooks import Hooks
from authapi.services.jobs.shutdown import close_after_failure
from authapi.settings import Settings, load_settings, warn_unknown_settings
from authapi.storage.schema.profile import Profile
from authapi.strategies.registry import Registry
from authapi.web.context import Runtime
from authapi.web.hooks import HookDecorators
from authapi.web.installation import Installation, select_units
from authapi.web.own_columns import with_own_columns
from authapi.web.routes.health import read_metrics
from authapi.web.routes.units import UNITS


class AuthAPI(HookDecorators):
    """Authentication for one application.

        auth = AuthAPI()
        app = FastAPI(lifespan=auth.lifespan)
        auth.install(app)

    `settings` defaults to the environment (`AUTHAPI_*`). The constructor opens no connections or
    files of the data folder; `lifespan` does. Raises ConfigurationError if the settings are not
    valid, a strategy cannot be loaded or `profile` cannot be used.

    `profile` declares a table of the application with own members of accounts.

    The decorators of `HookDecorators` register functions that authapi calls.
    """

    def __init__(self, settings: Settings | None = None, *, profile: Profile | None = None) -> None:
        self.settings = settings or load_settings()
        self._hooks = Hooks(self.settings.database_timeout)
        self._services = Services.build(
            self.settings,
            breached=build_breach_check(self.settings),
            post=build_webhook_post(self.settings),
            hooks=self._hooks,
            profile=profile,
        )
        self.runtime = Runtime(self.settings, Registry.load(self._services), self._services)
        self._installation = Installation(self.runtime)

    def install(self, app: FastAPI, *, include: Collection[str] | None = None) -> None:
        """Adds the edge, the error handlers, the OpenAPI security and the routes to `app`.

        `include` names the units of routes to add (`authapi.web.routes.units`), by default all.
        `/docs` is left to an application that has a docs page of its own.
        """
        units = dict(select_units(UNITS, include, app, self.settings))
        if self.settings.leak_report_keys is None:
            # Disabled routes answer 404 and are missing from the OpenAPI document.
            units.pop("leaks", None)
        if not self.settings.sends_mail:
            units.pop("recovery", None)
            units.pop("pages", None)
        units = dict(with_own_columns(units, self._services.own_columns.models))
        metrics_path = self.settings.metrics_path
        self._installation.install(app, units, other_paths=[metrics_path] if metrics_path else ())
        if metrics_path is not None:
            app.add_route(metrics_path, read_metrics, include_in_schema=False)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """The lifespan of the application: opens the services, and closes them at shutdown.

        Raises ConfigurationError if a route requires an unknown strategy, if a strategy cannot be
        started, or if the database, the data folder or the signing keys cannot be used.
        """
        self._installation.check()
        warn_unknown_settings(type(self.settings))
        services = self.runtime.services
        await services.start()
        try:
            async with self._installation.started():
                yield
        except BaseException:
            await close_after_failure(services.stop)
            raise
        await services.stop()


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service: an empty application with authapi installed. Raises as `AuthAPI`."""
    return create_service(settings)[1]


def create_service(settings: Settings | None = None) -> tuple[AuthAPI, FastAPI]:
    """The service as `create_app` returns it, with its `AuthAPI`. Raises as `AuthAPI`."""
    auth = AuthAPI(settings)
    app = FastAPI(
        title="authapi",
        summary="Authentication with cookie sessions, opaque tokens and JWT.",
        version=version("fastapi-authapi"),
        lifespan=auth.lifespan,
        openapi_url="/openapi.json" if auth.settings.docs_enabled else None,
        docs_url=None,
        redoc_url=None,
    )
    auth.install(app)
    return auth, app
