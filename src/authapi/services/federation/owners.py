"""The session that has begun a flow, when its credential does not come back with the browser."""

from authapi.clock import now
from authapi.domain.federation.flow import Flow
from authapi.domain.identity import Identity
from authapi.domain.session import SessionKind
from authapi.errors import InvalidCredential
from authapi.storage import Database


async def owner_of(database: Database, flow: Flow) -> Identity:
    """Returns the caller who has begun a flow with a bearer token.

    A browser sends no token with a callback, but it has the flow, which only the response to the
    caller could set. The session is as strong as it is now, and the identity has no scopes. Raises
    InvalidCredential if the session has ended, or the account is not active any longer; and
    StorageUnavailable if the database does not answer.
    """
    if flow.session_id is None:
        raise InvalidCredential
    async with database.read() as store:
        found = await store.sessions.find_with_user(flow.session_id)
    if found is None:
        raise InvalidCredential
    session, user = found
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
