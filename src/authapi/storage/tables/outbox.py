"""Queries on `outbox` and `last_deliveries`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.domain.outbox import OutboxCount, OutboxEntry
from authapi.storage.column_types import UTCDateTime
from authapi.storage.models import Tables
from authapi.storage.tables.statements import INSERTS

_IDS_PER_STATEMENT = 500


_COLUMNS = (
    "id",
    "kind",
    "purpose",
    "user_id",
    "payload",
    "created_at",
    "due_at",
    "expires_at",
    "attempts",
    "error",
    "failed_at",
    "receiver",
)


@cache
def _due_receivers(outbox: sa.Table) -> sa.Select[str]:
    """Returns the query for receivers with due entries: two index lookups for each receiver.

    `SELECT DISTINCT` would read all pending entries. PostgreSQL would do the same for `EXISTS` if
    it has no statistics, because it plans a join. It does not for a subquery with a limit.
    """
    kind, now = sa.bindparam("kind", type_=sa.String), sa.bindparam("now", type_=UTCDateTime)
    is_pending = (outbox.c.kind == kind, outbox.c.failed_at.is_(None))
    index_order = (outbox.c.failed_at, outbox.c.receiver, outbox.c.due_at)
    first_name = sa.select(outbox.c.receiver).where(*is_pending).order_by(*index_order).limit(1)
    receivers = sa.select(first_name.scalar_subquery().label("name")).cte(
        "receivers", recursive=True
    )
    next_name = first_name.where(outbox.c.receiver > receivers.c.name).scalar_subquery()
    receivers = receivers.union_all(sa.select(next_name).where(receivers.c.name.is_not(None)))
    due_times = sa.select(outbox.c.due_at).where(*is_pending, outbox.c.receiver == receivers.c.name)
    first_due = due_times.order_by(*index_order).limit(1).scalar_subquery()
    return sa.select(receivers.c.name).where(first_due <= now)


class OutboxTable:
    """The outbox, inside one transaction."""

    def __init__(self, connection: AsyncConnection, tables: Tables) -> None:
        self._connection = connection
        self._outbox = tables.outbox
        self._deliveries = tables.last_deliveries
        self.added = 0
        """The number of entries that this transaction has added or made due."""

    async def add(self, entry: OutboxEntry) -> None:
        """Inserts `entry`. It can be claimed after the commit."""
        self.added += 1
        await self._connection.execute(
            sa.insert(self._outbox).values(
                id=entry.id,
                kind=entry.kind,
                purpose=entry.purpose,
                user_id=entry.user_id,
                payload=entry.payload,
                created_at=entry.created_at,
                due_at=entry.due_at,
                expires_at=entry.expires_at,
                attempts=entry.attempts,
                receiver=entry.receiver,
            )
        )

    async def claim(
        self, kind: str, receiver: str = "", *, now: datetime, until: datetime, limit: int
    ) -> Sequence[OutboxEntry]:
        """Claims up to `limit` due entries of `kind` for `receiver` until `until`; returns them.

        No other process can claim them before `until`. If the process dies, they become due again
        then. On PostgreSQL, the query skips rows that another transaction has locked.
        """
        due = (
            sa.select(self._outbox.c.id)
            .where(
                self._outbox.c.kind == kind,
                self._outbox.c.receiver == receiver,
                self._outbox.c.failed_at.is_(None),
                self._outbox.c.due_at <= now,
            )
            .order_by(self._outbox.c.failed_at, self._outbox.c.due_at, self._outbox.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        ids = (await self._connection.execute(due)).scalars().all()
        if not ids:
            return ()
        claimed = await self._connection.execute(
            sa.update(self._outbox)
            .where(self._outbox.c.id.in_(ids))
            .values(due_at=until, attempts=self._outbox.c.attempts + 1)
            .returning(*(self._outbox.c[name] for name in _COLUMNS))
        )
        return sorted((OutboxEntry(*row) for row in claimed), key=lambda entry: entry.id)

    async def due_receivers(self, kind: str, *, now: datetime) -> Sequence[str]:
        """Returns the receivers of `kind` with due entries. Needs no transaction."""
        names = await self._connection.execute(
            _due_receivers(self._outbox), {"kind": kind, "now": now}
        )
        return names.scalars().all()

    async def complete(self, entry_id: UUID) -> bool:
        """Deletes an entry. Returns False if it did not exist any more."""
        result = await self._connection.execute(
            sa.delete(self._outbox).where(self._outbox.c.id == entry_id)
        )
        return result.rowcount == 1

    async def record_delivery(self, kind: str, receiver: str, *, at: datetime) -> None:
        """Records a delivery to `receiver` at the time `at`, unless a later one is recorded."""
        insert, table = INSERTS[self._connection.dialect.name](self._deliveries), self._deliveries
        await self._connection.execute(
            insert.values(kind=kind, receiver=receiver, delivered_at=at).on_conflict_do_update(
                index_elements=[table.c.kind, table.c.receiver],
                set_={"delivered_at": insert.excluded.delivered_at},
                where=table.c.delivered_at < insert.excluded.delivered_at,
            )
        )

    async def last_deliveries(self, kind: str) -> Mapping[str, datetime]:
        """Returns when each receiver last accepted an entry of `kind`."""
        table = self._deliveries
        rows = await self._connection.execute(
            sa.select(table.c.receiver, table.c.delivered_at).where(table.c.kind == kind)
        )
        return {receiver: at for receiver, at in rows}  # noqa: C416  # rows are no pairs for mypy

    async def reschedule(self, entry: OutboxEntry, *, until: datetime, error: str) -> None:
        """Sets the time of the next attempt, unless another process has claimed the entry since."""
        await self._connection.execute(
            sa.update(self._outbox)
            .where(*_as_claimed(self._outbox, entry))
            .values(due_at=until, error=error[:200])
        )

    async def mark_failed(self, entry: OutboxEntry, *, at: datetime, error: str) -> None:
        """Ends the attempts and keeps the entry for an operator to inspect.

        Does nothing if another process has claimed the entry since.
        """
        await self._connection.execute(
            sa.update(self._outbox)
            .where(*_as_claimed(self._outbox, entry))
            .values(failed_at=at, error=error[:200])
        )

    async def requeue(
        self,
        kind: str,
        *,
        at: datetime,
        expires_at: datetime,
        receiver: str | None = None,
        entry_id: UUID | None = None,
    ) -> int:
        """Makes the failed entries of `kind` due at `at`, and expire at `expires_at`.

        With `receiver` or `entry_id`, only those of that receiver, or only that entry. Returns
        their number.
        """
        ids = await self._lock_unlocked(
            *_of(self._outbox, kind, receiver, entry_id), self._outbox.c.failed_at.is_not(None)
        )
        await self._update(ids, failed_at=None, due_at=at, expires_at=expires_at, attempts=0)
        self.added += len(ids)
        return len(ids)

    async def retry_now(
        self,
        kind: str,
        *,
        at: datetime,
        unless_before: datetime,
        receiver: str | None = None,
        entry_id: UUID | None = None,
    ) -> int:
        """Makes the pending entries of `kind` due at `at`, as `requeue`. Returns their number.

        Leaves out entries that are due before `unless_before`: a process may be running them.
        """
        ids = await self._lock_unlocked(
            *_of(self._outbox, kind, receiver, entry_id),
            self._outbox.c.failed_at.is_(None),
            self._outbox.c.due_at > unless_before,
        )
        await self._update(ids, due_at=at)
        self.added += len(ids)
        return len(ids)

    async def has_due_after(self, kind: str, *, latest: Sequence[datetime]) -> bool:
        """Returns whether a pending entry of `kind` is due after the limit in `latest`.

        `latest[n]` is the limit for entries with `n` attempts; the last one is also the limit for
        more attempts.
        """
        late = sa.select(self._outbox.c.id).where(*_due_after(self._outbox, kind, latest)).limit(1)
        return (await self._connection.execute(late)).first() is not None

    async def bring_forward(
        self,
        kind: str,
        *,
        latest: Sequence[datetime],
        now: datetime,
        until: datetime,
        expires_at: datetime,
    ) -> int:
        """Makes the entries that `has_due_after` finds due at `until`. Returns their number.

        Entries without an attempt become due at `now`. All of them expire at `expires_at` at the
        latest.
        """
        ids = await self._lock_unlocked(*_due_after(self._outbox, kind, latest))
        due_at = sa.case((self._outbox.c.attempts == 0, _moment(now)), else_=_moment(until))
        expires = sa.case(
            (self._outbox.c.expires_at > expires_at, _moment(expires_at)),
            else_=self._outbox.c.expires_at,
        )
        await self._update(ids, due_at=due_at, expires_at=expires)
        return len(ids)

    async def reencrypt(self, entry_id: UUID, payload: bytes) -> None:
        """Replaces the payload by the same payload, encrypted under another secret."""
        await self._connection.execute(
            sa.update(self._outbox).where(self._outbox.c.id == entry_id).values(payload=payload)
        )

    async def exists(self, kind: str, entry_id: UUID) -> bool:
        """Returns whether there is this entry of `kind`."""
        entry = sa.select(self._outbox.c.id).where(*_of(self._outbox, kind, None, entry_id))
        return (await self._connection.execute(entry)).first() is not None

    async def counts(self, kind: str) -> Sequence[OutboxCount]:
        """Returns the numbers of pending and of failed entries of `kind`, for each receiver."""
        has_failed = self._outbox.c.failed_at.is_not(None)
        statement = (
            sa.select(
                self._outbox.c.receiver,
                has_failed,
                sa.func.count(),
                sa.func.min(self._outbox.c.created_at),
            )
            .where(self._outbox.c.kind == kind)
            .group_by(self._outbox.c.receiver, has_failed)
        )
        rows = await self._connection.execute(statement)
        return [OutboxCount(name, bool(failed), number, at) for name, failed, number, at in rows]

    async def page(
        self,
        kind: str | None = None,
        *,
        has_failed: bool | None = None,
        after: UUID | None = None,
        limit: int,
    ) -> Sequence[OutboxEntry]:
        """Returns up to `limit` entries with ids greater than `after`, the oldest first.

        With `kind`, only entries of that kind; with `has_failed`, only failed or only pending ones.
        """
        statement = (
            sa.select(*(self._outbox.c[name] for name in _COLUMNS))
            .order_by(self._outbox.c.id)
            .limit(limit)
        )
        if kind is not None:
            statement = statement.where(self._outbox.c.kind == kind)
        if has_failed is not None:
            is_pending = self._outbox.c.failed_at.is_(None)
            statement = statement.where(sa.not_(is_pending) if has_failed else is_pending)
        if after is not None:
            statement = statement.where(self._outbox.c.id > after)
        return [OutboxEntry(*row) for row in await self._connection.execute(statement)]

    async def prune(self, *, before: datetime, limit: int) -> int:
        """Deletes up to `limit` entries that ended before `before`. Returns their number.

        An entry ends when it fails, or when it expires in a service without a worker for its kind.
        """
        ended = sa.func.coalesce(self._outbox.c.failed_at, self._outbox.c.expires_at) < before
        batch = sa.select(self._outbox.c.id).where(ended).limit(limit)
        rows = await self._connection.execute(batch.with_for_update(skip_locked=True))
        if ids := rows.scalars().all():
            await self._connection.execute(
                sa.delete(self._outbox).where(self._outbox.c.id.in_(ids))
            )
        return len(ids)

    async def _lock_unlocked(self, *conditions: sa.ColumnElement[bool]) -> Sequence[UUID]:
        """Locks the matching entries that no other transaction has locked; returns their ids."""
        statement = sa.select(self._outbox.c.id).where(*conditions).order_by(self._outbox.c.id)
        rows = await self._connection.execute(statement.with_for_update(skip_locked=True))
        return rows.scalars().all()

    async def _update(self, ids: Sequence[UUID], **values: object) -> None:
        # In batches: the number of parameters of a statement is limited, the number of ids is not.
        for start in range(0, len(ids), _IDS_PER_STATEMENT):
            batch = ids[start : start + _IDS_PER_STATEMENT]
            await self._connection.execute(
                sa.update(self._outbox).where(self._outbox.c.id.in_(batch)).values(**values)
            )


def _of(
    outbox: sa.Table, kind: str, receiver: str | None, entry_id: UUID | None
) -> Sequence[sa.ColumnElement[bool]]:
    conditions = [outbox.c.kind == kind]
    if receiver is not None:
        conditions.append(outbox.c.receiver == receiver)
    if entry_id is not None:
        conditions.append(outbox.c.id == entry_id)
    return conditions


def _as_claimed(outbox: sa.Table, entry: OutboxEntry) -> Sequence[sa.ColumnElement[bool]]:
    # A worker whose lease has ended must not change an entry that another worker has claimed since.
    return (outbox.c.id == entry.id, outbox.c.attempts == entry.attempts)


def _due_after(
    outbox: sa.Table, kind: str, latest: Sequence[datetime]
) -> Sequence[sa.ColumnElement[bool]]:
    *each, last = enumerate(latest)
    bounds = [sa.and_(outbox.c.attempts == n, outbox.c.due_at > at) for n, at in each]
    bounds.append(sa.and_(outbox.c.attempts >= last[0], outbox.c.due_at > last[1]))
    # The first limit is the earliest one. Few entries are due after it, and only for these does the
    # database compare the other limits.
    earliest = outbox.c.due_at > latest[0]
    return (outbox.c.kind == kind, outbox.c.failed_at.is_(None), earliest, sa.or_(*bounds))


def _moment(at: datetime) -> sa.BindParameter[datetime]:
    return sa.literal(at, UTCDateTime)
