"""The keys that sign our JWTs: rows of the database, sealed under one configured secret.

`Keys` signs and verifies with what this process has in memory (`ring`), and reads that again in the
background; `lifecycle` moves keys from state to state; `secret` is what they are sealed under. See
`docs/decisions/0013-signing-keys-as-rows.md`.
"""

import asyncio
import logging
import time
from collections.abc import Collection
from datetime import datetime

from authapi.clock import now
from authapi.crypto import jws, secrets
from authapi.crypto.sealing import Sealer
from authapi.errors import (
    ConfigurationError,
    KeyRefused,
    SealBroken,
    TokenError,
    Unavailable,
    UnknownKey,
)
from authapi.identity import OWN_CLIENT, Session, User
from authapi.services.audit import Audit
from authapi.services.background.task import BackgroundTask
from authapi.services.callers import Coherence, KnownCallers
from authapi.services.keys.lifecycle import (
    OUTBOX,
    PUBLISHED_FOR,
    REREAD,
    WRONG_SECRET,
    KeyLifecycle,
    outbox_context,
)
from authapi.services.keys.ring import KeyRing, ring_of
from authapi.services.keys.secret import prepare_data_dir, secret_of
from authapi.services.scopes import effective_scopes
from authapi.settings import Settings
from authapi.storage import Database
from authapi.storage.tables.signing_keys import StoredKey

__all__ = ["PUBLISHED_FOR", "Keys", "outbox_context", "prepare_data_dir"]

_log = logging.getLogger(__name__)

_NOT_STARTED = "authapi is not started: run the application's lifespan"
_ASK_AGAIN_AFTER = 1.0
"""Seconds: a key that nobody knows is looked for in the table once in so long."""


class Keys:
    """Signs and verifies access tokens (RFC 9068)."""

    def __init__(
        self,
        database: Database,
        known: KnownCallers,
        coherence: Coherence,
        audit: Audit,
        settings: Settings,
    ) -> None:
        self._database = database
        self._known = known
        self._coherence = coherence
        self._audit = audit
        self._settings = settings
        self._bound = settings.known_callers_bound.total_seconds()
        self._ring: KeyRing | None = None
        self._lifecycle: KeyLifecycle | None = None
        self._sealer: Sealer | None = None
        self._outbox_sealer: Sealer | None = None
        self._asked_at = -_ASK_AGAIN_AFTER
        self._reading = asyncio.Lock()
        self._task = BackgroundTask("keys", self._run)

    async def open(self) -> None:
        """Read the keys; make the first ones if there are none.

        Raises ConfigurationError if the secret cannot be had, or is not the one that they are
        sealed with.
        """
        self.unlock()
        self._reading = asyncio.Lock()  # it belongs to the event loop that runs now
        self._ring = None
        await self.lifecycle.ensure()
        try:
            await self._read()
        except (SealBroken, KeyRefused):
            raise ConfigurationError(WRONG_SECRET) from None

    def unlock(self) -> None:
        """Take the secret of the settings: enough for `lifecycle`.

        Raises ConfigurationError if it cannot be had.
        """
        secret = secret_of(self._settings)
        self._sealer = Sealer(secret)
        self._outbox_sealer = Sealer(secret, use=OUTBOX)
        self._lifecycle = KeyLifecycle(
            self._database, self._audit, self._settings, self._sealer, self._outbox_sealer
        )

    @property
    def lifecycle(self) -> KeyLifecycle:
        """What moves keys from state to state."""
        if self._lifecycle is None:
            raise RuntimeError(_NOT_STARTED)
        return self._lifecycle

    @property
    def outbox_sealer(self) -> Sealer:
        """What the payloads of the outbox are sealed with."""
        if self._outbox_sealer is None:
            # A command may have something to tell, and need no key that signs.
            self._outbox_sealer = Sealer(secret_of(self._settings), use=OUTBOX)
        return self._outbox_sealer

    async def start(self) -> None:
        """Read them once more, now that changes are heard, and again and again from here on."""
        await self._read()
        self._task.start()

    async def stop(self) -> None:
        """End that."""
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
        """A JWT for `session`, whose `sid` makes a logout real.

        `scopes` are what the session may do now unless given, `audience` is ourselves. Raises
        Unavailable if this process can open no key that signs.
        """
        claims: dict[str, object] = {
            "iss": self._settings.issuer,
            "sub": str(user.id),
            "aud": audience or self._settings.jwt_audience,
            "exp": int(expires.timestamp()),
            "iat": int(issued.timestamp()),
            "jti": secrets.new_secret(),
            "client_id": OWN_CLIENT,
            "sid": str(session.id),
            "auth_time": int(session.auth_time.timestamp()),
            "amr": list(session.amr),
        }
        if scopes is None:
            scopes = effective_scopes(session.scopes, user, self._settings)
        if scopes:
            claims["scope"] = " ".join(sorted(scopes))
        signing = (await self.ring()).signing
        if signing is None:
            _log.error("%s", WRONG_SECRET)
            raise Unavailable
        return jws.sign(claims, signing)

    async def verify_access_token(
        self, token: str, *, now: datetime, audiences: Collection[str] | None = None
    ) -> jws.Verified:
        """What an access token that we signed says, for ourselves unless `audiences` are given.

        Raises TokenError for every refusal. The key may have been retired a moment ago by another
        process: whoever looks up the session asks for the key in the same statement.
        """
        expected = jws.Expected(
            issuer=self._settings.issuer,
            audiences=audiences or (self._settings.jwt_audience,),
            max_lifetime=int(self._settings.jwt_lifetime.total_seconds()),
            max_length=max(jws.MAX_LENGTH, self._settings.max_credential_bytes),
        )
        moment, ring = now.timestamp(), self._require()
        try:
            return jws.verify(token, keys=ring.verifying, expected=expected, now=moment)
        except UnknownKey:
            # Made by another process since we read them, or by nobody: many may claim it.
            if time.monotonic() - self._asked_at < _ASK_AGAIN_AFTER:
                raise TokenError from None
        self._asked_at = time.monotonic()
        try:
            newer = (await self._read()).verifying
            return jws.verify(token, keys=newer, expected=expected, now=moment)
        except UnknownKey:
            raise TokenError from None

    async def jwk_set(self) -> dict[str, list[dict[str, str]]]:
        """The public keys, as a JWK set (RFC 7517, section 5)."""
        return (await self.ring()).jwk_set()

    async def ring(self) -> KeyRing:
        """The keys to sign with and to publish.

        Those in memory, as long as none can have been retired at once unheard: like what is known
        of callers, and by the same announcements.
        """
        ring = self._require()
        hears = self._coherence.holds()  # first: asking may tell that everybody has changed
        if ring.number >= self._known.floor and (hears or ring.age < self._bound):
            return ring
        return await self._read(after=ring)

    async def rotate(self, *, early: bool = False) -> StoredKey:
        """Let the key that waits sign from now on; that key. Raises as `KeyLifecycle.rotate`."""
        try:
            return await self.lifecycle.rotate(early=early)
        finally:
            self._known.forget()

    async def prune(self) -> int:
        """Remove retired keys that nobody needs any more; how many they were."""
        return await self.lifecycle.prune()

    def _require(self) -> KeyRing:
        if self._ring is None:
            raise RuntimeError(_NOT_STARTED)
        return self._ring

    async def _read(self, *, after: KeyRing | None = None) -> KeyRing:
        async with self._reading:
            ring = self._ring
            if after is not None and ring is not None and ring is not after:
                return ring  # somebody read them while we waited
            number, read_at = self._known.number(), time.monotonic()
            async with self._database.read() as store:
                stored = await store.signing_keys.all()
            if self._sealer is None:
                raise RuntimeError(_NOT_STARTED)
            self._ring = ring_of(
                stored, self._sealer, before=ring, number=number, read_at=read_at, now=now()
            )
            return self._ring

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(REREAD.total_seconds())
            try:
                async with self._task.whole:
                    await self.lifecycle.maintain()
                    await self._read()
            except ConfigurationError as error:
                _log.error("%s", error)
            except Exception:
                # This task must outlive every failure of the database.
                _log.warning("signing keys not read again yet", exc_info=True)
