"""Composition root: `AuthAPI` for importing applications, and `create_app` for the service.

The service is an empty FastAPI application with `AuthAPI` installed. `create_app` uses only what an
importing application can use.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import cache, partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from pydantic import SecretStr

from authapi.diagnostics.background import BackgroundChecks, Checks
from authapi.errors import ConfigurationError
from authapi.facade.accounts import Accounts, AccountTransaction, open_transaction
from authapi.facade.home import Home
from authapi.facade.sync import Sync
from authapi.facade.threads import ServiceThread
from authapi.late_imports import import_in_thread
from authapi.outbound.breaches import build_breach_check
from authapi.outbound.webhooks import build_webhook_post
from authapi.services import Services
from authapi.services.factors.webauthn.relying_party import can_add_passkeys, names_other_sites
from authapi.services.hooks import Hooks
from authapi.services.jobs.shutdown import close_after_failure
from authapi.settings import Settings, load_settings, warn_unknown_settings
from authapi.storage import AsyncEngine, application_engine
from authapi.storage.application.profile import Profile
from authapi.strategies.registry import Registry
from authapi.web.context import Runtime
from authapi.web.federation.building import build_providers
from authapi.web.hooks import HookDecorators
from authapi.web.installation import Installation, select_units
from authapi.web.own_columns import with_own_columns
from authapi.web.pages.own_templates.checks import check_pages
from authapi.web.routes.health import read_metrics
from authapi.web.routes.home import read_home, read_icon
from authapi.web.routes.login.password import LogIn, log_in_by_form
from authapi.web.routes.login.second_factor import (
    passkey_options_by_form,
    prove_second_factor_by_form,
)
from authapi.web.routes.openapi_document import add_openapi_document
from authapi.web.routes.units import (
    UNITS,
    remove_disabled_pages,
    remove_provider_routes,
    with_page_files,
)


class Service:
    """Open services, for scripts, workers and seeds. `AuthAPI.running` opens them."""

    def __init__(self, auth: "AuthAPI") -> None:
        self.accounts = auth.accounts
        self.transaction = auth.transaction


class AuthAPI(HookDecorators):
    """Authentication for one application.

        auth = AuthAPI()
        app = FastAPI(lifespan=auth.lifespan)
        auth.install(app)

    `settings` defaults to the environment (`AUTHAPI_*`). `engine` is an AsyncEngine of the
    application whose pool authapi uses; by default, authapi has its own. `profile` declares a table
    of the application with own members of accounts. The constructor opens no connections or files
    of the data folder; `lifespan` does. Raises ConfigurationError if the settings are not valid, a
    strategy cannot be loaded, or `engine` or `profile` cannot be used.

    The decorators of `HookDecorators` register functions that authapi calls.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        engine: AsyncEngine | None = None,
        profile: Profile | None = None,
    ) -> None:
        self.settings = _on_engine(settings or load_settings(), engine)
        self._engine, self._profile = engine, profile
        self._hooks = Hooks(self.settings.database_timeout)
        self._services = services = self.build_services()
        self._home = Home(services)
        self.accounts = Accounts(services)
        diagnose = BackgroundChecks(self._checks).report
        self._upstreams = build_providers(self.settings)
        self.runtime = Runtime(
            self.settings, Registry.load(services), services, diagnose, upstreams=self._upstreams
        )
        self._installation = Installation(self.runtime)
        self.sync = Sync(
            ServiceThread(self._home, partial(self.build_services, own_pool=True)), self.runtime
        )

    def _checks(self) -> Checks:
        from authapi.diagnostics.examination import checks_of  # noqa: PLC0415  # imports Alembic
        from authapi.diagnostics.subject import Subject  # noqa: PLC0415

        # Services with metrics would remove those of this process when they stop.
        without = self.settings.model_copy(update={"metrics_path": None, "metrics_port": None})
        build = partial(self.build_services, own_pool=True, settings=without)
        return checks_of(Subject(self.settings, build))

    def build_services(
        self, *, own_pool: bool = False, settings: Settings | None = None
    ) -> Services:
        """Creates services with the settings, hooks and engine of this application, for a command.

        With `own_pool`, they do not share the pool of an engine: it belongs to one event loop.
        `settings` stand for those of this application.
        """
        engine, settings = self._engine, settings or self.settings
        if own_pool and engine is not None:
            engine = application_engine.sibling(engine)
        return Services.build(
            settings,
            breached=build_breach_check(settings),
            post=build_webhook_post(settings),
            hooks=self._hooks,
            engine=engine,
            profile=self._profile,
        )

    @property
    def installed_app(self) -> FastAPI:
        """The application in which this is installed. Raises ConfigurationError without one."""
        apps = self._installation.apps
        if not apps:
            raise ConfigurationError("authapi is not installed: call AuthAPI().install(app)")
        return apps[0]

    def install(
        self,
        app: FastAPI,
        *,
        prefix: str = "",
        include: Collection[str] | None = None,
        governs_app: bool = False,
    ) -> None:
        """Adds the routes, their layers and the OpenAPI security to `app`.

        `prefix` is the path of the routes, such as `/api/v1/auth`. The issuer of tokens, the links
        in mails and the metadata have it too. `include` names the units of routes to add
        (`authapi.web.routes.units`), by default all. `/docs` is left to an application that has a
        docs page of its own. Other routes of `app` stay as they are, unless they have a gate. With
        `governs_app`, the headers, limits, CORS rules and error responses of authapi are for every
        path of `app`, as in the service.

        Raises ConfigurationError if `prefix` is no path, if the public URL ends with it, or if this
        is installed with another one already; for an unknown unit; and if authapi is installed in
        `app` already.
        """
        units = dict(select_units(UNITS, include, app, self.settings))
        if self.settings.leak_report_keys is None:
            # Disabled routes answer 404 and are missing from the OpenAPI document.
            units.pop("leaks", None)
        if not self._upstreams:
            remove_provider_routes(units)
        if not names_other_sites(self.settings):
            units.pop("related_origins", None)
        if not self.settings.sends_mail:
            units.pop("recovery", None)
            units.pop("pages", None)
        remove_disabled_pages(units, self.settings)
        has_page = self.settings.security_link is not None or "account" in units
        if not has_page and "pages" not in units:
            units.pop("change_password", None)
        if not has_page or not can_add_passkeys(self.settings):
            units.pop("passkey_endpoints", None)
        units = dict(with_own_columns(units, self._services.own_columns.models))
        units = dict(with_page_files(units))
        metrics_path = self.settings.metrics_path
        self._installation.install(
            app,
            units,
            prefix=prefix,
            other_paths=[metrics_path] if metrics_path else (),
            governs_app=governs_app,
        )
        if metrics_path is not None:
            app.add_route(metrics_path, read_metrics, include_in_schema=False)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """The lifespan of the application: opens the services, and closes them at shutdown.

        Raises ConfigurationError if a route requires an unknown strategy, if `app` has a gate where
        authapi is not installed, if a strategy cannot be started, or if the database, the data
        folder or the signing keys cannot be used.
        """
        self._installation.check(app)
        warn_unknown_settings(type(self.settings))
        services = self.runtime.services
        await asyncio.to_thread(self.sync.close)  # calls of a script before the start
        async with self._home.serving():
            await services.start()
            try:
                # The first request that calls a function in a thread imports it otherwise.
                await import_in_thread("anyio._backends._asyncio")
                await asyncio.to_thread(check_pages, self.runtime)
                async with self._installation.started(), aclosing(self._upstreams):
                    yield
            except BaseException:
                await close_after_failure(services.stop)
                raise
            await services.stop()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Service]:
        """Opens the services for a script, a worker or a seed, without background tasks.

        Mail is queued; the running application sends it. Inside a running application, the block
        uses its services. Raises ConfigurationError if the schema, the secret, the keys or the
        settings cannot be used, StorageUnavailable if the database does not answer, RuntimeError if
        the services are open on another event loop.
        """
        async with self._home.open():
            yield Service(self)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AccountTransaction]:
        """Opens one transaction for accounts and for tables of the application.

        It is committed at the end of the block, and rolled back if the block raises. It may last as
        long as a request waits for the database: `database_pool_timeout` and twice
        `database_timeout`. On SQLite, other writers wait for it.

        Raises RuntimeError outside of a running application and of `running()`, and inside another
        block; StorageUnavailable if the database does not answer or the block takes too long.
        """
        if not self._home.is_here:
            raise RuntimeError("authapi is not open here: use auth.running() around the block")
        async with open_transaction(self.runtime.services) as transaction:
            yield transaction

    async def log_in(
        self,
        request: Request,
        email: str,
        password: str,
        *,
        strategy: str | None = None,
        remember: bool = False,
    ) -> LogIn:
        """Logs a user in for a login form of the application, as `POST /login` does.

        `email` is an address or a user name, as the setting `login_identifier` says. The rate
        limits, the hooks, the events, the protection against cross-site requests and the cookie are
        the same. `strategy` defaults to that of the settings. Call `set_on(response)` of the result
        for the cookie.

        Raises SecondFactorRequired if the account has a second factor: keep its `ticket`, or add
        its `headers` to the response, ask for a code, and call `prove_second_factor`. Raises
        EnrolmentRequired if the account must add one, by the routes below `/login/enrolment`;
        InvalidCredentials, TooManyAttempts, ForeignOrigin, InvalidInput for an address or
        name that is not valid or an unknown strategy, Overloaded, Unavailable, the errors of the
        hooks, and RuntimeError if authapi is not installed in the application of `request`.
        """
        return await log_in_by_form(
            self.runtime, request, email, password, strategy=strategy, remember=remember
        )

    async def prove_second_factor(
        self,
        request: Request,
        *,
        ticket: str | None = None,
        code: str | None = None,
        recovery_code: str | None = None,
        passkey: Mapping[str, object] | None = None,
    ) -> LogIn:
        """Completes a login that raised SecondFactorRequired, as `POST /login/second-factor` does.

        `code` is what the authenticator app shows; `passkey` is the JSON that the browser answers
        to `second_factor_options`. `ticket` is that of the error; None if the login
        uses cookies, which the browser has by its `headers` then.

        Raises SecondFactorRefused, LoginExpired, TooManyAttempts, ForeignOrigin, InvalidInput
        unless exactly one of `code`, `recovery_code` and `passkey` is given, or if `passkey` lacks
        a member, for a passkey PasskeysUnavailable, InvalidCredentials if the account was changed
        meanwhile, Unavailable, and RuntimeError as `log_in`.
        """
        return await prove_second_factor_by_form(
            self.runtime,
            request,
            ticket=ticket,
            code=code,
            recovery_code=recovery_code,
            passkey=passkey,
        )

    async def second_factor_options(
        self, request: Request, *, ticket: str | None = None
    ) -> dict[str, Any]:
        """Returns what the page needs to ask for a passkey as second factor of a login, as JSON.

        The page passes it to `PublicKeyCredential.parseRequestOptionsFromJSON()` and
        `navigator.credentials.get()`, and the handler passes `toJSON()` of the result to
        `prove_second_factor`. `ticket` is as there. It is for logins whose `methods` have
        `passkey`.

        Raises LoginExpired, PasskeysUnavailable, ForeignOrigin, Unavailable, and RuntimeError as
        `log_in`.
        """
        return await passkey_options_by_form(self.runtime, request, ticket=ticket)


def _on_engine(settings: Settings, engine: AsyncEngine | None) -> Settings:
    """Returns a copy of the settings with the database of `engine`. Raises ConfigurationError."""
    settings = settings.model_copy()  # `install` sets the prefix of this installation only
    settings.set_prefix("")
    if engine is None:
        return settings
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        application_engine.check_same_database(engine, url)
        return settings
    url = application_engine.url_of(engine)
    return settings.model_copy(update={"database_url": SecretStr(url)})


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service: an empty application with authapi installed. Raises as `AuthAPI`."""
    return create_service(settings)[1]


@cache
def _version() -> str:
    return version("fastapi-authapi")  # reads a file


def create_service(settings: Settings | None = None) -> tuple[AuthAPI, FastAPI]:
    """The service as `create_app` returns it, with its `AuthAPI`. Raises as `AuthAPI`."""
    auth = AuthAPI(settings)
    auth.runtime.services.passwords.returns_memory = True
    public_url = auth.settings.public_url
    app = FastAPI(
        title="authapi",
        summary="Authentication with cookie sessions, opaque tokens and JWT.",
        version=_version(),
        # Programs that are generated from the document send their requests there.
        servers=[{"url": public_url}] if public_url else None,
        lifespan=auth.lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    auth.install(app, governs_app=True)
    app.add_route("/", read_home, include_in_schema=False)
    app.add_route("/favicon.ico", read_icon, include_in_schema=False)
    if auth.settings.docs_enabled:
        add_openapi_document(app)
    return auth, app
