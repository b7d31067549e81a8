"""What the API means, without HTTP and without SQL: one noun a file.

`Services` is all of them, put together once; strategies and routes receive it.
"""

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from authapi.errors import ConfigurationError
from authapi.identity import Event
from authapi.services.accounts import Accounts
from authapi.services.accounts.administration import Administration
from authapi.services.accounts.emails import Emails
from authapi.services.accounts.invitations import Invitations
from authapi.services.accounts.one_time import OneTimeSecrets
from authapi.services.accounts.proof import PasswordProof
from authapi.services.accounts.recovery import Recovery
from authapi.services.accounts.registration import Registration
from authapi.services.accounts.requests import Requests
from authapi.services.audit import Audit
from authapi.services.background.closing import close_after_failure, close_all, to_its_end
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
from authapi.services.webhooks import Post, Webhooks
from authapi.settings import Settings
from authapi.storage import Database

if TYPE_CHECKING:
    from authapi.services.metrics import Metrics

__all__ = ["Lifetime", "Login", "Services"]

_preparing = threading.Lock()


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
    emails: Emails
    exchange: Exchange
    housekeeping: Housekeeping
    invitations: Invitations
    keys: Keys
    known: KnownCallers
    leaks: Leaks
    mail: Mail
    metrics: "Metrics | None"
    outbox: Outbox
    passwords: Passwords
    recovery: Recovery
    registration: Registration
    requests: Requests
    refresh_tokens: RefreshTokens
    sessions: Sessions
    throttle: Throttle
    token_states: TokenStates
    tokens: Tokens
    webhooks: Webhooks

    @classmethod
    def build(
        cls, settings: Settings, *, breached: BreachCheck | None = None, post: Post | None = None
    ) -> "Services":
        """Put the services together. Nothing is opened, read or written yet.

        `breached` is how new passwords are looked up among breached ones, if at all; `post` sends
        webhooks.
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
        webhooks = Webhooks(outbox, settings, post)
        audit.on_event = webhooks.queue
        presented = PresentedTokens(database, keys, activity, settings)
        throttle = Throttle(settings)
        one_time = OneTimeSecrets(database, settings)
        proof = PasswordProof(database, passwords, throttle, audit)
        requests = Requests(database, outbox, one_time, mail, throttle, audit)
        invitations = Invitations(one_time, mail)
        return cls(
            settings=settings,
            database=database,
            accounts=Accounts(database, passwords, proof, throttle, audit, mail, settings),
            activity=activity,
            administration=Administration(database, audit, invitations, settings),
            audit=audit,
            coherence=coherence,
            emails=Emails(database, one_time, requests, proof, throttle, mail, audit, settings),
            exchange=Exchange(database, keys, activity, settings),
            housekeeping=Housekeeping(database, sessions, audit, keys, outbox, settings),
            invitations=invitations,
            keys=keys,
            known=known,
            leaks=Leaks(database, presented, audit, settings),
            mail=mail,
            metrics=_metrics(settings, database, passwords, known, audit),
            outbox=outbox,
            passwords=passwords,
            recovery=Recovery(database, passwords, one_time, mail, audit),
            registration=Registration(
                database, passwords, requests, one_time, throttle, mail, audit, settings
            ),
            requests=requests,
            refresh_tokens=RefreshTokens(database, activity, audit, mail, settings),
            sessions=sessions,
            throttle=throttle,
            token_states=TokenStates(database, presented, activity, audit),
            tokens=Tokens(database, audit, mail, settings),
            webhooks=webhooks,
        )

    async def open(self) -> None:
        """Make keys, bring the schema up or check it, warm up: enough for a command.

        Everything here belongs to the event loop that runs now: what an earlier run was cut off
        from, such as connections, is let go of. Raises ConfigurationError if something cannot be.
        """
        await self.database.close()
        self.throttle.open()
        self.audit.open()
        # A thread goes on where its caller is cancelled: the next start must not meet it.
        await to_its_end(asyncio.to_thread(_prepare_alone, self.settings))
        await self.keys.open()
        await self.passwords.start()

    async def start(self) -> None:
        """Open, and begin what goes on in the background of a service. Raises as `open`.

        If that fails, or is cancelled, everything is closed again.
        """
        try:
            self.leaks.open()
            await asyncio.to_thread(self.mail.open)
            await self.open()
            if self.settings.known_callers:
                await self.coherence.start()
            await self.keys.start()
            self.activity.start()
            self.housekeeping.start()
            self.outbox.start()
            if self.metrics is not None:
                self.metrics.start()
        except BaseException:
            await close_after_failure(self.stop)
            raise

    async def stop(self) -> None:
        """Write down what is pending and close everything, in the reverse order of `start`.

        A part that fails does not keep the others from being closed; its error is raised then.
        """
        await close_all(
            *(() if self.metrics is None else (self.metrics.stop,)),
            self.outbox.stop,
            self.webhooks.close,
            self.housekeeping.stop,
            self.activity.stop,
            self.keys.stop,
            self.coherence.stop,
            self.passwords.stop,
            self.throttle.close,
            self.database.close,
        )


def _metrics(
    settings: Settings,
    database: Database,
    passwords: Passwords,
    known: KnownCallers,
    audit: Audit,
) -> "Metrics | None":
    if not settings.metrics:
        return None
    try:
        from authapi.services.metrics import Metrics  # noqa: PLC0415  # an extra
    except ImportError:
        raise ConfigurationError(
            "metrics need the extra: pip install 'fastapi-authapi[metrics]'"
        ) from None
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
    audit.floods.on_drop = lambda kind: metrics.event_dropped(kind.value)
    return metrics


def _prepare_alone(settings: Settings) -> None:
    # Alembic keeps what it works on in the attributes of a module.
    with _preparing:
        prepare(settings)


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
