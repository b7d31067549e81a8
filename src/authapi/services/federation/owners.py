"""The session that has begun a flow, when its credential does not come back with the browser."""

from authapi.clock import now
from authapi.domain.events import EventType
from authapi.domain.federation.flow import Flow
from authapi.domain.identity import Identity
from authapi.domain.session import SessionKind
from authapi.errors import InvalidCredential
from authapi.storage import Database

_CHANGES = (EventType.PASSWORD_CHANGED, EventType.PASSWORD_RESET, EventType.FACTOR_ADDED)
"""Events after which the owner expects that logins of before have no more effect."""


async def owner_of(database: Database, flow: Flow) -> Identity:
    """Returns the caller who has begun a flow with a bearer token.

    A browser sends no token with a callback, but it has the flow, which only the response to the
    caller could set. The identity has no scopes. Raises InvalidCredential if the session has ended,
    or has proved a factor again since the flow began, if the account has got another password or
    second factor since, or is not active any longer: the flow may be one of a copied token. Raises
    StorageUnavailable if the database does not answer.
    """
    if flow.session_id is None:
        raise InvalidCredential
    async with database.read() as store:
        found = await store.sessions.find_with_user(flow.session_id)
        if found is None:
            raise InvalidCredential
        session, user = found
        changed_at = await store.events.last_of(user.id, _CHANGES)
    if any(at is not None and at > flow.began_at for at in (changed_at, session.mfa_at)):
        raise InvalidCredential
    if session.auth_time > flow.began_at:
        raise InvalidCredential
    ends = min(session.expires_at, session.idle_expires_at or session.expires_at)
    if session.kind is not SessionKind.JWT or ends <= now() or not user.is_active:
        raise InvalidCredential
    if user.id != flow.user_id:
        raise InvalidCredential
    return Identity(
        user=user,
        strategy=flow.strategy,
        session_id=session.id,
        scopes=frozenset(),
        auth_time=session.auth_time,
        amr=session.amr,
        expires_at=session.expires_at,
        mfa_at=session.mfa_at,
    )
