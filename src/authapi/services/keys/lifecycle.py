"""The life of a signing key: made, published, signing, retired, gone.

There is always a key that signs and one that waits. The one that waits has been published long
before it is needed, so that whoever verifies has heard of it when it begins to sign, and a rotation
can be done at any time. All of it happens in transactions that take turns: any number of processes
may want the same at once, and one does it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from authapi.clock import now
from authapi.crypto import jwk
from authapi.crypto.sealing import Sealer
from authapi.errors import ConfigurationError, KeyRefused, NotFound, SealBroken
from authapi.identity import EventType
from authapi.services.audit import Audit
from authapi.services.keys.ring import context_of, opened
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.changes import EVERYBODY
from authapi.storage.tables.signing_keys import KeyState, StoredKey

PUBLISHED_FOR = timedelta(seconds=300)
"""How long a verifier may keep what it has read from us (`max-age`)."""
REREAD = timedelta(seconds=30)
"""How often each of our own processes reads the keys again."""
_NOTICE = PUBLISHED_FOR + 2 * REREAD
"""How long a key is published before it may sign: everybody has heard of it then."""
_SLACK = 2 * REREAD + timedelta(seconds=30)
"""How long another process may go on to sign with a key that is retired, and clocks may differ."""

WRONG_SECRET = (
    "the signing keys in the database are sealed with another secret than AUTHAPI_SECRET: "
    "configure that one, or, if it is lost, `authapi keys retire --all` ends all JWTs and lets the "
    "next start make new keys"
)
_TURN = "signing keys"
_PAGE = 500
OUTBOX = "outbox 1"
"""What the key is derived for that seals the outbox."""


def outbox_context(entry_id: UUID) -> str:
    """Where the payload of an entry of the outbox stands."""
    return f"outbox {entry_id}"


class KeyLifecycle:
    """Moves keys from state to state. Both sealers hold the secret of this process."""

    def __init__(
        self,
        database: Database,
        audit: Audit,
        settings: Settings,
        sealer: Sealer,
        outbox_sealer: Sealer,
    ) -> None:
        self._database = database
        self._audit = audit
        self._settings = settings
        self._sealer = sealer
        self._outbox_sealer = outbox_sealer

    async def ensure(self) -> Sequence[StoredKey]:
        """The keys that there are; the first ones are made, by one process, if there are none."""
        async with self._database.read() as store:
            found = await store.signing_keys.all()
        if _one(found, KeyState.ACTIVE) and _one(found, KeyState.NEXT):
            return found
        # Made before the transaction: an RSA key takes long, and others wait for the only writer.
        made = [await self._new() for _ in range(2)]
        async with self._database.transaction() as store:
            await store.wait_turn(_TURN)
            found = await store.signing_keys.all()
            if _one(found, KeyState.ACTIVE) is None:
                first = made.pop(0)
                await store.signing_keys.add(first)
                await store.signing_keys.activate(first.kid, at=first.created_at)
            if _one(found, KeyState.NEXT) is None:
                await store.signing_keys.add(made.pop())
            return await store.signing_keys.all()

    async def check(self) -> Sequence[StoredKey]:
        """The keys that there are. Raises ConfigurationError if another secret seals them."""
        async with self._database.read() as store:
            found = await store.signing_keys.all()
        self._require_own_secret(found)
        return found

    async def rotate(self, *, early: bool = False) -> StoredKey:
        """Let the key that waits sign, and the one that signed retire; the key that signs now.

        Raises ConfigurationError if the one that waits is so young that somebody may not have heard
        of it, unless `early`, and if another secret seals the keys.
        """
        async with self._changing() as (store, keys, made):
            return await self._rotate(store, keys, made, early=early)

    async def retire(self, kid: str) -> None:
        """End a key now: nothing that it signed is accepted from here on.

        If it signs, the one that waits takes its place, however young it is. Raises NotFound,
        ConfigurationError if another secret seals the keys.
        """
        async with self._changing() as (store, keys, made):
            key = next((key for key in keys if key.kid == kid), None)
            if key is None:
                raise NotFound
            if key.state is KeyState.ACTIVE:
                await self._rotate(store, keys, made, early=True)
            elif key.state is KeyState.NEXT:
                await store.signing_keys.add(made)
            await store.signing_keys.remove(kid)
            # Known callers may have come with what it signed.
            store.changed.add(EVERYBODY)
            await self._record(store, EventType.KEY_RETIRED, kid)

    async def maintain(self) -> StoredKey | None:
        """Do what has come due, if no other process is at it; the key that signs since, if any.

        A key that signed for `key_rotation` is followed by the next, and a key that waits for
        another algorithm than the settings have is replaced by one that fits.
        """
        async with self._database.read() as store:
            keys = await store.signing_keys.all()
        if not self._is_due(keys) and not self._is_of_another_kind(keys):
            return None
        made = await self._new()
        async with self._database.transaction() as store:
            if not await store.take_turn(_TURN):
                return None
            keys = await store.signing_keys.all()
            self._require_own_secret(keys)
            waiting = _one(keys, KeyState.NEXT)
            if waiting is not None and self._is_of_another_kind(keys):
                await store.signing_keys.remove(waiting.kid)
                await store.signing_keys.add(made)
                return None
            return await self._rotate(store, keys, made) if self._is_due(keys) else None

    async def rewrap(self, secret: bytes) -> int:
        """Seal every private key, and what waits in the outbox, under another secret.

        How many keys they are. An entry of the outbox that another secret seals stays as it is.
        Raises ConfigurationError if it is not this process's own that seals them now.
        """
        other = Sealer(secret)
        async with self._database.transaction() as store:
            await store.wait_turn(_TURN)
            count = 0
            for key in await store.signing_keys.all():
                if key.private_key is None:
                    continue
                context = context_of(key.kid)
                try:
                    plain = self._sealer.open(key.private_key, context=context)
                except SealBroken:
                    raise ConfigurationError(WRONG_SECRET) from None
                await store.signing_keys.reseal(key.kid, other.seal(plain, context=context))
                count += 1
            # Before: what is told of it waits in the outbox too.
            await self._record(store, EventType.KEYS_REWRAPPED, None)
            await self._reseal_outbox(store, Sealer(secret, use=OUTBOX))
        return count

    async def _reseal_outbox(self, store: Store, other: Sealer) -> None:
        last = None
        while entries := await store.outbox.page(after=last, limit=_PAGE):
            for entry in entries:
                context = outbox_context(entry.id)
                with contextlib.suppress(SealBroken):
                    plain = self._outbox_sealer.open(entry.payload, context=context)
                    await store.outbox.reseal(entry.id, other.seal(plain, context=context))
            last = entries[-1].id

    async def discard(self) -> int:
        """Remove every key, for when the secret is lost: all JWTs end; how many they were."""
        async with self._database.transaction() as store:
            await store.wait_turn(_TURN)
            keys = await store.signing_keys.all()
            for key in keys:
                await store.signing_keys.remove(key.kid)
                await self._record(store, EventType.KEY_RETIRED, key.kid)
            store.changed.add(EVERYBODY)
        return len(keys)

    async def prune(self) -> int:
        """Remove retired keys that nobody needs any more; how many they were."""
        async with self._database.transaction() as store:
            if not await store.take_turn(_TURN):
                return 0
            return await store.signing_keys.prune(before=now())

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[tuple[Store, Sequence[StoredKey], StoredKey]]:
        """A transaction that has the turn, the keys in it, and a new one to put in."""
        made = await self._new()
        async with self._database.transaction() as store:
            await store.wait_turn(_TURN)
            keys = await store.signing_keys.all()
            self._require_own_secret(keys)
            yield store, keys, made

    async def _rotate(
        self, store: Store, keys: Sequence[StoredKey], made: StoredKey, *, early: bool = False
    ) -> StoredKey:
        at = now()
        active, waiting = _one(keys, KeyState.ACTIVE), _one(keys, KeyState.NEXT)
        if waiting is None:
            raise ConfigurationError("there is no key that waits: start the service once")
        known_for = at - waiting.created_at
        if known_for < _NOTICE and not early:
            raise ConfigurationError(
                f"the next key is published since {int(known_for.total_seconds())} s, and others "
                f"may not have read it before {int(_NOTICE.total_seconds())} s: wait, or --early"
            )
        if active is not None:
            until = at + self._settings.jwt_lifetime + _SLACK
            await store.signing_keys.retire(active.kid, at=at, published_until=until)
        await store.signing_keys.activate(waiting.kid, at=at)
        await store.signing_keys.add(made)
        await self._record(store, EventType.KEY_ROTATED, waiting.kid)
        return waiting

    async def _new(self) -> StoredKey:
        while True:
            # In a thread: an RSA key takes a good part of a second.
            der = await asyncio.to_thread(jwk.new_private_key, self._settings.jwt_algorithm)
            verifying = jwk.read_private_key(der).verifying
            if not verifying.kid.startswith("-"):  # the command line would take it for an option
                break
        return StoredKey(
            kid=verifying.kid,
            algorithm=verifying.algorithm,
            state=KeyState.NEXT,
            public_jwk=verifying.jwk,
            private_key=self._sealer.seal(der, context=context_of(verifying.kid)),
            created_at=now(),
        )

    def _require_own_secret(self, keys: Sequence[StoredKey]) -> None:
        # What a process with an outdated secret seals, the others could not open.
        try:
            for key in keys:
                if key.private_key is not None:
                    opened(key, self._sealer)
        except (SealBroken, KeyRefused):
            raise ConfigurationError(WRONG_SECRET) from None

    def _is_due(self, keys: Sequence[StoredKey]) -> bool:
        active, waiting, at = _one(keys, KeyState.ACTIVE), _one(keys, KeyState.NEXT), now()
        return (
            active is not None
            and active.activated_at is not None
            and at - active.activated_at >= self._settings.key_rotation
            and waiting is not None
            and at - waiting.created_at >= _NOTICE
        )

    def _is_of_another_kind(self, keys: Sequence[StoredKey]) -> bool:
        waiting = _one(keys, KeyState.NEXT)
        return waiting is not None and waiting.algorithm != self._settings.jwt_algorithm

    async def _record(self, store: Store, kind: EventType, kid: str | None) -> None:
        about: dict[str, Any] = {"user_id": None} | ({} if kid is None else {"kid": kid})
        await self._audit.record(store, kind, **about)


def _one(keys: Sequence[StoredKey], state: KeyState) -> StoredKey | None:
    return next((key for key in keys if key.state is state), None)
