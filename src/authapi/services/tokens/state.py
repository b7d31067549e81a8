"""Whether a token is alive, told to those who may ask (RFC 7662), and its end (RFC 7009)."""

from authapi.clock import now
from authapi.identity import EventType, Identity, Session, SessionKind
from authapi.services.audit import Audit
from authapi.services.callers import Activity
from authapi.services.tokens.exchanged import end_exchanged
from authapi.services.tokens.presented import Presented, PresentedTokens, TokenKind
from authapi.storage import Database
from authapi.storage.conflicts import retried


class TokenStates:
    """Tells of tokens by their text, and ends them by it."""

    def __init__(
        self, database: Database, presented: PresentedTokens, activity: Activity, audit: Audit
    ) -> None:
        self._database = database
        self._presented = presented
        self._activity = activity
        self._audit = audit

    async def introspect(self, text: str) -> Presented | None:
        """What a token stands for, or None if it is good for nothing now, whatever the reason.

        Whoever asks was given it by somebody who uses it: for an access token that is a use, which
        is written down with others later. A refresh token stays as it is.
        """
        found = await self._presented.find(text)
        if found is None or found.kind is TokenKind.REPLACED or not found.user.is_active:
            return None
        if found.kind is TokenKind.ACCESS:
            self._activity.saw(found.session.id, now(), idle=found.session.idle)
        return found

    async def revoke(self, text: str, *, caller: Identity | None) -> None:
        """End the session behind a token, with every other token of it.

        A JWT for another service ends alone: it was exchanged for a credential of that session, and
        says nothing of who may end that.

        Whoever holds a token may end it, and nothing happens for what is none. One who says who
        they are ends their own only: `caller` is None for one who does not (OWASP ASVS 10.4.9). A
        refresh token that was exchanged still ends its family: whoever holds it was the client or
        has robbed it, and either is a reason.
        """
        found = await self._presented.find(text)
        if found is None or (caller is not None and caller.user.id != found.user.id):
            return
        if found.is_exchanged:
            await self._end_exchanged(found)
        else:
            await self._end(found.session)

    @retried
    async def _end_exchanged(self, token: Presented) -> None:
        async with self._database.transaction() as store:
            if await end_exchanged(store, token):
                await self._audit.record(
                    store,
                    EventType.TOKEN_ENDED,
                    user_id=token.user.id,
                    session_id=token.session.id,
                    strategy=SessionKind.JWT.value,
                    audience=token.audience,
                )

    @retried
    async def _end(self, session: Session) -> None:
        async with self._database.transaction() as store:
            if await store.sessions.end(session.id):
                await self._audit.record(
                    store,
                    EventType.LOGOUT if session.name is None else EventType.TOKEN_ENDED,
                    user_id=session.user_id,
                    session_id=session.id,
                    strategy=session.kind.value,
                )
