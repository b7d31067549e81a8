"""The lifecycle of signing keys: creation, publication, activation, retirement, removal.

There is always one active key, which signs, and one next key. The next key is published long before
it signs, so that every verifier has read it by then and a rotation is possible at any time. Every
change runs in a transaction under one advisory lock: several processes may attempt the same change,
and one of them makes it.

Every method raises StorageUnavailable if the database does not answer.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from authapi.clock import now
from authapi.crypto import jwk
from authapi.crypto.encryption import Cipher, Secrets
from authapi.domain.events import EventType
from authapi.domain.factors.values import FACTOR_USE, TOTPFactor
from authapi.domain.identity import Identity
from authapi.domain.outbox import OUTBOX_USE
from authapi.domain.signing_key import KeyState, StoredKey
from authapi.errors import (
    ConfigurationError,
    DecryptionFailed,
    KeyNotPublished,
    NotFound,
    UnsupportedKey,
)
from authapi.services.audit import Audit
from authapi.services.keys.key_set import decrypt_private_key, private_key_context
from authapi.services.revalidation import lock_actor
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.notifications import ALL_USERS
from authapi.storage.tables.factors.totp_factors import TOTPFactorTable
from authapi.storage.tables.outbox import OutboxTable

JWKS_MAX_AGE = timedelta(seconds=300)
"""How long a verifier may cache the JWK Set (`max-age`)."""
REFRESH_INTERVAL = timedelta(seconds=30)
"""How often each process of this service reads the keys again."""
_MIN_PUBLICATION = JWKS_MAX_AGE + 2 * REFRESH_INTERVAL
"""How long a key is published before it may sign, so that every verifier has read it."""
_RETIREMENT_MARGIN = 2 * REFRESH_INTERVAL + timedelta(seconds=30)
"""How long another process may still sign with a retired key, plus the skew of its clock."""

WRONG_SECRET = (
    "the signing keys in the database are encrypted with another secret than AUTHAPI_SECRET: "
    "configure that secret. If it is lost, `authapi keys retire --all` ends all JWTs, and the next "
    "start creates new keys"
)
_LOCK = "signing keys"
_PAGE_SIZE = 500


class _Reencrypted(NamedTuple):
    """How many rows were encrypted with another secret."""

    keys: int
    factors: int
    entries: int


class KeyLifecycle:
    """Moves signing keys from state to state. The ciphers use the secret of this process."""

    def __init__(
        self,
        database: Database,
        audit: Audit,
        settings: Settings,
        secrets: Secrets,
        cipher: Cipher,
        outbox_cipher: Cipher,
        factor_cipher: Cipher,
    ) -> None:
        self._database = database
        self._audit = audit
        self._settings = settings
        self._secrets = secrets
        self._cipher = cipher
        self._outbox_cipher = outbox_cipher
        self._factor_cipher = factor_cipher

    async def ensure(self) -> Sequence[StoredKey]:
        """Creates an active and a next key where they are missing. Returns all keys."""
        async with self._database.read() as store:
            keys = await store.signing_keys.all()
        if _one(keys, KeyState.ACTIVE) and _one(keys, KeyState.NEXT):
            return keys
        self.note_secret(keys)
        # Outside of the transaction: generating an RSA key would block the only writer on SQLite.
        new_keys = [await self._new_key() for _ in range(2)]
        async with self._database.transaction() as store:
            await store.advisory_lock(_LOCK)
            keys = await store.signing_keys.all()
            if _one(keys, KeyState.ACTIVE) is None:
                first = new_keys.pop(0)
                await store.signing_keys.add(first)
                await store.signing_keys.activate(first.kid, at=first.created_at)
            if _one(keys, KeyState.NEXT) is None:
                await store.signing_keys.add(new_keys.pop())
            return await store.signing_keys.all()

    def note_secret(self, keys: Sequence[StoredKey]) -> None:
        """Learns from the stored keys how far a change of the secret is.

        While one of them is under the previous secret, processes may run that have no other one.
        Without keys, no row is under any secret.
        """
        self._secrets.writes_previous = self._secrets.previous is not None and any(
            not self._cipher.is_current(key.private_key, context=private_key_context(key.kid))
            for key in keys
            if key.private_key is not None
        )

    async def note_stored(self) -> None:
        """Calls `note_secret` with the keys of the database. Raises StorageUnavailable."""
        async with self._database.read() as store:
            self.note_secret(await store.signing_keys.all())

    async def check(self) -> Sequence[StoredKey]:
        """Returns all keys. Raises ConfigurationError if another secret encrypted them."""
        async with self._database.read() as store:
            keys = await store.signing_keys.all()
        self._require_own_secret(keys)
        return keys

    async def lock_secret(self, store: Store) -> None:
        """Checks that the secret of this process is that of the database, until the commit.

        For rows that the transaction of `store` encrypts with it: `rewrap` waits for them. Call it
        first, because of the order of locks. Raises ConfigurationError.
        """
        await store.advisory_lock(_LOCK)
        self._require_own_secret(await store.signing_keys.all())

    async def rotate(self, *, early: bool = False, actor: Identity | None = None) -> StoredKey:
        """Activates the next key, retires the active one, and creates a new next key.

        `actor` is the superuser who does it, or None for an operator at the command line. Returns
        the key that signs now. Raises KeyNotPublished if verifiers may not have read the next key
        yet and `early` is False, ConfigurationError if there is no next key, or if another secret
        encrypted the keys; and as `lock_actor`.
        """
        async with self._locked_keys(actor) as (store, keys, new_key):
            return await self._rotate(store, keys, new_key, early=early, actor=actor)

    async def retire(self, kid: str, *, actor: Identity | None = None) -> None:
        """Removes a key at once: tokens that it signed are rejected from now on.

        The next key replaces an active one, even if verifiers may not have read it yet. Raises
        NotFound if no key has this `kid`, ConfigurationError if there is no next key or another
        secret encrypted the keys; and as `lock_actor` for the superuser `actor`.
        """
        async with self._locked_keys(actor) as (store, keys, new_key):
            key = next((key for key in keys if key.kid == kid), None)
            if key is None:
                raise NotFound
            if key.state is KeyState.ACTIVE:
                await self._rotate(store, keys, new_key, early=True, actor=actor)
            elif key.state is KeyState.NEXT:
                await store.signing_keys.add(new_key)
            await store.signing_keys.remove(kid)
            # Cached identities may rest on tokens that this key signed.
            store.changed.add(ALL_USERS)
            await self._record(store, EventType.KEY_RETIRED, kid, actor)

    async def maintain(self) -> StoredKey | None:
        """Rotates the keys if `key_rotation` has passed. Returns the newly active key, if any.

        Replaces the next key if its algorithm differs from the settings. Does nothing if another
        process is changing keys. Raises ConfigurationError if another secret encrypted the keys.
        """
        async with self._database.read() as store:
            keys = await store.signing_keys.all()
        if not self._is_due(keys) and not self._has_other_algorithm(keys):
            return None
        new_key = await self._new_key()
        async with self._database.transaction() as store:
            if not await store.try_advisory_lock(_LOCK):
                return None
            keys = await store.signing_keys.all()
            self._require_own_secret(keys)
            upcoming = _one(keys, KeyState.NEXT)
            if upcoming is not None and self._has_other_algorithm(keys):
                await store.signing_keys.remove(upcoming.kid)
                await store.signing_keys.add(new_key)
                return None
            return await self._rotate(store, keys, new_key) if self._is_due(keys) else None

    async def rewrap(self, secret: bytes) -> int:
        """Encrypts private keys, secrets of authenticator apps and the outbox with another secret.

        Returns the number of keys. A secret of an app, or an outbox payload, that this process
        cannot decrypt stays as it is. Raises ConfigurationError if this process cannot decrypt the
        keys.
        """
        return (await self._reencrypt(secret, rest_only=False)).keys

    async def finish_change(self) -> int:
        """Encrypts what is still under the previous secret under the configured one.

        Returns the number of rows: keys, secrets of authenticator apps and outbox entries. A
        process that has not heard of it yet may write under the previous secret for half a minute
        more: repeat it until it returns 0. Raises ConfigurationError if neither secret decrypts
        the keys.
        """
        return sum(await self._reencrypt(self._secrets.current, rest_only=True))

    async def _reencrypt(self, secret: bytes, *, rest_only: bool) -> _Reencrypted:
        new_cipher = Cipher(secret)
        async with self._database.transaction() as store:
            await store.advisory_lock(_LOCK)
            new_factor_cipher = Cipher(secret, use=FACTOR_USE)
            factors = await _reencrypt_rows(
                store.totp_factors, self._factor_cipher, new_factor_cipher, rest_only=rest_only
            )
            count = 0
            for key in await store.signing_keys.all():
                if key.private_key is None:
                    continue
                context = private_key_context(key.kid)
                if rest_only and new_cipher.is_current(key.private_key, context=context):
                    continue
                try:
                    plaintext = self._cipher.decrypt(key.private_key, context=context)
                except DecryptionFailed:
                    raise ConfigurationError(WRONG_SECRET) from None
                encrypted = new_cipher.encrypt(plaintext, context=context)
                await store.signing_keys.reencrypt(key.kid, encrypted)
                count += 1
            # Record the event before the outbox is encrypted: its webhooks are outbox entries too.
            if count or not rest_only:
                await self._record(store, EventType.KEYS_REWRAPPED, None)
            new_outbox_cipher = Cipher(secret, use=OUTBOX_USE)
            entries = await _reencrypt_rows(
                store.outbox, self._outbox_cipher, new_outbox_cipher, rest_only=rest_only
            )
            if rest_only and count:
                store.changed.add(ALL_USERS)  # the other processes read the keys again
        if rest_only:
            self._secrets.writes_previous = False
        return _Reencrypted(count, factors, entries)

    async def retire_all(self) -> int:
        """Removes every key, for a secret that is lost. All JWTs end. Returns the number of keys.

        Needs no secret: `ensure` creates new keys at the next start.
        """
        async with self._database.transaction() as store:
            await store.advisory_lock(_LOCK)
            keys = await store.signing_keys.all()
            for key in keys:
                await store.signing_keys.remove(key.kid)
                await self._record(store, EventType.KEY_RETIRED, key.kid)
            store.changed.add(ALL_USERS)
        return len(keys)

    async def prune(self) -> int:
        """Deletes retired keys whose tokens have all expired. Returns the number of keys.

        Does nothing if another process is changing keys.
        """
        async with self._database.transaction() as store:
            if not await store.try_advisory_lock(_LOCK):
                return 0
            return await store.signing_keys.prune(before=now())

    @asynccontextmanager
    async def _locked_keys(
        self, actor: Identity | None
    ) -> AsyncIterator[tuple[Store, Sequence[StoredKey], StoredKey]]:
        """Yields a transaction that holds the lock, the keys, and a new key to insert."""
        new_key = await self._new_key()
        async with self._database.transaction() as store:
            await store.advisory_lock(_LOCK)
            if actor is not None:
                await lock_actor(store, actor)
            keys = await store.signing_keys.all()
            self._require_own_secret(keys)
            yield store, keys, new_key

    async def _rotate(
        self,
        store: Store,
        keys: Sequence[StoredKey],
        new_key: StoredKey,
        *,
        early: bool = False,
        actor: Identity | None = None,
    ) -> StoredKey:
        at = now()
        active, upcoming = _one(keys, KeyState.ACTIVE), _one(keys, KeyState.NEXT)
        if upcoming is None:
            raise ConfigurationError("there is no next key: start the service once to create it")
        published_for = at - upcoming.created_at
        if published_for < _MIN_PUBLICATION and not early:
            raise KeyNotPublished(
                f"the next key has been published for {int(published_for.total_seconds())} s, and "
                f"verifiers may take {int(_MIN_PUBLICATION.total_seconds())} s to read it"
            )
        if active is not None:
            until = at + self._settings.jwt_lifetime + _RETIREMENT_MARGIN
            await store.signing_keys.retire(active.kid, at=at, published_until=until)
        await store.signing_keys.activate(upcoming.kid, at=at)
        await store.signing_keys.add(new_key)
        await self._record(store, EventType.KEY_ROTATED, upcoming.kid, actor)
        return upcoming

    async def _new_key(self) -> StoredKey:
        while True:
            # In a thread: generating an RSA key takes a good part of a second.
            der = await asyncio.to_thread(jwk.new_private_key, self._settings.jwt_algorithm)
            verifying = jwk.read_private_key(der).verifying
            if not verifying.kid.startswith("-"):  # the command line would read it as an option
                break
        return StoredKey(
            kid=verifying.kid,
            algorithm=verifying.algorithm,
            state=KeyState.NEXT,
            public_jwk=verifying.jwk,
            private_key=self._cipher.encrypt(der, context=private_key_context(verifying.kid)),
            created_at=now(),
        )

    def _require_own_secret(self, keys: Sequence[StoredKey]) -> None:
        self.note_secret(keys)
        # A process with an outdated secret must not encrypt keys that the others cannot decrypt.
        try:
            for key in keys:
                if key.private_key is not None:
                    decrypt_private_key(key, self._cipher)
        except (DecryptionFailed, UnsupportedKey):
            raise ConfigurationError(WRONG_SECRET) from None

    def _is_due(self, keys: Sequence[StoredKey]) -> bool:
        at = next_rotation(keys, every=self._settings.key_rotation)
        return at is not None and at <= now()

    def _has_other_algorithm(self, keys: Sequence[StoredKey]) -> bool:
        upcoming = _one(keys, KeyState.NEXT)
        return upcoming is not None and upcoming.algorithm != self._settings.jwt_algorithm

    async def _record(
        self, store: Store, kind: EventType, kid: str | None, actor: Identity | None = None
    ) -> None:
        fields: dict[str, Any] = {"user_id": None, "actor": actor}
        if kid is not None:
            fields["kid"] = kid
        await self._audit.record(store, kind, **fields)


def next_rotation(keys: Sequence[StoredKey], *, every: timedelta) -> datetime | None:
    """Returns when the next key begins to sign by itself; None if a key is missing.

    `every` is the setting `key_rotation`.
    """
    active, upcoming = _one(keys, KeyState.ACTIVE), _one(keys, KeyState.NEXT)
    if active is None or active.activated_at is None or upcoming is None:
        return None
    return max(active.activated_at + every, upcoming.created_at + _MIN_PUBLICATION)


def _one(keys: Sequence[StoredKey], state: KeyState) -> StoredKey | None:
    return next((key for key in keys if key.state is state), None)


async def _reencrypt_rows(
    table: TOTPFactorTable | OutboxTable, old: Cipher, new: Cipher, *, rest_only: bool
) -> int:
    """Encrypts what `old` decrypts with `new`, in all rows; returns the number of rows.

    With `rest_only`, leaves the rows that `new` has encrypted already.
    """
    last, count = None, 0
    while rows := await table.page(after=last, limit=_PAGE_SIZE):
        for row in rows:
            encrypted = row.secret if isinstance(row, TOTPFactor) else row.payload
            if rest_only and new.is_current(encrypted, context=row.context):
                continue
            with contextlib.suppress(DecryptionFailed):
                plaintext = old.decrypt(encrypted, context=row.context)
                await table.reencrypt(row.id, new.encrypt(plaintext, context=row.context))
                count += 1
        last = rows[-1].id
    return count
