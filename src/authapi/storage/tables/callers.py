"""Queries about many callers at once: whether the sessions and accounts behind them still exist.

Each statement has at most `_BATCH` parameters, below the limits of both databases.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.crypto.secrets import SecretHash
from authapi.domain.session import SessionKind
from authapi.storage.models import Tables

T = TypeVar("T")

_BATCH = 500


@dataclass(frozen=True, slots=True)
class CallerSession:
    """What decides whether a session of an active account still authenticates its holder."""

    user_id: UUID
    kind: SessionKind
    secret_hash: SecretHash | None
    auth_time: datetime
    mfa_at: datetime | None
    last_seen_at: datetime
    idle_expires_at: datetime | None
    expires_at: datetime

    @property
    def idle(self) -> timedelta | None:
        """The idle timeout, or None."""
        expires_at = self.idle_expires_at
        return None if expires_at is None else expires_at - self.last_seen_at


class CallerTable:
    """The sessions, accounts and keys of many callers, read together."""

    def __init__(self, connection: AsyncConnection, tables: Tables) -> None:
        self._connection = connection
        self._sessions, self._users = tables.sessions, tables.users
        self._keys = tables.signing_keys

    async def find_sessions(self, session_ids: Collection[UUID]) -> dict[UUID, CallerSession]:
        """Returns those of these sessions that exist and belong to an active account, by id."""
        columns = self._sessions.c
        statement = (
            sa.select(
                columns.id,
                columns.user_id,
                columns.kind,
                columns.secret_hash,
                columns.auth_time,
                columns.mfa_at,
                columns.last_seen_at,
                columns.idle_expires_at,
                columns.expires_at,
            )
            .join(self._users, self._users.c.id == columns.user_id)
            .where(self._users.c.is_active)
        )
        found = {}
        for batch in _batches(session_ids):
            rows = await self._connection.execute(statement.where(columns.id.in_(batch)))
            for key, user_id, kind, *rest in rows:
                found[key] = CallerSession(user_id, SessionKind(kind), *rest)
        return found

    async def find_credentials_versions(self, user_ids: Collection[UUID]) -> dict[UUID, int]:
        """Returns the number of credential changes of those of these accounts that are active."""
        columns = self._users.c
        statement = sa.select(columns.id, columns.credentials_version).where(columns.is_active)
        found: dict[UUID, int] = {}
        for batch in _batches(user_ids):
            rows = await self._connection.execute(statement.where(columns.id.in_(batch)))
            found.update({row.id: row.credentials_version for row in rows})
        return found

    async def find_keys(self, kids: Collection[str]) -> set[str]:
        """Returns those of these key ids that signing keys have."""
        found: set[str] = set()
        for batch in _batches(kids):
            statement = sa.select(self._keys.c.kid).where(self._keys.c.kid.in_(batch))
            found.update((await self._connection.execute(statement)).scalars())
        return found


def _batches(values: Collection[T]) -> Iterator[list[T]]:
    unique = list(dict.fromkeys(values))
    for start in range(0, len(unique), _BATCH):
        yield unique[start : start + _BATCH]
