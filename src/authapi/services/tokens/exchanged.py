"""The end of one JWT for another service, which leaves the session that it came from alone.

Such a token is written down nowhere when it is minted, and its `sid` names the session of the
caller who asked for it. So the session keeps the `jti` of those that were ended, until they would
have ended by themselves, and introspection looks there. A service that verifies by our public keys
alone does not hear of it, as it hears of no other end of a token (RFC 7009, section 3).
"""

from authapi.clock import now
from authapi.errors import Overloaded
from authapi.services.tokens.presented import Presented
from authapi.storage import Store

_MOST = 1000
"""Of one session at a time."""


async def end_exchanged(store: Store, token: Presented) -> bool:
    """End `token`, a JWT for another service; False if it, or its session, has ended already.

    Raises Overloaded while too many others of its session are written down: RFC 7009, section
    2.2.1, has a client try again after 503.
    """
    if await store.sessions.lock(token.session.id) is None:
        return False
    ended, at = await store.sessions.ended_jwts(token.session.id), now().timestamp()
    live = {jti: expires for jti, expires in ended.items() if expires > at}
    if token.jti is None or token.jti in live:
        return False
    if len(live) >= _MOST:
        raise Overloaded
    ends = {**live, token.jti: token.expires_at.timestamp()}
    await store.sessions.set_ended_jwts(token.session.id, ends)
    return True
