"""Signs and verifies access tokens with the keys in the memory of this process (`key_set`).

The keys are read again in the background, and whenever another process may have changed them.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from datetime import datetime

from authapi.clock import now
from authapi.crypto import jwk, jws, secrets
from authapi.crypto.encryption import Cipher, Secrets
from authapi.crypto.factors.challenges import Challenges
from authapi.domain.factors.authentication_context import acr_of
from authapi.domain.factors.values import FACTOR_USE
from authapi.domain.identity import FIRST_PARTY_CLIENT_ID, Identity
from authapi.domain.outbox import OUTBOX_USE
from authapi.domain.scopes import effective_scopes
from authapi.domain.session import Session
from authapi.domain.signing_key import StoredKey
from authapi.domain.user import User
from authapi.errors import (
    ConfigurationError,
    DecryptionFailed,
    TokenError,
    Unavailable,
    UnknownKey,
    UnsupportedKey,
)
from authapi.services.audit import Audit
from authapi.services.hooks import Hooks
from authapi.services.identity_cache import CacheInvalidation, IdentityCache
from authapi.services.jobs.periodic_task import PeriodicTask
from authapi.services.keys.key_set import KeySet, load_key_set
from authapi.services.keys.lifecycle import (
    REFRESH_INTERVAL,
    WRONG_SECRET,
    KeyLifecycle,
)
from authapi.services.keys.secret import read_secrets
from authapi.settings import Settings
from authapi.storage import Database

_log = logging.getLogger(__name__)

_NOT_STARTED = "authapi is not started: run the application's lifespan"
_UNKNOWN_KEY_INTERVAL = 1.0
"""Seconds between two queries for a `kid` that is not in memory."""


class Keys:
    """Signs and verifies access tokens (RFC 9068)."""

    def __init__(
        self,
        database: Database,
        identity_cache: IdentityCache,
        invalidation: CacheInvalidation,
        audit: Audit,
        hooks: Hooks,
        settings: Settings,
    ) -> None:
        self._database = database
        self._identity_cache = identity_cache
        self._invalidation = invalidation
        self._audit = audit
        self._hooks = hooks
        self._settings = settings
        self._max_staleness = settings.identity_cache_max_staleness.total_seconds()
        self._key_set: KeySet | None = None
        self._lifecycle: KeyLifecycle | None = None
        self._secrets: Secrets | None = None
        self._cipher: Cipher | None = None
        self._outbox_cipher: Cipher | None = None
        self._factor_cipher: Cipher | None = None
        self._challenges: Challenges | None = None
        self._ciphers: dict[str, Cipher] = {}
        self._unknown_key_at = -_UNKNOWN_KEY_INTERVAL
        self._read_lock = asyncio.Lock()
        self._task = PeriodicTask(
            "keys",
            self._refresh,
            interval=REFRESH_INTERVAL.total_seconds(),
            on_error=self._log_failure,
        )

    async def open(self) -> None:
        """Reads the keys, and creates the first ones if there are none.

        Raises ConfigurationError if the secret cannot be read, or another one encrypted the keys.
        Raises StorageUnavailable if the database does not answer.
        """
        self.load_secret()
        self._read_lock = asyncio.Lock()  # a lock belongs to one event loop
        self._key_set = None
        await self.lifecycle.ensure()
        try:
            await self._read()
        except (DecryptionFailed, UnsupportedKey):
            raise ConfigurationError(WRONG_SECRET) from None

    def load_secret(self) -> None:
        """Reads the secret. `lifecycle` needs no more; signing needs `open`.

        Raises ConfigurationError if the secret cannot be read.
        """
        secret = self._secrets = read_secrets(self._settings)
        self._cipher = Cipher(secret)
        self._outbox_cipher = Cipher(secret, use=OUTBOX_USE)
        self._factor_cipher = Cipher(secret, use=FACTOR_USE)
        self._challenges = Challenges(secret)
        self._ciphers = {}
        self._lifecycle = KeyLifecycle(
            self._database,
            self._audit,
            self._settings,
            secret,
            self._cipher,
            self._outbox_cipher,
            self._factor_cipher,
        )

    @property
    def lifecycle(self) -> KeyLifecycle:
        """The key lifecycle. Raises RuntimeError before `load_secret` or `open`."""
        if self._lifecycle is None:
            raise RuntimeError(_NOT_STARTED)
        return self._lifecycle

    @property
    def outbox_cipher(self) -> Cipher:
        """The cipher of outbox payloads. Raises ConfigurationError if the secret cannot be read."""
        if self._outbox_cipher is None:
            # A command may queue mail without opening the signing keys.
            self._outbox_cipher = Cipher(self._own_secrets(), use=OUTBOX_USE)
        return self._outbox_cipher

    @property
    def factor_cipher(self) -> Cipher:
        """The cipher of second factors. Raises ConfigurationError if the secret cannot be read."""
        if self._factor_cipher is None:
            self._factor_cipher = Cipher(self._own_secrets(), use=FACTOR_USE)
        return self._factor_cipher

    def cipher_for(self, use: str) -> Cipher:
        """Returns the cipher of `use`. Raises ConfigurationError if the secret cannot be read."""
        if use not in self._ciphers:
            self._ciphers[use] = Cipher(self._own_secrets(), use=use)
        return self._ciphers[use]

    @property
    def challenges(self) -> Challenges:
        """The challenges of passkeys. Raises ConfigurationError if the secret cannot be read."""
        if self._challenges is None:
            self._challenges = Challenges(self._own_secrets())
        return self._challenges

    def _own_secrets(self) -> Secrets:
        if self._secrets is None:
            self._secrets = read_secrets(self._settings)
        return self._secrets

    async def start(self) -> None:
        """Reads the keys again, and starts the background task that does so every 30 seconds.

        Call it after change notifications have started, so that no retired key is missed. Raises
        StorageUnavailable.
        """
        await self._read()
        self._task.start()

    async def stop(self) -> None:
        """Stops the background task."""
        await self._task.stop()

    async def sign_access_token(
        self,
        user: User,
        session: Session,
        *,
        issued: datetime,
        expires: datetime,
        scopes: Collection[str] | None = None,
        audience: str | None = None,
    ) -> str:
        """Returns an access token for `session` (RFC 9068), which ends with that session (`sid`).

        `scopes` are by default the effective scopes of the session; `audience` is by default this
        service (`jwt_audience`). The application adds members (`AuthAPI.claims`).

        Raises Unavailable if this process cannot decrypt the active key, the errors of the hooks,
        StorageUnavailable if it must read the keys and the database does not answer.
        """
        claims: dict[str, object] = {
            "iss": self._settings.issuer,
            "sub": str(user.id),
            "aud": audience or self._settings.jwt_audience,
            "exp": int(expires.timestamp()),
            "iat": int(issued.timestamp()),
            "jti": secrets.new_secret(),
            "client_id": FIRST_PARTY_CLIENT_ID,
            "sid": str(session.id),
            "amr": list(session.amr),
        }
        if acr := acr_of(session.amr):
            # A personal access token has neither: a service that looks at `auth_time` alone would
            # take the exchanged JWT for a recent login (RFC 9470, section 6).
            claims |= {"auth_time": int(session.auth_time.timestamp()), "acr": acr}
        if scopes is None:
            own = await self._hooks.own_scopes(user)
            scopes = effective_scopes(session.scopes, user, self._settings, own, amr=session.amr)
        if scopes:
            claims["scope"] = " ".join(sorted(scopes))
        if self._hooks.adds_claims:
            claims = {**await self._hooks.own_claims(user), **claims}
        return jws.sign(claims, await self.signing_key())

    async def signing_key(self) -> jwk.SigningKey:
        """Returns the key that signs.

        A change whose answer has a token calls it first: a process that cannot sign then refuses
        the request before the change. Raises Unavailable as `sign_access_token`.
        """
        signing = (await self.key_set()).signing
        if signing is None:
            _log.error("%s", WRONG_SECRET)
            raise Unavailable
        return signing

    async def verify_access_token(
        self, token: str, *, now: datetime, audiences: Collection[str] | None = None
    ) -> jws.VerifiedToken:
        """Returns the verified claims of an access token that this service signed.

        `audiences` is by default this service (`jwt_audience`). Raises TokenError for every token
        that it rejects, StorageUnavailable if the `kid` is unknown and the database does not
        answer. Another process may have retired the key a moment ago: the caller must check the
        key again in the statement that reads the session.
        """
        expected = jws.ValidationRules(
            issuer=self._settings.issuer,
            audiences=audiences or (self._settings.jwt_audience,),
            max_lifetime=int(self._settings.jwt_lifetime.total_seconds()),
            max_length=max(jws.MAX_LENGTH, self._settings.max_credential_bytes),
        )
        moment, key_set = now.timestamp(), self._require()
        try:
            return jws.verify(token, keys=key_set.verifying, expected=expected, now=moment)
        except UnknownKey:
            # Another process may have created the key since, or the `kid` is forged. Limit the
            # queries: an attacker may send any number of tokens.
            if time.monotonic() - self._unknown_key_at < _UNKNOWN_KEY_INTERVAL:
                raise TokenError from None
        self._unknown_key_at = time.monotonic()
        try:
            refreshed = (await self._read()).verifying
            return jws.verify(token, keys=refreshed, expected=expected, now=moment)
        except UnknownKey:
            raise TokenError from None

    async def jwk_set(self) -> dict[str, list[dict[str, str]]]:
        """Returns the public keys as a JWK Set (RFC 7517, section 5). Raises as `key_set`."""
        return (await self.key_set()).jwk_set()

    async def key_set(self) -> KeySet:
        """Returns the keys to sign with and to publish.

        Returns those in memory unless another process may have removed a key since: they are
        invalidated by the same notifications as cached identities. Raises StorageUnavailable if it
        must read the keys and the database does not answer.
        """
        key_set = self._require()
        # Call this first: it may clear the cache, which changes `flushed_at`.
        is_current = self._invalidation.is_current()
        if key_set.snapshot >= self._identity_cache.flushed_at and (
            is_current or key_set.age < self._max_staleness
        ):
            return key_set
        return await self._read(after=key_set)

    async def list_stored(self) -> Sequence[StoredKey]:
        """Returns all keys, the oldest first. Needs no secret. Raises StorageUnavailable."""
        async with self._database.read() as store:
            return await store.signing_keys.all()

    async def rotate(self, *, early: bool = False, actor: Identity | None = None) -> StoredKey:
        """Activates the next key and returns it. Raises as `KeyLifecycle.rotate`."""
        try:
            return await self.lifecycle.rotate(early=early, actor=actor)
        finally:
            self._identity_cache.clear()

    async def prune(self) -> int:
        """Deletes retired keys whose tokens have all expired. Returns the number of keys.

        Raises StorageUnavailable.
        """
        return await self.lifecycle.prune()

    def _require(self) -> KeySet:
        if self._key_set is None:
            raise RuntimeError(_NOT_STARTED)
        return self._key_set

    async def _read(self, *, after: KeySet | None = None) -> KeySet:
        async with self._read_lock:
            key_set = self._key_set
            if after is not None and key_set is not None and key_set is not after:
                return key_set  # another task read the keys while this one waited for the lock
            snapshot, read_at = self._identity_cache.snapshot(), time.monotonic()
            async with self._database.read() as store:
                stored = await store.signing_keys.all()
            if self._cipher is None:
                raise RuntimeError(_NOT_STARTED)
            self.lifecycle.note_secret(stored)
            self._key_set = load_key_set(
                stored,
                self._cipher,
                previous=key_set,
                snapshot=snapshot,
                read_at=read_at,
                now=now(),
            )
            return self._key_set

    async def _refresh(self) -> None:
        async with self._task.uninterrupted:
            await self.lifecycle.maintain()
            await self._read()

    @staticmethod
    def _log_failure(error: Exception) -> None:
        if isinstance(error, ConfigurationError):
            _log.error("%s", error)
        else:
            _log.warning("signing keys not refreshed, will retry", exc_info=error)
