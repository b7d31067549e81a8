"""Fills an empty development database with accounts whose history lies in the past.

The services record what happens now. These rows are written directly instead, so that a list of
devices or events looks as after months of use. No credential of a login or token that is written
here exists: only the password that the caller gives logs in.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from authapi.clock import now
from authapi.crypto.factors.totp import as_base32, new_totp_secret
from authapi.crypto.ids import id_at
from authapi.crypto.passwords import PasswordHash
from authapi.crypto.secrets import hash_secret, new_secret
from authapi.domain.client import Client
from authapi.domain.email_address import stored_email
from authapi.domain.events import Event, EventType
from authapi.domain.factors.authentication_context import MFA
from authapi.domain.factors.passkeys import Algorithm, Passkey
from authapi.domain.factors.values import FactorMethod, TOTPFactor, totp_context
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User, UserFilter, UserOrder
from authapi.errors import ConfigurationError
from authapi.services.container import Services
from authapi.services.demo.people import DemoPerson, DemoToken, read_people
from authapi.services.factors.recovery_codes import replace_recovery_codes
from authapi.settings import Settings
from authapi.storage import Store

_SCRIPT = "script"
"""The device that uses the tokens."""
_CONFIRMED_AFTER = timedelta(minutes=4)
_RANDOM_BYTES = 32


@dataclass(frozen=True, slots=True)
class DemoAccount:
    """An account that was added."""

    user: User
    has_password: bool
    app_secret: str | None = field(default=None, repr=False)
    """The secret of the authenticator app in base32; None if the account has none."""


def refuse_production(settings: Settings) -> None:
    """Raises ConfigurationError in production: the accounts would have one known password."""
    if settings.env == "production":
        raise ConfigurationError("the example accounts are for development: AUTHAPI_ENV=production")


class DemoData:
    """Adds the example accounts."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._devices, self._people = read_people()

    async def fill(self, password: str) -> Sequence[DemoAccount]:
        """Adds the accounts, which have all the same password, in one transaction.

        Raises ConfigurationError in production, and if the database has an account; InvalidInput if
        the password policy rejects `password`, or the own columns of the application need values;
        StorageUnavailable if the database does not answer.
        """
        refuse_production(self._settings)
        emails = [stored_email(person.email).canonical for person in self._people]
        for email in emails:
            await self._services.passwords.check_policy(password, email=email)
        hashed = await self._services.passwords.hash(password)
        return await self._fill(emails, hashed)

    async def _fill(self, emails: Sequence[str], hashed: PasswordHash) -> Sequence[DemoAccount]:
        at, events = now(), list[Event]()
        async with self._services.database.transaction() as store:
            await store.users.lock_addresses(*emails)
            if await store.users.search(UserFilter(), order=UserOrder.OLDEST, after=None, limit=1):
                raise ConfigurationError("the database has accounts already: nothing was added")
            added = [
                await self._add(_Writer(store, at, events), person, hashed)
                for person in self._people
            ]
            await store.events.add_all(sorted(events, key=lambda event: event.at))
        return added

    async def _add(
        self, writer: "_Writer", person: DemoPerson, hashed: PasswordHash
    ) -> DemoAccount:
        store, email = writer.store, stored_email(person.email)
        user = writer.user(person)
        has_password = not person.is_invited
        await store.users.add(
            user, email=email.canonical, password_hash=hashed if has_password else None
        )
        user = await self._services.own_columns.add(
            store, user, self._services.own_columns.new(None)
        )
        secret = await self._add_factors(writer, person, user)
        for login in person.logins:
            await store.sessions.add(
                self._login(writer, person, user, login.device, login.began, login.used),
                hash_secret(new_secret()),
            )
        for token in person.tokens:
            await store.sessions.add(
                self._token(writer, user, token, person.logins[0].device),
                hash_secret(new_secret()),
            )
        for event in person.events:
            writer.record(event.type, user, event.at, event.device)
        if person.deactivated is not None:
            writer.record(EventType.ACCOUNT_DEACTIVATED, user, person.deactivated, Client())
        return DemoAccount(user, has_password, secret)

    def _login(
        self,
        writer: "_Writer",
        person: DemoPerson,
        user: User,
        device: Client,
        began: float,
        used: float,
    ) -> Session:
        at, seen = writer.days_ago(began), writer.days_ago(used)
        session = Session(
            id=id_at(at),
            user_id=user.id,
            kind=SessionKind.SESSION,
            name=None,
            scopes=None,
            created_at=at,
            last_seen_at=seen,
            idle_expires_at=seen + self._settings.remember_idle,
            expires_at=at + self._settings.remember_absolute,
            auth_time=at,
            amr=person.amr,
            client=device,
            data={},
            remembered=True,
            mfa_at=at if MFA in person.amr else None,
        )
        writer.record(
            EventType.LOGIN, user, began, device, session_id=session.id, amr=list(session.amr)
        )
        return session

    def _token(self, writer: "_Writer", user: User, token: DemoToken, creator: Client) -> Session:
        at = writer.days_ago(token.created)
        session = Session(
            id=id_at(at),
            user_id=user.id,
            kind=SessionKind.TOKEN,
            name=token.name,
            scopes=frozenset(),
            created_at=at,
            last_seen_at=at if token.used is None else writer.days_ago(token.used),
            idle_expires_at=None,
            expires_at=at + self._settings.personal_token_lifetime,
            auth_time=at,
            amr=(),
            client=creator if token.used is None else self._devices[_SCRIPT],
            data={},
        )
        writer.record(EventType.TOKEN_CREATED, user, token.created, creator, name=token.name)
        return session

    async def _add_factors(self, writer: "_Writer", person: DemoPerson, user: User) -> str | None:
        store, secret = writer.store, None
        if person.app_added is not None:
            key = new_totp_secret()
            secret = as_base32(key)
            at = writer.days_ago(person.app_added)
            factor_id = id_at(at)
            encrypted = self._services.keys.factor_cipher.encrypt(
                key, context=totp_context(factor_id)
            )
            app = TOTPFactor.unused(factor_id, user.id, encrypted, credentials_version=0, at=at)
            await store.totp_factors.add(replace(app, last_used_at=at))
            writer.record_factor(user, person.app_added, person, FactorMethod.TOTP)
        for passkey in person.passkeys:
            await store.passkeys.add(
                _passkey(user, passkey.name, passkey.is_synced, writer.days_ago(passkey.added))
            )
            writer.record_factor(user, passkey.added, person, FactorMethod.PASSKEY)
        if person.mfa_since is not None:
            await store.passkeys.handle(user.id, os.urandom(_RANDOM_BYTES))
            await replace_recovery_codes(
                store,
                user.id,
                count=self._settings.recovery_codes,
                at=writer.days_ago(person.mfa_since),
            )
        return secret


@dataclass(frozen=True, slots=True)
class _Writer:
    """One transaction that adds the accounts, and the events it collects."""

    store: Store
    at: datetime
    events: list[Event]

    def days_ago(self, days: float) -> datetime:
        return self.at - timedelta(days=days)

    def user(self, person: DemoPerson) -> User:
        """The row of an account, and the events of its beginning."""
        created = self.days_ago(person.registered)
        is_confirmed = not person.is_unconfirmed and not person.is_invited
        confirmed = created + _CONFIRMED_AFTER if is_confirmed else None
        since = person.mfa_since
        user = User(
            id=id_at(created),
            email=person.email,
            name=person.name,
            is_active=person.deactivated is None,
            is_superuser=person.is_superuser,
            email_confirmed_at=confirmed,
            created_at=created,
            updated_at=created if confirmed is None else confirmed,
            locale=person.locale,
            mfa_since=None if since is None else self.days_ago(since),
        )
        kind = EventType.ACCOUNT_INVITED if person.is_invited else EventType.ACCOUNT_REGISTERED
        device = next((login.device for login in person.logins), Client())
        self.record(kind, user, person.registered, device)
        if confirmed is not None:
            minutes = _CONFIRMED_AFTER / timedelta(days=1)
            self.record(EventType.EMAIL_CONFIRMED, user, person.registered - minutes, device)
        return user

    def record_factor(
        self, user: User, days: float, person: DemoPerson, method: FactorMethod
    ) -> None:
        self.record(
            EventType.FACTOR_ADDED, user, days, person.logins[0].device, method=method.value
        )

    def record(
        self,
        kind: EventType,
        user: User,
        days: float,
        device: Client,
        *,
        session_id: UUID | None = None,
        **detail: object,
    ) -> None:
        at = self.days_ago(days)
        strategy = "session" if kind is EventType.LOGIN else None
        self.events.append(
            Event(id_at(at), at, kind, user.id, session_id, strategy, device, detail)
        )


def _passkey(user: User, name: str, is_synced: bool, at: datetime) -> Passkey:
    """A passkey that no authenticator has: its key is random, so it verifies nothing."""
    return Passkey(
        id=id_at(at),
        user_id=user.id,
        credential_id=os.urandom(_RANDOM_BYTES),
        public_key=os.urandom(_RANDOM_BYTES),
        algorithm=Algorithm.ES256,
        sign_count=0 if is_synced else 12,
        transports=("internal", "hybrid") if is_synced else ("internal",),
        aaguid=UUID(int=0),
        backup_eligible=is_synced,
        backed_up=is_synced,
        name=name,
        created_at=at,
        last_used_at=at,
    )
