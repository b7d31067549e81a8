"""Queries on `signing_keys`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.storage.models import signing_keys


class KeyState(StrEnum):
    """Where a key is in its life."""

    NEXT = "next"
    """Published, so that others know it before it signs."""
    ACTIVE = "active"
    """Signs."""
    RETIRED = "retired"
    """Signs no more; what it has signed is good until it ends."""


_STATES = frozenset(KeyState)


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A signing key as it is kept."""

    kid: str
    algorithm: str
    state: KeyState
    public_jwk: Mapping[str, str]
    private_key: bytes | None = field(repr=False)
    """Sealed; None once it signs no more."""
    created_at: datetime
    """Since when it is published."""
    activated_at: datetime | None = None
    retired_at: datetime | None = None
    published_until: datetime | None = None
    """When the last token that it signed has ended; set when it retires."""


_COLUMNS = tuple(signing_keys.c[name] for name in StoredKey.__slots__)


class SigningKeyTable:
    """Signing keys, inside one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def all(self) -> Sequence[StoredKey]:
        """Every key that there is, the oldest first: there are few."""
        statement = sa.select(*_COLUMNS).order_by(signing_keys.c.created_at, signing_keys.c.kid)
        found = []
        for kid, algorithm, state, jwk, sealed, *times in await self._connection.execute(statement):
            if state not in _STATES:
                continue  # of a release to come, or nobody's: not ours to use
            found.append(StoredKey(kid, algorithm, KeyState(state), jwk, sealed, *times))
        return found

    async def add(self, key: StoredKey) -> None:
        """Insert a key."""
        values = {name: getattr(key, name) for name in StoredKey.__slots__}
        await self._connection.execute(sa.insert(signing_keys).values(values))

    async def activate(self, kid: str, *, at: datetime) -> None:
        """Let a key sign from now on."""
        await self._update(kid, state=KeyState.ACTIVE, activated_at=at)

    async def retire(self, kid: str, *, at: datetime, published_until: datetime) -> None:
        """Let a key sign no more, and forget its private half."""
        await self._update(
            kid,
            state=KeyState.RETIRED,
            retired_at=at,
            published_until=published_until,
            private_key=None,
        )

    async def reseal(self, kid: str, private_key: bytes) -> None:
        """Replace the sealed private half."""
        await self._update(kid, private_key=private_key)

    async def remove(self, kid: str) -> None:
        """Remove a key: nothing that it signed is good any more."""
        await self._connection.execute(sa.delete(signing_keys).where(signing_keys.c.kid == kid))

    async def prune(self, *, before: datetime) -> int:
        """Remove keys that are not published any more since `before`; how many they were."""
        found = await self._connection.execute(
            sa.delete(signing_keys).where(signing_keys.c.published_until < before)
        )
        return found.rowcount

    async def _update(self, kid: str, **values: object) -> None:
        await self._connection.execute(
            sa.update(signing_keys).where(signing_keys.c.kid == kid).values(**values)
        )
