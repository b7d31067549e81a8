"""Queries on `signing_keys`."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.domain.signing_key import KeyState, StoredKey
from authapi.storage.models import Tables

_STATES = frozenset(KeyState)


class SigningKeyTable:
    """Signing keys, inside one transaction."""

    def __init__(self, connection: AsyncConnection, tables: Tables) -> None:
        self._connection = connection
        self._keys = tables.signing_keys

    async def all(self) -> Sequence[StoredKey]:
        """Returns all keys, the oldest first. Skips keys whose state this release does not know."""
        statement = sa.select(*(self._keys.c[name] for name in StoredKey.__slots__)).order_by(
            self._keys.c.created_at, self._keys.c.kid
        )
        keys = []
        for kid, algorithm, state, jwk, private, *times in await self._connection.execute(
            statement
        ):
            if state not in _STATES:
                continue  # probably written by a later release
            keys.append(StoredKey(kid, algorithm, KeyState(state), jwk, private, *times))
        return keys

    async def add(self, key: StoredKey) -> None:
        """Inserts a key."""
        values = {name: getattr(key, name) for name in StoredKey.__slots__}
        await self._connection.execute(sa.insert(self._keys).values(values))

    async def activate(self, kid: str, *, at: datetime) -> None:
        """Makes a key the active one, which signs."""
        await self._update(kid, state=KeyState.ACTIVE, activated_at=at)

    async def retire(self, kid: str, *, at: datetime, published_until: datetime) -> None:
        """Retires a key and deletes its private key."""
        await self._update(
            kid,
            state=KeyState.RETIRED,
            retired_at=at,
            published_until=published_until,
            private_key=None,
        )

    async def reencrypt(self, kid: str, private_key: bytes) -> None:
        """Replaces the private key by the same key, encrypted under another secret."""
        await self._update(kid, private_key=private_key)

    async def remove(self, kid: str) -> None:
        """Deletes a key. This invalidates every token that it signed."""
        await self._connection.execute(sa.delete(self._keys).where(self._keys.c.kid == kid))

    async def prune(self, *, before: datetime) -> int:
        """Deletes the keys whose publication ended before `before`. Returns their number."""
        result = await self._connection.execute(
            sa.delete(self._keys).where(self._keys.c.published_until < before)
        )
        return result.rowcount

    async def _update(self, kid: str, **values: object) -> None:
        await self._connection.execute(
            sa.update(self._keys).where(self._keys.c.kid == kid).values(**values)
        )
