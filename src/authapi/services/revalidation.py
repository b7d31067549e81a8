"""Checks in the database that a caller is still valid.

The identity of a caller may come from the cache, or may have been read before the transaction. That
is sufficient to answer the request, but not for changes that outlive it, such as new credentials.
"""

from collections.abc import Collection, Mapping
from uuid import UUID

from authapi.clock import now
from authapi.crypto.secrets import SecretHash
from authapi.domain.factors.authentication_context import MFA, TWO_FACTORS
from authapi.domain.identity import Identity
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User
from authapi.errors import (
    InsufficientAuthentication,
    InvalidCredential,
    InvalidCredentials,
    NotFound,
    OwnAccount,
    SuperuserRequired,
)
from authapi.storage import Database, Store


async def lock_unchanged_user(store: Store, user_id: UUID, credentials_version: int) -> User:
    """Locks the account of a login until the commit, and returns it.

    Since a factor was verified, another transaction may have changed the password or the second
    factors, or deactivated the account, and ended all sessions. A session that begins now would
    survive that. Raises InvalidCredentials if the account is not active any longer, or has another
    `credentials_version`.
    """
    row = await store.users.lock(user_id)
    if row is None or not row.user.is_active or row.version != credentials_version:
        raise InvalidCredentials
    return row.user


async def lock_target(
    store: Store, user_id: UUID, *, actor: Identity | None, allow_own: bool
) -> User:
    """Locks and returns the account that `actor` acts on.

    Raises NotFound, OwnAccount for that of the actor unless `allow_own` is true, and as
    `lock_accounts`.
    """
    user = (await lock_accounts(store, user_id, actor=actor)).get(user_id)
    if user is None:
        raise NotFound
    if actor is not None and actor.user.id == user_id and not allow_own:
        raise OwnAccount
    return user


async def lock_accounts(
    store: Store, *user_ids: UUID, actor: Identity | None
) -> Mapping[UUID, User]:
    """Locks and returns these accounts and that of `actor`, who must still be a superuser.

    Raises as `lock_actor`.
    """
    if actor is None:
        return await store.users.lock_all(user_ids)
    return await lock_actor(store, actor, *user_ids)


async def lock_actor(store: Store, actor: Identity, *user_ids: UUID) -> dict[UUID, User]:
    """Locks and returns the account of `actor`, who must still be a superuser, and further ones.

    Call this before a change that only superusers may make: another one may have demoted `actor`
    since the request was authorized. Raises InvalidCredential if the account or the session of
    `actor` has ended, InsufficientAuthentication if the session has not proved their second factor,
    and SuperuserRequired.
    """
    locked = dict(await store.users.lock_all({*user_ids, actor.user.id}))
    user = locked.get(actor.user.id)
    if user is None or not user.is_active:
        raise InvalidCredential
    await require_live_session(store, actor)
    require_second_factor(user, actor.amr)
    if not user.is_superuser:
        raise SuperuserRequired
    return locked


def require_second_factor(user: User, amr: Collection[str]) -> None:
    """Checks that a login by the methods `amr` has proved a second factor if `user` has one.

    Raises InsufficientAuthentication.
    """
    if user.mfa and MFA not in amr:
        raise InsufficientAuthentication(acr=TWO_FACTORS, max_age=None)


async def require_live_session(store: Store, identity: Identity) -> Session | None:
    """Locks the session of the caller until the transaction ends, and returns it.

    Returns None if the credential of the caller has no session. Call this before writing anything
    that depends on the session: it may have ended, or its secret may have been replaced, since the
    caller was authenticated. Lock the user first, as all other code does: another order can lead to
    a deadlock. Raises InvalidCredential if the session is not valid for the caller any longer.
    """
    if identity.session_id is None:
        return None
    return check_same_login(await store.sessions.lock(identity.session_id), identity)


def check_same_login(session: Session | None, identity: Identity) -> Session:
    """Returns `session` if it is live, and still the login that authenticated the caller.

    Raises InvalidCredential otherwise.
    """
    if session is None or session.user_id != identity.user.id or session.expires_at <= now():
        raise InvalidCredential
    if (session.auth_time, session.mfa_at) != (identity.auth_time, identity.mfa_at):
        # The user has proved a factor again and received a new secret; the caller has the old one.
        raise InvalidCredential
    return session


async def lock_session_owners(
    store: Store, user_id: UUID, secret: SecretHash, kind: SessionKind
) -> None:
    """Locks the user and, if it is another user, the owner of the session with this secret.

    Call this before a change that ends sessions of two accounts. The rows are locked in the order
    of their ids, which prevents deadlocks. If the owner is the same user, or there is no such
    session, nothing is locked.
    """
    owner = await store.sessions.find_owner_by_secret(secret, kind)
    if owner is not None and owner != user_id:
        await store.users.lock_all({owner, user_id})


async def revalidate_caller(
    database: Database, identity: Identity, *, superuser: bool = False
) -> None:
    """Checks that the account and the session of the caller are still valid.

    With `superuser`, also check that the caller is still a superuser. For responses that are
    streamed over a longer time. Raises InvalidCredential if a check fails.
    """
    async with database.read() as store:
        user = await store.users.find(identity.user.id)
        has_ended = (
            identity.session_id is not None
            and await store.sessions.find_owner_by_id(identity.session_id) is None
        )
    if user is None or not user.is_active or has_ended or (superuser and not user.is_superuser):
        raise InvalidCredential


async def has_session_ended(database: Database, identity: Identity) -> bool:
    """Whether the session of the caller has ended since the caller was authenticated."""
    if identity.session_id is None:
        return False
    async with database.read() as store:
        return await store.sessions.find_owner_by_id(identity.session_id) is None
