"""Queries on `outbox`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.storage.models import outbox
from authapi.storage.types import UTCDateTime

_IDS_A_STATEMENT = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """Something to be done after the commit, at least once."""

    id: UUID
    """Stays the same however often it is tried."""
    kind: str
    """Who does it."""
    purpose: str
    user_id: UUID | None
    payload: bytes = field(repr=False)
    """Sealed (`crypto/sealing`)."""
    created_at: datetime
    due_at: datetime
    expires_at: datetime
    """When trying has no sense any more."""
    attempts: int = 0
    error: str | None = None
    """What went wrong the last time, in words of ours; never an address or a secret."""
    failed_at: datetime | None = None
    receiver: str = ""
    """To whom it is delivered, as a digest or a word; empty where a kind has one receiver."""


_COLUMNS = (
    outbox.c.id,
    outbox.c.kind,
    outbox.c.purpose,
    outbox.c.user_id,
    outbox.c.payload,
    outbox.c.created_at,
    outbox.c.due_at,
    outbox.c.expires_at,
    outbox.c.attempts,
    outbox.c.error,
    outbox.c.failed_at,
    outbox.c.receiver,
)


def _due_receivers() -> sa.Select[str]:
    """Receivers with due entries, found by two steps in the index for each receiver.

    `SELECT DISTINCT` would read every entry that waits, and so does PostgreSQL for `EXISTS` when it
    has no statistics: it makes a join of that, which it does not of a subquery with a limit.
    """
    kind, now = sa.bindparam("kind", type_=sa.String), sa.bindparam("now", type_=UTCDateTime)
    waiting = (outbox.c.kind == kind, outbox.c.failed_at.is_(None))
    in_order = (outbox.c.failed_at, outbox.c.receiver, outbox.c.due_at)
    names = sa.select(outbox.c.receiver).where(*waiting).order_by(*in_order).limit(1)
    found = sa.select(names.scalar_subquery().label("name")).cte("receivers", recursive=True)
    following = names.where(outbox.c.receiver > found.c.name).scalar_subquery()
    found = found.union_all(sa.select(following).where(found.c.name.is_not(None)))
    its_own = sa.select(outbox.c.due_at).where(*waiting, outbox.c.receiver == found.c.name)
    first = its_own.order_by(*in_order).limit(1).scalar_subquery()
    return sa.select(found.c.name).where(first <= now)


_DUE_RECEIVERS = _due_receivers()


class OutboxTable:
    """What is to be done, inside one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.added = 0
        """How many entries this transaction has added."""

    async def add(self, entry: Entry) -> None:
        """Insert `entry`: it will be done once the transaction is committed."""
        self.added += 1
        await self._connection.execute(
            sa.insert(outbox).values(
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
    ) -> Sequence[Entry]:
        """Up to `limit` entries of `kind` for `receiver` that are due, put off to `until`.

        Until then no other process claims them. An entry whose process has died is due again then.
        On PostgreSQL, rows that another process is claiming are passed over, not waited for.
        """
        due = (
            sa.select(outbox.c.id)
            .where(
                outbox.c.kind == kind,
                outbox.c.receiver == receiver,
                outbox.c.failed_at.is_(None),
                outbox.c.due_at <= now,
            )
            .order_by(outbox.c.failed_at, outbox.c.due_at, outbox.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        ids = (await self._connection.execute(due)).scalars().all()
        if not ids:
            return ()
        claimed = await self._connection.execute(
            sa.update(outbox)
            .where(outbox.c.id.in_(ids))
            .values(due_at=until, attempts=outbox.c.attempts + 1)
            .returning(*_COLUMNS)
        )
        return sorted((Entry(*row) for row in claimed), key=lambda entry: entry.id)

    async def due_receivers(self, kind: str, *, now: datetime) -> Sequence[str]:
        """The receivers of `kind` that have due entries; asked before a transaction is begun."""
        found = await self._connection.execute(_DUE_RECEIVERS, {"kind": kind, "now": now})
        return found.scalars().all()

    async def done(self, entry_id: UUID) -> bool:
        """Remove an entry; whether it was still there."""
        result = await self._connection.execute(sa.delete(outbox).where(outbox.c.id == entry_id))
        return result.rowcount == 1

    async def put_off(self, entry: Entry, *, until: datetime, error: str) -> None:
        """Try it again at `until`, or at once if that has passed."""
        await self._connection.execute(
            sa.update(outbox).where(*_as_claimed(entry)).values(due_at=until, error=error[:200])
        )

    async def give_up(self, entry: Entry, *, at: datetime, error: str) -> None:
        """Do not try it any more, and keep it for somebody to look at."""
        await self._connection.execute(
            sa.update(outbox).where(*_as_claimed(entry)).values(failed_at=at, error=error[:200])
        )

    async def revive(self, kind: str, *, at: datetime, expires_at: datetime) -> int:
        """Try what was given up of `kind` again, from `at` to `expires_at`; how many entries."""
        ids = await self._free(outbox.c.kind == kind, outbox.c.failed_at.is_not(None))
        await self._update(ids, failed_at=None, due_at=at, expires_at=expires_at, attempts=0)
        self.added += len(ids)
        return len(ids)

    async def hurry(self, kind: str, *, at: datetime, unless_before: datetime) -> int:
        """Try what waits for its next attempt at `at`; how many entries of `kind`.

        Those that are due before `unless_before` may be in the hands of somebody.
        """
        ids = await self._free(
            outbox.c.kind == kind, outbox.c.failed_at.is_(None), outbox.c.due_at > unless_before
        )
        await self._update(ids, due_at=at)
        self.added += len(ids)
        return len(ids)

    async def has_later(self, kind: str, *, latest: Sequence[datetime]) -> bool:
        """Whether entries of `kind` that wait are due later than `latest` of their attempts."""
        found = sa.select(outbox.c.id).where(*_later(kind, latest)).limit(1)
        return (await self._connection.execute(found)).first() is not None

    async def recall(
        self,
        kind: str,
        *,
        latest: Sequence[datetime],
        now: datetime,
        until: datetime,
        expires_at: datetime,
    ) -> int:
        """Put these off to `until`, or those without an attempt to `now`; how many entries.

        They expire at `expires_at`, if not before.
        """
        ids = await self._free(*_later(kind, latest))
        due_at = sa.case((outbox.c.attempts == 0, _moment(now)), else_=_moment(until))
        expires = sa.case(
            (outbox.c.expires_at > expires_at, _moment(expires_at)), else_=outbox.c.expires_at
        )
        await self._update(ids, due_at=due_at, expires_at=expires)
        return len(ids)

    async def reseal(self, entry_id: UUID, payload: bytes) -> None:
        """Replace the payload by the same under another secret."""
        await self._connection.execute(
            sa.update(outbox).where(outbox.c.id == entry_id).values(payload=payload)
        )

    async def page(
        self, kind: str | None = None, *, after: UUID | None = None, limit: int
    ) -> Sequence[Entry]:
        """Up to `limit` entries, the oldest first, of `kind` or of all, behind the id `after`."""
        statement = sa.select(*_COLUMNS).order_by(outbox.c.id).limit(limit)
        if kind is not None:
            statement = statement.where(outbox.c.kind == kind)
        if after is not None:
            statement = statement.where(outbox.c.id > after)
        return [Entry(*row) for row in await self._connection.execute(statement)]

    async def prune(self, *, before: datetime, limit: int) -> int:
        """Remove up to `limit` entries that ended before `before`; how many they were.

        They were given up then, or their time was over and nobody here does their kind any more.
        """
        ended = sa.func.coalesce(outbox.c.failed_at, outbox.c.expires_at) < before
        batch = sa.select(outbox.c.id).where(ended).limit(limit)
        rows = await self._connection.execute(batch.with_for_update(skip_locked=True))
        if ids := rows.scalars().all():
            await self._connection.execute(sa.delete(outbox).where(outbox.c.id.in_(ids)))
        return len(ids)

    async def _free(self, *conditions: sa.ColumnElement[bool]) -> Sequence[UUID]:
        """Lock the entries with these conditions that no other transaction holds: their ids."""
        statement = sa.select(outbox.c.id).where(*conditions).order_by(outbox.c.id)
        rows = await self._connection.execute(statement.with_for_update(skip_locked=True))
        return rows.scalars().all()

    async def _update(self, ids: Sequence[UUID], **values: object) -> None:
        # Some at a time: a statement has a limit of parameters, and these may be all there are.
        for first in range(0, len(ids), _IDS_A_STATEMENT):
            chosen = ids[first : first + _IDS_A_STATEMENT]
            await self._connection.execute(
                sa.update(outbox).where(outbox.c.id.in_(chosen)).values(**values)
            )


def _as_claimed(entry: Entry) -> Sequence[sa.ColumnElement[bool]]:
    # Whoever was slow and has lost it to somebody else has nothing to say about it any more.
    return (outbox.c.id == entry.id, outbox.c.attempts == entry.attempts)


def _later(kind: str, latest: Sequence[datetime]) -> Sequence[sa.ColumnElement[bool]]:
    # The last of `latest` is that of all further attempts.
    *each, last = enumerate(latest)
    bounds = [sa.and_(outbox.c.attempts == n, outbox.c.due_at > at) for n, at in each]
    bounds.append(sa.and_(outbox.c.attempts >= last[0], outbox.c.due_at > last[1]))
    # The first is the earliest: few entries are later, and most need no other comparison.
    earliest = outbox.c.due_at > latest[0]
    return (outbox.c.kind == kind, outbox.c.failed_at.is_(None), earliest, sa.or_(*bounds))


def _moment(at: datetime) -> sa.BindParameter[datetime]:
    return sa.literal(at, UTCDateTime)
