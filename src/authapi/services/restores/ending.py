"""Ends the sessions and the one-time secrets of all accounts, as after a restore.

A restored backup has sessions, links and waiting mails that had ended or been sent since. Each
batch is a transaction of its own, which locks its accounts in the order of their ids. A run that is
interrupted, or repeated, ends what is left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from authapi.clock import now
from authapi.domain.events import EventType
from authapi.services.audit import Audit
from authapi.storage import Database
from authapi.storage.database import retry_on_conflict

_ACCOUNTS = 100
"""Accounts of one transaction. A login of one of them waits until it is committed."""
_ENTRIES = 500
"""Entries of the outbox that one transaction deletes."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What has ended."""

    sessions: int = 0
    """Logins and personal access tokens."""
    one_time_secrets: int = 0
    """Links in mails, and logins that waited for a second factor or the exchange of their code."""
    outbox_entries: int = 0
    """Mails, webhooks and requests that were not delivered yet."""


OnProgress = Callable[[Ended], None]
"""Called with what has ended until now."""


def _ignore(_: Ended) -> None:
    return None


class AllSessions:
    """Ends the sessions of all accounts. Each call raises StorageUnavailable."""

    def __init__(self, database: Database, audit: Audit) -> None:
        self._database = database
        self._audit = audit

    async def count(
        self, *, before: datetime | None = None, keep_tokens: bool = False
    ) -> tuple[int, int]:
        """Returns how many logins and how many personal access tokens `end` would end."""
        async with self._database.read() as store:
            return await store.ends.count(before=before, keep_tokens=keep_tokens)

    async def end(
        self,
        *,
        before: datetime | None = None,
        keep_tokens: bool = False,
        on_progress: OnProgress = _ignore,
    ) -> Ended:
        """Ends sessions with their refresh tokens, one-time secrets, and entries of the outbox.

        With `before`, only what was created before that time; otherwise all. Entries that are
        younger than this call stay. With `keep_tokens`, personal access tokens stay. One event
        precedes the first batch; every process hears of each batch.
        """
        started = now()
        await self._record(before, keep_tokens)
        ended, after = Ended(), None
        while (batch := await self._end_batch(after, before, keep_tokens)) is not None:
            after, sessions, secrets = batch
            ended = Ended(ended.sessions + sessions, ended.one_time_secrets + secrets)
            on_progress(ended)
        while discarded := await self._discard_batch(min(before or started, started)):
            entries = ended.outbox_entries + discarded
            ended = Ended(ended.sessions, ended.one_time_secrets, entries)
            on_progress(ended)
        return ended

    @retry_on_conflict
    async def _record(self, before: datetime | None, keep_tokens: bool) -> None:
        async with self._database.transaction() as store:
            await self._audit.record(
                store,
                EventType.ALL_SESSIONS_ENDED,
                user_id=None,
                before=None if before is None else before.isoformat(),
                kept_tokens=keep_tokens,
            )

    @retry_on_conflict
    async def _end_batch(
        self, after: UUID | None, before: datetime | None, keep_tokens: bool
    ) -> tuple[UUID, int, int] | None:
        """Returns the last account and the numbers that ended, or None if no account is left."""
        async with self._database.transaction() as store:
            owners = await store.ends.lock_owners(
                after=after, before=before, keep_tokens=keep_tokens, limit=_ACCOUNTS
            )
            if not owners:
                return None
            ended = await store.ends.end(owners, before=before, keep_tokens=keep_tokens)
        return owners[-1], *ended

    @retry_on_conflict
    async def _discard_batch(self, before: datetime) -> int:
        async with self._database.transaction() as store:
            return await store.ends.discard_entries(before=before, limit=_ENTRIES)
