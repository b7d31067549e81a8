"""Repeats the ends of credentials that a restore has undone, from events that were exported.

Nothing is granted: an account that was activated again is not activated. Each event is repeated in
a transaction of its own that also stores it under its id, so an event is never repeated twice.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from authapi.domain.client import Client
from authapi.domain.events import Event, EventType
from authapi.domain.user import User
from authapi.errors import AuthAPIError, StorageUnavailable
from authapi.services.accounts.deletion import delete_account
from authapi.services.accounts.email_tokens import REVOKED_ON_ACCOUNT_CHANGE
from authapi.services.accounts.users import (
    check_not_last_superuser,
    lock_superusers,
    next_update_time,
)
from authapi.services.audit import Audit
from authapi.services.hooks import Hooks
from authapi.services.restores.lines import RecordedEvent
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict

_ENDS_ONE = frozenset(
    {
        EventType.LOGOUT,
        EventType.SESSION_ENDED,
        EventType.TOKEN_ENDED,
        EventType.TOKEN_LEAKED,
        EventType.REFRESH_REUSE,
    }
)
_NEW_PASSWORD = frozenset(
    {EventType.PASSWORD_CHANGED, EventType.PASSWORD_RESET, EventType.INVITATION_ACCEPTED}
)
_UNDONE_BY: Mapping[EventType, EventType] = {
    EventType.ACCOUNT_DEACTIVATED: EventType.ACCOUNT_ACTIVATED,
    EventType.SUPERUSER_REVOKED: EventType.SUPERUSER_GRANTED,
}
REAPPLIED = frozenset(
    {
        *_ENDS_ONE,
        *_NEW_PASSWORD,
        *_UNDONE_BY,
        EventType.SESSIONS_ENDED,
        EventType.IDENTITY_UNLINKED,
        EventType.ACCOUNT_DELETED,
    }
)
"""The events that are repeated."""
BY_HAND = frozenset(
    {
        EventType.ALL_SESSIONS_ENDED,
        EventType.ROLES_CHANGED,
        EventType.EMAIL_CHANGED,
        EventType.EMAIL_CHANGE_REVERTED,
        EventType.FACTOR_REMOVED,
        EventType.FACTORS_RESET,
        EventType.RECOVERY_CODES_MADE,
        EventType.RECOVERY_CODE_USED,
        EventType.KEY_RETIRED,
    }
)
"""Events that took something away and cannot be repeated from what an export says."""
_LOCK = "events reapply"

OnProgress = Callable[[int, int], None]
"""Called with the number of events that are done, and of all."""


@dataclass(slots=True)
class Replayed:
    """What a replay did. It can be repeated: what is done counts as `known` then."""

    applied: Counter[EventType] = field(default_factory=Counter)
    known: int = 0
    """Events that the database has: they are older than the backup, or were repeated before."""
    without_account: int = 0
    """Events of accounts that the database does not have."""
    refused: list[tuple[RecordedEvent, str]] = field(default_factory=list)
    """Events that could not be repeated, each with the reason."""
    by_hand: Counter[EventType] = field(default_factory=Counter)
    """Events of `BY_HAND` that the database does not have."""


def _ignore(_done: int, _total: int) -> None:
    return None


class EventReplay:
    """Repeats events. `hooks` are asked before an account is deleted."""

    def __init__(self, database: Database, audit: Audit, hooks: Hooks, settings: Settings) -> None:
        self._database = database
        self._audit = audit
        self._hooks = hooks
        self._settings = settings

    async def run(
        self,
        events: Sequence[RecordedEvent],
        *,
        since: datetime,
        on_progress: OnProgress = _ignore,
    ) -> Replayed:
        """Repeats `events`, which are in the order of their times, and records that it did.

        Ends of a session end it. `sessions_ended` ends all sessions and tokens that the account had
        then. After a change of the password, the account has none until its owner chooses one with
        a mailed link, or an operator sets it. `identity_unlinked` unlinks the identity, or all that
        the account had then if the event does not name it. The other events take away what they
        took away. The hooks of the application run for each event, and may refuse it.

        Raises StorageUnavailable if the database does not answer: what was repeated until then
        stays, and another run goes on.
        """
        result, undone = Replayed(), _undone_later(events)
        chosen = [event for event in events if event.type in REAPPLIED]
        for event in events:
            if event.type in BY_HAND and not await self._is_known(event):
                result.by_hand[event.type] += 1
        for number, event in enumerate(chosen, 1):
            try:
                outcome = await self._reapply(event, is_undone=event.id in undone)
            except StorageUnavailable:
                raise
            except AuthAPIError as error:
                result.refused.append((event, str(error) or getattr(error, "title", "")))
            else:
                _count(result, event, outcome)
            on_progress(number, len(chosen))
        await self._record(since, result)
        return result

    async def _is_known(self, event: RecordedEvent) -> bool:
        async with self._database.read() as store:
            return await store.history.has(event.id)

    @retry_on_conflict
    async def _record(self, since: datetime, result: Replayed) -> None:
        async with self._database.transaction() as store:
            await self._audit.record(
                store,
                EventType.EVENTS_REAPPLIED,
                user_id=None,
                since=since.isoformat(),
                applied=result.applied.total(),
                refused=len(result.refused),
            )

    @retry_on_conflict
    async def _reapply(self, event: RecordedEvent, *, is_undone: bool) -> str:
        async with self._database.transaction() as store:
            await store.advisory_lock(_LOCK)  # two runs do not repeat one event twice
            if event.type in _UNDONE_BY or event.type is EventType.ACCOUNT_DELETED:
                await lock_superusers(store)
            user = None
            if event.user_id is not None:
                user = (await store.users.lock_all([event.user_id])).get(event.user_id)
            if await store.history.has(event.id):
                return "known"
            if user is None:
                return "without_account"
            if event.type is EventType.ACCOUNT_DELETED:
                await delete_account(store, self._audit, self._hooks, user, self._settings)
                return "applied"  # with an event of its own
            await self._apply(store, event, user, is_undone=is_undone)
            stored = _stored(event)
            await store.events.add(stored)
            if stored.type in self._hooks.event_types:
                # The tables of the application may be as old as ours.
                await self._hooks.run_event(stored, store.transaction)
        return "applied"

    async def _apply(
        self, store: Store, event: RecordedEvent, user: User, *, is_undone: bool
    ) -> None:
        kind, at = event.type, next_update_time(user)
        if kind in _ENDS_ONE:
            if event.session_id is not None:
                for personal in (True, False):
                    await store.sessions.end_for_user(event.session_id, user.id, personal=personal)
        elif kind is EventType.SUPERUSER_REVOKED:
            if not is_undone and user.is_superuser:
                await check_not_last_superuser(store, user)
                await store.users.set_superuser(user.id, False, at=at)
                # A session may have a scope that it got from the rank. All end, and not only those
                # that introspect, as after a change by an operator: an export names none.
                await store.sessions.end_all(user.id)
        elif kind is EventType.IDENTITY_UNLINKED:
            await _unlink(store, event, user)
        elif kind is EventType.SESSIONS_ENDED or is_undone:
            await store.ends.end([user.id], before=event.at, keep_tokens=False)
        else:
            # A login since the restore may have used what had been taken away: all sessions end.
            if kind in _NEW_PASSWORD:
                await store.users.set_password(user.id, None, at=at)
            else:
                await check_not_last_superuser(store, user)
            await store.sessions.end_all(user.id)
            await store.email_tokens.delete_for_user(user.id, REVOKED_ON_ACCOUNT_CHANGE)
            await store.login_tickets.end_all(user.id)
            if kind is EventType.ACCOUNT_DEACTIVATED and user.is_active:
                await store.users.set_active(user.id, False, at=at)


async def _unlink(store: Store, event: RecordedEvent, user: User) -> None:
    for linked in await store.identities.list_for_user(user.id):
        is_meant = event.identity_id == linked.id
        # A change of address that was reverted has unlinked several at once.
        is_older = event.identity_id is None and linked.created_at <= event.at
        if is_meant or is_older:
            await store.identities.end_sessions(user.id, linked.id)
            await store.login_tickets.end_all(user.id)
            await store.identities.remove(user.id, linked.id)


def _count(result: Replayed, event: RecordedEvent, outcome: str) -> None:
    if outcome == "known":
        result.known += 1
    elif outcome == "without_account":
        result.without_account += 1
    else:
        result.applied[event.type] += 1


def _undone_later(events: Sequence[RecordedEvent]) -> frozenset[UUID]:
    """Returns the ids of the events of `_UNDONE_BY` that a later event has undone."""
    granted: set[tuple[EventType, UUID | None]] = set()
    undone = set()
    for event in reversed(events):
        opposite = _UNDONE_BY.get(event.type)
        if opposite is None:
            granted.add((event.type, event.user_id))
        elif (opposite, event.user_id) in granted:
            undone.add(event.id)
    return frozenset(undone)


def _stored(event: RecordedEvent) -> Event:
    # Without the client: an export may be older than a wish of the owner to be forgotten.
    return Event(
        id=event.id,
        at=event.at,
        type=event.type,
        user_id=event.user_id,
        session_id=event.session_id,
        strategy=None,
        client=Client(),
        detail={"reapplied": True},
    )
