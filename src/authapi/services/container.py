"""The container of all services: creates them in the order of their dependencies."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from authapi.domain.monitoring.signals import Signals
from authapi.services.accounts.authentication import Authentication
from authapi.services.accounts.deferred import DeferredRequests
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.accounts.new_devices import NewDevices
from authapi.services.audit import Audit
from authapi.services.audit.search import AuditSearch
from authapi.services.composition.accounts import AccountServices
from authapi.services.factors.expiry import EXPIRING, prune_expired
from authapi.services.factors.services import FactorServices
from authapi.services.federation.links import IdentityLinks
from authapi.services.federation.services import FederationServices
from authapi.services.hooks import Hooks
from authapi.services.identity_cache import (
    CacheInvalidation,
    IdentityCache,
    LastUsed,
    invalidation_of,
)
from authapi.services.jobs.cleanup import Cleanup
from authapi.services.jobs.outbox import Outbox
from authapi.services.jobs.shutdown import close_after_failure, close_all, run_to_completion
from authapi.services.keys import Keys
from authapi.services.logins.complete import Logins
from authapi.services.logins.enrolment import LoginEnrolment
from authapi.services.logins.passkeys import PasskeyLogins
from authapi.services.mail import Mail
from authapi.services.monitoring.observers import create_metrics, on_commit, pool_size
from authapi.services.monitoring.statistics import StatisticsService
from authapi.services.monitoring.stored_numbers import StoredNumbers
from authapi.services.own_columns import OwnColumns
from authapi.services.passwords import BreachCheck, Passwords
from authapi.services.queues.administration import Queues
from authapi.services.rate_limits import RateLimits
from authapi.services.restores import NewestEvent
from authapi.services.schema import check_direct_url, prepare
from authapi.services.sessions.liveness import Liveness
from authapi.services.sessions.service import Sessions
from authapi.services.sessions.watch import SessionWatch
from authapi.services.tokens import (
    PersonalTokens,
    RefreshTokens,
    SecretScanning,
    TokenExchange,
    TokenIntrospection,
    TokenLookup,
    TokenRevocation,
)
from authapi.services.tokens.services import TokenServices
from authapi.services.usernames import prune_usernames
from authapi.services.webhooks import Post, Webhooks
from authapi.settings import Settings
from authapi.storage import AsyncEngine, Database
from authapi.storage.application.profile import Profile
from authapi.storage.names import TableNames
from authapi.storage.notifications import OnChange

if TYPE_CHECKING:
    from authapi.services.metrics import Metrics

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Services:
    """All services of one application. `build` creates them, `start` and `stop` run them."""

    settings: Settings
    database: Database
    hooks: Hooks
    own_columns: OwnColumns
    accounts: AccountServices
    logins: Logins
    login_enrolment: LoginEnrolment
    passkey_logins: PasskeyLogins
    factors: FactorServices
    federation: FederationServices
    tokens: TokenServices
    sessions: Sessions
    session_watch: SessionWatch
    keys: Keys
    audit: Audit
    audit_search: AuditSearch
    passwords: Passwords
    rate_limits: RateLimits
    identity_cache: IdentityCache
    invalidation: CacheInvalidation
    last_used: LastUsed
    newest_event: NewestEvent
    outbox: Outbox
    queues: Queues
    cleanup: Cleanup
    mail: Mail
    webhooks: Webhooks
    statistics: StatisticsService
    metrics: "Metrics | None"
    stored_numbers: StoredNumbers | None

    @classmethod
    def build(
        cls,
        settings: Settings,
        *,
        breached: BreachCheck | None = None,
        post: Post | None = None,
        hooks: Hooks | None = None,
        engine: AsyncEngine | None = None,
        profile: Profile | None = None,
    ) -> "Services":
        """Creates the services without opening, reading or writing anything.

        `hooks` are those of the application, which registers them before the start; `profile` are
        its own columns. `breached` looks up new passwords among breached ones, `post` sends
        webhooks; None disables either. `engine` is one of the application; by default, the services
        have their own. Raises ConfigurationError if `profile`, or metrics without an extra, fail.
        """
        hooks = hooks or Hooks(settings.database_timeout)
        has_cache = settings.identity_cache_size > 0
        # Services depend on one another in a circle: the lambdas name what is created below.
        metrics = create_metrics(
            settings,
            {
                "authapi_hashes_running": lambda: passwords.running,
                "authapi_hashes_waiting": lambda: passwords.waiting,
                "authapi_identity_cache_entries": lambda: len(identity_cache),
                "authapi_database_connections": lambda: database.connections_in_use,
                "authapi_database_pool_size": lambda: pool_size(settings, engine),
                "authapi_coherence_lag_seconds": lambda: has_cache and invalidation.lag,
                "authapi_identity_cache_off": lambda: not has_cache or invalidation.lag == inf,
            },
        )
        signals = metrics or Signals()
        passwords = Passwords(settings, breached, own_rules=hooks.check_password, signals=signals)
        identity_cache = IdentityCache(
            size=settings.identity_cache_size, ttl=settings.identity_cache_ttl
        )
        on_change: Sequence[OnChange] = (
            identity_cache.invalidate,
            lambda users: session_watch.changed(users),  # noqa: PLW0108  # created below
        )
        database = Database(
            settings.resolved_database_url,
            names=TableNames.of(settings),
            pool_size=settings.database_pool_size,
            pool_timeout=settings.database_pool_timeout,
            timeout=settings.database_timeout,
            engine=engine,
            direct_url=settings.direct_url,
            shares_sessions=settings.database_pooler is not None,
            on_commit=on_commit(metrics),
            on_change=on_change,
            on_queued=lambda: outbox.wake(),  # noqa: PLW0108  # `outbox` is created below
        )
        newest_event = NewestEvent(database, settings)
        last_used = LastUsed(database, settings)
        invalidation = invalidation_of(database, on_change, settings.identity_cache_max_staleness)
        own_columns = OwnColumns(database, identity_cache, invalidation, settings, profile=profile)
        outbox = Outbox(database, lambda: keys.outbox_cipher, settings, metrics)
        mail = Mail(outbox, settings)
        webhooks = Webhooks(outbox, settings, post)
        audit = Audit(
            database,
            settings,
            on_event=webhooks.queue,
            hooks=hooks,
            on_drop=None if metrics is None else metrics.count_dropped_event,
        )
        email_tokens = EmailTokens(database, mail, settings)
        new_devices = NewDevices(database, email_tokens, audit, settings)
        sessions = Sessions(
            database,
            identity_cache,
            invalidation,
            last_used,
            new_devices.record_login,
            audit,
            hooks,
            settings,
        )
        session_watch = SessionWatch(
            Liveness(database, identity_cache, invalidation, last_used, settings)
        )
        keys = Keys(database, identity_cache, invalidation, audit, hooks, settings)
        token_lookup = TokenLookup(database, keys, last_used, hooks, settings)
        revocation = TokenRevocation(database, token_lookup, audit)
        rate_limits = RateLimits(settings, signals)
        factors = FactorServices.of(
            database,
            keys,
            rate_limits,
            audit,
            mail,
            settings,
            challenges=lambda: keys.challenges,
            on_outcome=None if metrics is None else metrics.count_second_factor,
        )
        identity_links = IdentityLinks(database, audit, mail, settings)
        logins = Logins(database, factors.proofs, identity_links.finish, audit, settings)
        authentication = Authentication(database, passwords, rate_limits, audit, hooks, settings)
        deferred_requests = DeferredRequests(
            database, outbox, email_tokens, mail, rate_limits, audit, own_columns
        )
        accounts = AccountServices.of(
            database,
            passwords,
            authentication,
            deferred_requests,
            email_tokens,
            new_devices,
            rate_limits,
            audit,
            mail,
            hooks,
            own_columns,
            settings,
        )
        tokens = TokenServices(
            exchange=TokenExchange(database, keys, last_used, hooks, settings),
            introspection=TokenIntrospection(token_lookup, last_used, settings),
            personal=PersonalTokens(database, audit, mail, hooks, settings),
            refresh=RefreshTokens(database, last_used, audit, mail, hooks, settings),
            revocation=revocation,
            secret_scanning=SecretScanning(database, token_lookup, revocation, audit, settings),
        )
        cleanup = Cleanup(settings.prune_interval, signals)
        cleanup.register("sessions", sessions.prune)
        cleanup.register("events", audit.prune)
        cleanup.register("signing keys", keys.prune)
        cleanup.register("outbox entries", outbox.prune)
        cleanup.register("email tokens", email_tokens.prune)
        cleanup.register("user names", partial(prune_usernames, database))
        for name in EXPIRING:
            cleanup.register(name, partial(prune_expired, database, name))
        return cls(
            settings=settings,
            database=database,
            hooks=hooks,
            own_columns=own_columns,
            accounts=accounts,
            logins=logins,
            login_enrolment=LoginEnrolment(database, logins, factors, rate_limits),
            passkey_logins=PasskeyLogins(factors.proofs.passkeys, hooks, settings),
            factors=factors,
            federation=FederationServices.of(
                database,
                identity_links,
                keys,
                rate_limits,
                audit,
                mail,
                email_tokens,
                deferred_requests,
                hooks,
                own_columns,
                settings,
            ),
            tokens=tokens,
            sessions=sessions,
            session_watch=session_watch,
            keys=keys,
            audit=audit,
            audit_search=AuditSearch(database),
            passwords=passwords,
            rate_limits=rate_limits,
            identity_cache=identity_cache,
            invalidation=invalidation,
            last_used=last_used,
            newest_event=newest_event,
            outbox=outbox,
            queues=Queues(database, outbox, mail, webhooks, rate_limits, audit, settings),
            cleanup=cleanup,
            mail=mail,
            webhooks=webhooks,
            statistics=StatisticsService(database, settings),
            metrics=metrics,
            stored_numbers=None if metrics is None else StoredNumbers(database, metrics, settings),
        )

    async def open(self) -> None:
        """Prepares the services for a command: checks or migrates the schema, loads the keys.

        Creates the first signing keys. Binds the services to the running event loop, and drops
        connections of an earlier one. Raises ConfigurationError if the schema, the secret, the keys
        or the settings cannot be used, StorageUnavailable if the database does not answer.
        """
        await self._open()

    async def _open(self, before_keys: Callable[[], Awaitable[None]] | None = None) -> None:
        self.hooks.close()
        await self.database.close()
        self.rate_limits.open()
        self.audit.open()
        # Cancelling does not stop a thread: it must not still run at the next start.
        await run_to_completion(asyncio.to_thread(prepare, self.settings))
        await self.database.limitations()
        await check_direct_url(self.database, self.settings)
        if before_keys is not None:
            await before_keys()
        await self.keys.open()
        await self.passwords.start()

    async def _warn_of_restore(self) -> None:
        # Before the keys, whose rotation is an event.
        if (restored := await self.newest_event.check()) is not None:
            _log.warning("%s", restored)

    async def start(self) -> None:
        """Calls `open`, and starts the background tasks of a service. Raises as `open` does.

        Also raises ConfigurationError if mail templates, certificates or scanner keys cannot be
        used. Closes everything again if it fails or is cancelled.
        """
        try:
            self.tokens.secret_scanning.open()
            await asyncio.to_thread(self.mail.open)
            await self._open(self._warn_of_restore)
            self.newest_event.start()
            if limits := await self.database.limitations():
                _log.warning("authapi uses the engine of the application: %s", "; ".join(limits))
            if self.settings.identity_cache_size:
                await self.invalidation.start()
            else:
                _log.info("identity cache off: AUTHAPI_IDENTITY_CACHE_SIZE is 0")
            await self.keys.start()
            self.last_used.start()
            self.cleanup.start()
            self.outbox.start()
            if self.metrics is not None:
                self.metrics.start()
            if self.stored_numbers is not None:
                self.stored_numbers.start()
        except BaseException:
            await close_after_failure(self.stop)
            raise

    async def stop(self) -> None:
        """Writes pending data and closes everything, in the reverse order of `start`.

        Closes all parts even if one fails, and then raises the first error.
        """
        await close_all(
            *(() if self.stored_numbers is None else (self.stored_numbers.stop,)),
            *(() if self.metrics is None else (self.metrics.stop,)),
            self.outbox.stop,
            self.webhooks.close,
            self.cleanup.stop,
            self.last_used.stop,
            self.keys.stop,
            self.invalidation.stop,
            self.passwords.stop,
            self.rate_limits.close,
            self.newest_event.stop,
            self.database.close,
        )
