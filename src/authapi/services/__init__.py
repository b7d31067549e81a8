"""What the API means, without HTTP and without SQL: one noun a file.

`Services` is all of them, put together once; strategies and routes receive it.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from authapi.errors import ConfigurationError
from authapi.identity import Event
from authapi.services.accounts import Accounts
from authapi.services.accounts.administration import Administration
from authapi.services.accounts.invitations import Invitations
from authapi.services.audit import Audit
from authapi.services.background.housekeeping import Housekeeping
from authapi.services.background.outbox import Outbox
from authapi.services.callers import Activity, Coherence, KnownCallers
from authapi.services.keys import Keys, prepare_data_dir
from authapi.services.mail import Mail
from authapi.services.passwords import BreachCheck, Passwords
from authapi.services.sessions import Lifetime, Login, Sessions
from authapi.services.throttle import Throttle
from authapi.services.tokens import (
    Exchange,
    Leaks,
    PresentedTokens,
    RefreshTokens,
    Tokens,
    TokenStates,
)
from authapi.settings import Settings
from authapi.storage import Database

if TYPE_CHECKING:
    from authapi.services.metrics import Metrics

__all__ = ["Lifetime", "Login", "Services"]


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that a strategy or a route may ask for."""

    settings: Settings
    database: Database
    accounts: Accounts
    activity: Activity
    administration: Administration
    audit: Audit
    coherence: Coherence
    exchange: Exchange
    housekeeping: Housekeeping
    keys: Keys
    known: KnownCallers
    leaks: Leaks
    mail: Mail
    metrics: "Metrics | None"
    outbox: Outbox
    passwords: Passwords
    refresh_tokens: RefreshTokens
    sessions: Sessions
    throttle: Throttle
    token_states: TokenStates
    tokens: Tokens

    @classmethod
    def build(cls, settings: Settings, *, breached: BreachCheck | None = None) -> "Services":
        """Put the services together. Nothing is opened, read or written yet.

        `breached` is how new passwords are looked up among breached ones, if at all.
        """
        database = Database(
            settings.resolved_database_url,
            pool_size=settings.database_pool_size,
            pool_timeout=settings.database_pool_timeout,
            timeout=settings.database_timeout,
        )
        passwords = Passwords(settings, breached)
        activity = Activity(database, settings)
        known = KnownCallers(size=settings.known_callers, longest=settings.known_callers_max_age)
        coherence = Coherence.of(database, known, settings.known_callers_bound)
        database.on_change = known.changed
        audit = Audit(database, settings)
        sessions = Sessions(database, known, coherence, activity, audit, settings)
        keys = Keys(database, known, coherence, audit, settings)
        outbox = Outbox(database, keys, settings)
        mail = Mail(outbox, settings)
        presented = PresentedTokens(database, keys, activity, settings)
        throttle = Throttle(settings)
        return cls(
            settings=settings,
            database=database,
            accounts=Accounts(database, passwords, throttle, audit, settings),
            activity=activity,
            administration=Administration(database, audit, Invitations(mail, settings), settings),
            audit=audit,
            coherence=coherence,
            exchange=Exchange(database, keys, activity, settings),
            housekeeping=Housekeeping(sessions, audit, keys, outbox, settings),
            keys=keys,
            known=known,
            leaks=Leaks(database, presented, audit, settings),
            mail=mail,
            metrics=_metrics(settings, database, passwords, known),
            outbox=outbox,
            passwords=passwords,
            refresh_tokens=RefreshTokens(database, activity, audit, settings),
            sessions=sessions,
            throttle=throttle,
            token_states=TokenStates(database, presented, activity, audit),
            tokens=Tokens(database, audit, settings),
        )

    async def open(self) -> None:
        """Make keys, bring the schema up or check it, warm up: enough for a command.

        Raises ConfigurationError if something of that cannot be.
        """
        await asyncio.to_thread(prepare, self.settings)
        await self.keys.open()
        await self.passwords.start()

    async def start(self) -> None:
        """Open, and begin what goes on in the background of a service. Raises as `open`."""
        try:
            self.leaks.open()
            await self.open()
        except BaseException:
            await self.stop()
            raise
        if self.settings.known_callers:
            await self.coherence.start()
        await self.keys.start()
        self.activity.start()
        self.housekeeping.start()
        self.outbox.start()
        if self.metrics is not None:
            self.metrics.start()

    async def stop(self) -> None:
        """Write down what is pending and close everything."""
        if self.metrics is not None:
            await self.metrics.stop()
        await self.outbox.stop()
        await self.housekeeping.stop()
        await self.keys.stop()
        await self.coherence.stop()
        await self.activity.stop()
        await self.passwords.stop()
        await self.throttle.close()
        await self.database.close()


def _metrics(
    settings: Settings, database: Database, passwords: Passwords, known: KnownCallers
) -> "Metrics | None":
    if not settings.metrics:
        return None
    try:
        from authapi.services.metrics import Metrics  # noqa: PLC0415  # an extra
    except ImportError:
        raise ConfigurationError("metrics need the extra: pip install 'authapi[metrics]'") from None
    metrics = Metrics(
        {
            "authapi_hashes_running": lambda: passwords.running,
            "authapi_hashes_waiting": lambda: passwords.waiting,
            "authapi_known_callers": lambda: len(known),
            "authapi_database_connections": lambda: database.connections_in_use,
        }
    )
    told = database.on_commit

    def tell(event: Event) -> None:
        told(event)
        metrics.event(event.type.value)

    database.on_commit = tell
    return metrics


def prepare(settings: Settings) -> None:
    """Bring the schema up to date where `migrate` says so, else refuse one that is not. Blocks.

    SQLite belongs to this service alone; a PostgreSQL schema is changed when its operator says so.
    """
    from authapi.storage import migrations  # noqa: PLC0415  # a fifth of the import of authapi

    url = settings.resolved_database_url
    if settings.database_url is None:
        prepare_data_dir(settings.data_dir)
    if settings.migrates:
        migrations.upgrade(url)
    else:
        migrations.require_current(url)
