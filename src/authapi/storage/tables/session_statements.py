"""The statements on `sessions` that are built once for the tables of an installation."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

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
    with_user: sa.Select[Any]
    by_secret: sa.Select[Any]
    by_current_or_previous: sa.Select[Any]
    by_id: sa.Select[Any]
    by_signed_id: sa.Select[Any]
    by_signed_id_and_kind: sa.Select[Any]
    by_family: sa.Select[Any]
    existing: sa.Select[UUID]
    lock_unlocked: sa.Select[UUID]
    record_use: sa.Update


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
        with_user=with_user,
        by_secret=with_user.where(is_current, of_kind),
        by_current_or_previous=with_user.add_columns(is_current).where(
            of_kind, is_current | is_previous
        ),
        by_id=by_id,
        by_signed_id=by_signed_id,
        by_signed_id_and_kind=by_signed_id.where(of_kind),
        by_family=with_user.join(families, families.c.session_id == sessions.c.id).where(
            families.c.family_hash == sa.bindparam("family")
        ),
        existing=existing,
        lock_unlocked=existing.with_for_update(key_share=True, skip_locked=True),
        record_use=sa.update(sessions)
        .where(
            sessions.c.id == sa.bindparam("b_id"), sessions.c.last_seen_at < sa.bindparam("b_at")
        )
        .values(last_seen_at=sa.bindparam("b_at"), idle_expires_at=sa.bindparam("b_idle")),
    )


def expired(
    sessions: sa.Table, dialect: str, *, now: datetime, grace: timedelta, limit: int
) -> sa.Select[UUID]:
    """Returns the ids of up to `limit` sessions that expired more than `grace` ago, to lock them.

    Sessions that another transaction has locked are skipped.
    """
    batch = sa.select(sessions.c.id).where(sessions.c.expires_at < now - grace).limit(limit)
    if dialect == "postgresql":
        # The clocks of this host and of the database must agree: this host's may be wrong.
        batch = batch.where(sessions.c.expires_at < sa.func.now() - grace)
    return batch.with_for_update(skip_locked=True)
