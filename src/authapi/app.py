"""Composition: the only place where things are put together.

The service is the package installed into an empty application: `create_app` does nothing that an
importing application could not do with `AuthAPI`.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from fastapi import FastAPI

from authapi.services import Services
from authapi.services.background.closing import close_after_failure
from authapi.settings import Settings, load_settings, warn_of_unknown_settings
from authapi.strategies.registry import Registry
from authapi.web.context import Runtime
from authapi.web.installation import Installation, chosen
from authapi.web.outgoing.breaches import range_check
from authapi.web.outgoing.webhooks import webhook_post
from authapi.web.routes import UNITS
from authapi.web.routes.health import metrics_of


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
        services = Services.build(
            self.settings, breached=range_check(self.settings), post=webhook_post(self.settings)
        )
        self.runtime = Runtime(self.settings, Registry.load(services), services)
        self._installation = Installation(self.runtime)

    def install(self, app: FastAPI, *, include: Collection[str] | None = None) -> None:
        """Add the edge, the error handlers, the OpenAPI security and the routes to `app`.

        `include` names the units of routes to add (`authapi.web.routes.UNITS`), by default all.
        `/docs` is left to an application that has a docs page of its own.
        """
        units = dict(chosen(UNITS, include, app, self.settings))
        if self.settings.leak_report_keys is None:
            # What the settings switch off is not there: 404, and no word of it in the document.
            units.pop("leaks", None)
        if not self.settings.sends_mail:
            units.pop("recovery", None)
            units.pop("pages", None)
        metrics_path = self.settings.metrics_path
        self._installation.install(app, units, other_paths=[metrics_path] if metrics_path else ())
        if metrics_path is not None:
            app.add_route(metrics_path, metrics_of, include_in_schema=False)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Open what requests need, and close it after the last one.

        Raises ConfigurationError if a route asks for a strategy that there is not, or the database,
        data folder or keys cannot be used.
        """
        self._installation.check()
        warn_of_unknown_settings(type(self.settings))
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
