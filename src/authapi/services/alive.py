"""Whether the session that a caller came with is alive, asked of the database once more.

A caller may have been recognised from memory, or a moment ago. That is enough to answer them, and
not enough for what outlives the answer.
"""

from uuid import UUID

from authapi.clock import now
from authapi.crypto.secrets import SecretHash
from authapi.errors import InvalidCredential
from authapi.identity import Identity, Session, SessionKind
from authapi.storage import Database, Store


async def require_alive(store: Store, identity: Identity) -> Session | None:
    """Hold the session that the caller came with until the commit. Raises InvalidCredential.

    Gives the session as it is now, or None for a caller who came without one. For what is written
    on the strength of a session: it may have ended, or got another secret, since the caller was
    recognised, and what is written now would outlive that. Lock the user first, as everybody does,
    or two of these could wait for each other.
    """
    if identity.session_id is None:
        return None
    return require_same(await store.sessions.lock(identity.session_id), identity)


def require_same(session: Session | None, identity: Identity) -> Session:
    """`session`, if it is the live one that the caller came with. Raises InvalidCredential."""
    if session is None or session.user_id != identity.user.id or session.expires_at <= now():
        raise InvalidCredential
    if session.auth_time != identity.auth_time:
        # Its owner has proved the password again and holds another secret than this caller.
        raise InvalidCredential
    return session


async def lock_owners(store: Store, user_id: UUID, secret: SecretHash, kind: SessionKind) -> None:
    """Hold the user and the owner of the session with this secret, where that is another.

    For a change that ends sessions of two accounts: both are held before, in the order of ids.
    """
    owner = await store.sessions.find_owner(secret, kind)
    if owner is not None and owner != user_id:
        await store.users.lock_all({owner, user_id})


async def require_still(database: Database, identity: Identity, *, superuser: bool = False) -> None:
    """Return if the caller may still be answered: session and account are there, as is the rank.

    For an answer that takes longer than a moment. Raises InvalidCredential.
    """
    async with database.read() as store:
        user = await store.users.find(identity.user.id)
        is_over = (
            identity.session_id is not None
            and await store.sessions.find_owner_of(identity.session_id) is None
        )
    if user is None or not user.is_active or is_over or (superuser and not user.is_superuser):
        raise InvalidCredential


async def has_ended(database: Database, identity: Identity) -> bool:
    """Whether the session that the caller came with has ended, by what was done meanwhile."""
    if identity.session_id is None:
        return False
    async with database.read() as store:
        return await store.sessions.find_owner_of(identity.session_id) is None
