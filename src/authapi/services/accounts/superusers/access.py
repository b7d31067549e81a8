"""What lets a person in to an account, seen by superusers: invitations, logins, access tokens."""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.errors import NotFound
from authapi.services.audit import Audit
from authapi.services.revalidation import lock_target
from authapi.storage import Database
from authapi.storage.database import retry_on_conflict


class AccountAccess:
    """Tells and ends what lets a person in to an account, on behalf of `actor`.

    `actor` is a superuser, or None for an operator at the command line. Each change checks inside
    its transaction that the actor still is a superuser, and its event names the actor. It raises
    the errors of `lock_target`. Each call raises StorageUnavailable if the database does not
    answer.
    """

    def __init__(self, database: Database, audit: Audit) -> None:
        self._database = database
        self._audit = audit

    async def invited_among(self, users: Sequence[User]) -> Collection[UUID]:
        """Returns the ids of those accounts that can be invited again: they have no password yet.

        One query, or none if all are confirmed or deactivated.
        """
        waiting = [user.id for user in users if user.is_active and user.email_confirmed_at is None]
        if not waiting:
            return frozenset()
        async with self._database.read() as store:
            return await store.users.without_password(waiting)

    async def emails_of(self, user_ids: Collection[UUID]) -> Mapping[UUID, str]:
        """Returns the canonical addresses of those of the ids that accounts have."""
        if not user_ids:
            return {}
        async with self._database.read() as store:
            return dict(await store.users.find_owners(user_ids, ()))

    @retry_on_conflict
    async def end_login(
        self, user_id: UUID, session_id: UUID, *, actor: Identity | None = None
    ) -> None:
        """Ends one login of an account. Raises NotFound if the account has no such login."""
        await self._end(user_id, session_id, EventType.SESSION_ENDED, actor=actor)

    @retry_on_conflict
    async def end_token(
        self, user_id: UUID, token_id: UUID, *, actor: Identity | None = None
    ) -> None:
        """Ends a personal access token. Raises NotFound if the account has no such token."""
        await self._end(user_id, token_id, EventType.TOKEN_ENDED, actor=actor)

    async def _end(
        self, user_id: UUID, session_id: UUID, kind: EventType, *, actor: Identity | None
    ) -> None:
        is_token = kind is EventType.TOKEN_ENDED
        async with self._database.transaction() as store:
            await lock_target(store, user_id, actor=actor, allow_own=True)
            if not await store.sessions.end_for_user(session_id, user_id, personal=is_token):
                raise NotFound
            await self._audit.record(
                store, kind, user_id=user_id, session_id=session_id, actor=actor
            )
