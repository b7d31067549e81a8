"""What happens to an account and its logins when a second factor is added.

With the first factor of an account, all its other logins end, because they have proved less than
the account asks for now.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID

from authapi.clock import now, now_after
from authapi.crypto.secrets import SecretHash
from authapi.domain.email_token import Purpose
from authapi.domain.events import EventType
from authapi.domain.factors.values import FactorMethod
from authapi.domain.identity import Identity
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User
from authapi.errors import NotFound
from authapi.services.audit import Audit
from authapi.services.factors.recovery_codes import replace_recovery_codes
from authapi.services.factors.step_up import record_second_factor
from authapi.services.mail import Mail, MailKind
from authapi.services.revalidation import require_live_session, require_second_factor
from authapi.settings import Settings
from authapi.storage import Store
from authapi.storage.tables.users import Credentials


async def lock_owner(store: Store, identity: Identity) -> Credentials:
    """Locks the account of a caller who changes its second factors, and the session.

    Raises NotFound if the account is deleted, InvalidCredential if the session has ended, and
    InsufficientAuthentication if the account has a second factor that the caller has not proved.
    """
    row = await store.users.lock(identity.user.id)
    if row is None:
        raise NotFound
    await require_live_session(store, identity)
    require_second_factor(row.user, identity.amr)
    return row


class FactorAdditions:
    """Adds second factors to accounts."""

    def __init__(self, audit: Audit, mail: Mail, settings: Settings) -> None:
        self._audit = audit
        self._mail = mail
        self._settings = settings

    async def add(
        self,
        store: Store,
        identity: Identity,
        row: Credentials,
        method: FactorMethod,
        insert: Callable[[], Awaitable[None]],
        *,
        at: datetime,
        secret: SecretHash | None,
    ) -> Sequence[str] | None:
        """Adds a factor to the account of a caller, which `row` has, locked, by `insert`.

        Returns the recovery codes if it is the first one, else None. The session counts as one that
        has proved the factor now, and `secret` replaces its own; None keeps it. Raises the errors
        of `insert`, and InvalidCredential if the session has ended.
        """
        session = await require_live_session(store, identity)
        user, is_first = row.user, not row.user.mfa
        since = at if is_first else user.mfa_since
        await store.users.set_mfa(user.id, since, at=now_after(user.updated_at))
        if is_first:
            await self._end_other_logins(store, user.id, session)
        if session is not None:
            await record_second_factor(store, session, method.amr, secret=secret)
        return await self.finish(
            store,
            user,
            method,
            insert,
            at=at,
            session_id=identity.session_id,
            strategy=identity.strategy,
        )

    async def finish(
        self,
        store: Store,
        user: User,
        method: FactorMethod,
        insert: Callable[[], Awaitable[None]],
        *,
        at: datetime,
        session_id: UUID | None,
        strategy: str,
        ticket_id: UUID | None = None,
    ) -> Sequence[str] | None:
        """Adds a factor by `insert`, and tells the owner. Logins under way end.

        `user` is locked, in the state before the change. `ticket_id` is the login that adds the
        factor, and is used up. Returns new recovery codes if the user had no factor, else None.
        Raises the errors of `insert`, and NotFound if that login has ended.
        """
        if not user.mfa:
            # A login that has proved one factor may have asked for another address.
            await store.email_tokens.delete_for_user(user.id, [Purpose.CHANGE])
        if ticket_id is not None and not await store.login_tickets.consume(ticket_id, now=at):
            raise NotFound
        await store.login_tickets.end_all(user.id)
        await insert()
        codes = None
        if not user.mfa:
            codes = await replace_recovery_codes(
                store, user.id, count=self._settings.recovery_codes, at=at
            )
        await self._audit.record(
            store,
            EventType.FACTOR_ADDED,
            user_id=user.id,
            session_id=session_id,
            strategy=strategy,
            method=method.value,
        )
        await self._mail.queue(store, MailKind.FACTOR_ADDED, user, method=method.value)
        return codes

    async def _end_other_logins(self, store: Store, user_id: UUID, session: Session | None) -> None:
        keep = () if session is None else (session.id,)
        await store.sessions.end_all(user_id, keep=keep, logins_only=True)
        # As after a change of the password: a copied refresh token must not outlive it.
        await store.refresh_families.delete_for_user(user_id)
        if session is not None and session.kind is SessionKind.JWT:
            # Without a refresh token, the session cannot outlive its current access token.
            await store.sessions.limit_expiry(session.id, now() + self._settings.jwt_lifetime)
