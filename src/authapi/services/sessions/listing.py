"""Lists the sessions of all users, for an operator."""

from collections.abc import Sequence
from uuid import UUID

from authapi.clock import now
from authapi.domain.session import Session
from authapi.domain.user import User
from authapi.storage import Database


async def list_live(
    database: Database, *, personal: bool | None, before: UUID | None = None, limit: int = 100
) -> Sequence[tuple[Session, User]]:
    """Returns up to `limit` live sessions with their users, the newest first.

    They are older than the session `before`. With `personal`, these are personal access tokens;
    with False, logins; with None, both. Raises StorageUnavailable.
    """
    async with database.read() as store:
        return await store.live_sessions.page(
            personal=personal, now=now(), before=before, limit=limit
        )
