"""The statements on `sessions` that are built once for an installation, and look-ups by them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from authapi.crypto.secrets import SecretHash
from authapi.domain.client import Client
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User
from authapi.storage.models import Tables
from authapi.storage.tables.users import user_columns

COLUMNS = (
    "id",
    "user_id",
    "kind",
    "name",
    "scopes",
    "created_at",
    "last_seen_at",
    "idle_expires_at",
    "expires_at",
    "auth_time",
    "amr",
    "ip",
    "user_agent",
    "data",
    "remembered",
    "mfa_at",
)
"""The columns of a `Session`."""


@dataclass(frozen=True, slots=True)
class SessionStatements:
    """Statements with bound parameters. Those with users select the columns of both."""

    columns: tuple[sa.Column[Any], ...]
    by_secret: sa.Select[Any]
    by_current_or_previous: sa.Select[Any]
    by_id: sa.Select[Any]
    by_signed_id: sa.Select[Any]
    by_signed_id_and_kind: sa.Select[Any]
    with_family: sa.Select[Any]
    family_hash: sa.Column[Any]
    existing: sa.Select[UUID]
    lock_unlocked: sa.Select[UUID]


@cache
def session_statements(tables: Tables) -> SessionStatements:
    """Returns the statements on these tables."""
    sessions, users, families = tables.sessions, tables.users, tables.refresh_families
    columns = tuple(sessions.c[name] for name in COLUMNS)
    with_user = sa.select(*columns, *user_columns(users)).join(
        users, users.c.id == sessions.c.user_id
    )
    of_kind = sessions.c.kind == sa.bindparam("kind")
    is_current = sessions.c.secret_hash == sa.bindparam("secret")
    # A secret is replaced when the user proves the first factor again, or the second one.
    is_recent = (sessions.c.auth_time >= sa.bindparam("since")) | (
        sessions.c.mfa_at >= sa.bindparam("since")
    )
    is_previous = (sessions.c.previous_secret_hash == sa.bindparam("secret")) & is_recent
    by_id = with_user.where(sessions.c.id == sa.bindparam("id"))
    by_signed_id = by_id.where(
        sa.exists().where(tables.signing_keys.c.kid == sa.bindparam("kid")).correlate(None)
    )
    existing = sa.select(sessions.c.id).where(
        sessions.c.id == sa.any_(sa.bindparam("ids", type_=postgresql.ARRAY(sa.Uuid)))
    )
    return SessionStatements(
        columns=columns,
        by_secret=with_user.where(is_current, of_kind),
        by_current_or_previous=with_user.add_columns(is_current).where(
            of_kind, is_current | is_previous
        ),
        by_id=by_id,
        by_signed_id=by_signed_id,
        by_signed_id_and_kind=by_signed_id.where(of_kind),
        with_family=with_user.join(families, families.c.session_id == sessions.c.id),
        family_hash=families.c.family_hash,
        existing=existing,
        lock_unlocked=existing.with_for_update(key_share=True, skip_locked=True),
    )


Rows = Callable[[sa.Select[Any], Mapping[str, object]], Awaitable[Sequence[Any]]]
"""Returns the rows of a query with bound parameters."""


class SessionLookups:
    """The look-ups of a session with its user by what a caller presents."""

    def __init__(self, rows: Rows, tables: Tables) -> None:
        self._rows, self._statements = rows, session_statements(tables)

    async def find_by_secret(
        self, secret: SecretHash, kind: SessionKind
    ) -> tuple[Session, User] | None:
        """Returns the session with this secret and its user, or None. One statement."""
        return await self._one(self._statements.by_secret, {"secret": secret, "kind": kind})

    async def find_by_current_or_previous_secret(
        self, secret: SecretHash, kind: SessionKind, *, since: datetime
    ) -> tuple[tuple[Session, User] | None, bool]:
        """Returns the session with this secret and its user, or None. One statement.

        The Boolean is True if there is no such session, but the secret is the previous one of a
        cookie session whose secret was replaced after `since`.
        """
        if kind is not SessionKind.SESSION:
            return await self.find_by_secret(secret, kind), False
        values = {"secret": secret, "kind": kind, "since": since}
        rows = await self._rows(self._statements.by_current_or_previous, values)
        for row in rows:
            if row[-1]:
                return (session_of(row[: len(COLUMNS)]), User(*row[len(COLUMNS) : -1])), False
        return None, bool(rows)

    async def find_with_user(self, session_id: UUID) -> tuple[Session, User] | None:
        """Returns the session with this id and its user, or None. One statement."""
        return await self._one(self._statements.by_id, {"id": session_id})

    async def find_by_signed_id(
        self, session_id: UUID, kind: SessionKind | None, *, kid: str
    ) -> tuple[Session, User] | None:
        """Returns `find_with_user`, or None if the key `kid` was deleted. One statement.

        `kid` is the key that signed the id. With `kind`, only a session of that kind.
        """
        if kind is None:
            return await self._one(self._statements.by_signed_id, {"id": session_id, "kid": kid})
        values = {"id": session_id, "kind": kind, "kid": kid}
        return await self._one(self._statements.by_signed_id_and_kind, values)

    async def _one(
        self, statement: sa.Select[Any], values: Mapping[str, object]
    ) -> tuple[Session, User] | None:
        # Secrets and ids are unique.
        rows = await self._rows(statement, values)
        return _session_and_user(rows[0]) if rows else None


def _session_and_user(row: Sequence[Any]) -> tuple[Session, User]:
    return session_of(row[: len(COLUMNS)]), User(*row[len(COLUMNS) :])


def session_of(row: Sequence[Any]) -> Session:
    """Returns the session in a row of `COLUMNS`."""
    key, user_id, kind, name, scopes, created, seen, idle, expires, auth, *rest = row
    amr, ip, agent, data, remembered, mfa_at = rest
    return Session(
        id=key,
        user_id=user_id,
        kind=SessionKind(kind),
        name=name,
        scopes=None if scopes is None else frozenset(scopes),
        created_at=created,
        last_seen_at=seen,
        idle_expires_at=idle,
        expires_at=expires,
        auth_time=auth,
        amr=tuple(amr),
        client=Client(ip=ip, user_agent=agent),
        data=data,
        remembered=remembered,
        mfa_at=mfa_at,
    )
