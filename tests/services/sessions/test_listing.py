"""The live sessions of all users, on both databases."""

from datetime import timedelta

from authapi.clock import now
from authapi.crypto.secrets import hash_secret
from authapi.services.sessions.listing import list_live
from authapi.storage import Database
from tests.storage.rows import HASH, a_session, a_user


async def test_pages_of_live_logins_and_tokens(database_url: str) -> None:
    database = Database(database_url)
    at = now()
    users = [a_user(email=f"{name}@example.com") for name in "ab"]
    later = at + timedelta(hours=1)
    kinds = (None, "one", None, "two")
    sessions = [
        a_session(users[i % 2], name=name, idle_expires_at=None, expires_at=later)
        for i, name in enumerate(kinds)
    ]
    gone = [
        a_session(users[0], name="gone", idle_expires_at=None, expires_at=at),
        a_session(users[0], name=None, idle_expires_at=at, expires_at=later),
    ]
    async with database.transaction() as store:
        for user in users:
            await store.users.add(user, email=user.email, password_hash=HASH)
        for number, session in enumerate((*sessions, *gone)):
            await store.sessions.add(session, hash_secret(f"secret {number}"))

    async def ids(personal: bool | None, **page: object) -> list[object]:
        found = await list_live(database, personal=personal, **page)  # type: ignore[arg-type]
        assert all(session.user_id == user.id for session, user in found)
        return [session.id for session, _ in found]

    newest = sorted((session.id for session in sessions), reverse=True)
    tokens = {session.id for session in sessions if session.name is not None}
    assert await ids(None) == newest
    assert await ids(True) == [key for key in newest if key in tokens]
    assert await ids(False) == [key for key in newest if key not in tokens]
    assert await ids(None, limit=2) == newest[:2]
    assert await ids(None, before=newest[1]) == newest[2:]
    await database.close()
