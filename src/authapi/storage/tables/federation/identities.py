"""Queries on `identities`, and on the sessions that began with one."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.domain.federation.person import LinkedIdentity
from authapi.storage.models import Tables
from authapi.storage.tables.statements import INSERTS

_COLUMNS = (
    "id",
    "user_id",
    "provider",
    "issuer",
    "subject",
    "email",
    "email_verified",
    "name",
    "created_at",
    "last_login_at",
)


class IdentityTable:
    """The people at providers who may log in to accounts, in one transaction.

    Adding and removing raise `credentials_version` of the account, and add it to the changed users
    of the transaction: a login that began before does not complete after it.
    """

    def __init__(self, connection: AsyncConnection, tables: Tables, changed: set[UUID]) -> None:
        self._connection = connection
        self._table = tables.identities
        self._users = tables.users
        self._sessions = tables.sessions
        self._columns = tuple(self._table.c[name] for name in _COLUMNS)
        self._changed = changed

    async def add(
        self, identity: LinkedIdentity, *, auth_context: Mapping[str, object] | None
    ) -> bool:
        """Links an identity to its user, who must be locked; False if an account has it already.

        Of several concurrent transactions with one issuer and subject, one gets True; the others
        wait for its end.
        """
        values = {name: getattr(identity, name) for name in _COLUMNS}
        values["auth_context"] = None if auth_context is None else dict(auth_context)
        insert = INSERTS[self._connection.dialect.name](self._table).values(values)
        # A driver may not count the rows of an insert.
        added = await self._connection.scalar(
            insert.on_conflict_do_nothing(
                index_elements=[self._table.c.issuer, self._table.c.subject]
            ).returning(self._table.c.id)
        )
        if added is not None:
            await self._raise_version(identity.user_id)
        return added is not None

    async def find(self, issuer: str, subject: str) -> LinkedIdentity | None:
        """Returns the identity of this person, or None."""
        return await self._one(self._table.c.issuer == issuer, self._table.c.subject == subject)

    async def find_by_id(self, identity_id: UUID) -> LinkedIdentity | None:
        """Returns the identity with this id, or None."""
        return await self._one(self._table.c.id == identity_id)

    async def list_for_user(self, user_id: UUID) -> Sequence[LinkedIdentity]:
        """Returns the identities of a user, the oldest first."""
        statement = (
            sa.select(*self._columns)
            .where(self._table.c.user_id == user_id)
            .order_by(self._table.c.id)
        )
        return [LinkedIdentity(*row) for row in await self._connection.execute(statement)]

    async def record_login(
        self,
        identity_id: UUID,
        *,
        at: datetime,
        email: str | None,
        email_verified: bool,
        name: str | None,
        auth_context: Mapping[str, object] | None,
    ) -> bool:
        """Records a login, and what the provider says now; False if the identity is gone."""
        result = await self._connection.execute(
            sa.update(self._table)
            .where(self._table.c.id == identity_id)
            .values(
                last_login_at=at,
                email=email,
                email_verified=email_verified,
                name=name,
                auth_context=None if auth_context is None else dict(auth_context),
            )
        )
        return result.rowcount == 1

    async def remove(self, user_id: UUID, identity_id: UUID) -> bool:
        """Unlinks an identity of a user, who must be locked; False if the user has no such one.

        The sessions that began with it are ended before, by `end_sessions`.
        """
        return await self._remove(user_id, self._table.c.id == identity_id)

    async def remove_all(self, user_id: UUID) -> bool:
        """Unlinks all identities of a user, who must be locked; returns whether there was one."""
        return await self._remove(user_id)

    async def remove_since(self, user_id: UUID, since: datetime) -> bool:
        """Unlinks the identities that were linked at `since` or later; whether there was one."""
        return await self._remove(user_id, self._table.c.created_at >= since)

    async def mark_session(self, session_id: UUID, identity_id: UUID) -> None:
        """Records that a session of this transaction began with an identity."""
        await self._connection.execute(
            sa.update(self._sessions)
            .where(self._sessions.c.id == session_id)
            .values(identity_id=identity_id)
        )

    async def end_sessions(self, user_id: UUID, identity_id: UUID) -> int:
        """Deletes the sessions of a user that began with an identity. Returns their number."""
        self._changed.add(user_id)
        statement = sa.delete(self._sessions).where(
            self._sessions.c.user_id == user_id, self._sessions.c.identity_id == identity_id
        )
        ended = await self._connection.execute(statement.returning(self._sessions.c.id))
        return len(ended.scalars().all())

    async def _one(self, *conditions: sa.ColumnElement[bool]) -> LinkedIdentity | None:
        statement = sa.select(*self._columns).where(*conditions)
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else LinkedIdentity(*row)

    async def _remove(self, user_id: UUID, *conditions: sa.ColumnElement[bool]) -> bool:
        result = await self._connection.execute(
            sa.delete(self._table).where(self._table.c.user_id == user_id, *conditions)
        )
        if result.rowcount:
            await self._raise_version(user_id)
        return result.rowcount > 0

    async def _raise_version(self, user_id: UUID) -> None:
        self._changed.add(user_id)
        version = self._users.c.credentials_version
        await self._connection.execute(
            sa.update(self._users)
            .where(self._users.c.id == user_id)
            .values(credentials_version=version + 1)
        )
