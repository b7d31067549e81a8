"""What an account has as second factors, their removal, and new recovery codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from authapi.clock import now
from authapi.domain.events import EventType
from authapi.domain.factors.passkeys import Passkey
from authapi.domain.factors.policy import must_have_factor
from authapi.domain.factors.values import FactorMethod, RecoveryCodesLeft, TOTPFactor
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.errors import NotFound
from authapi.services.audit import Audit
from authapi.services.factors.recovery_codes import replace_recovery_codes
from authapi.services.factors.removal import keep_or_end_mfa, tell_of_removal
from authapi.services.mail import Mail, MailKind
from authapi.services.revalidation import require_live_session, require_second_factor
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict


@dataclass(frozen=True, slots=True)
class AccountFactors:
    """The second factors of an account."""

    required: bool
    """Whether the account must have one."""
    totp: TOTPFactor | None
    """The authenticator app."""
    recovery_codes: RecoveryCodesLeft | None
    """None if codes were never made, or ended with the last factor."""
    passkeys: Sequence[Passkey] = ()
    """The oldest first."""


class FactorChanges:
    """Shows and changes the second factors of accounts.

    Each method raises StorageUnavailable if the database does not answer.
    """

    def __init__(self, database: Database, audit: Audit, mail: Mail, settings: Settings) -> None:
        self._database = database
        self._audit = audit
        self._mail = mail
        self._settings = settings

    async def overview(self, user: User) -> AccountFactors:
        """Returns the second factors of a user."""
        async with self._database.read() as store:
            return AccountFactors(
                required=must_have_factor(user, self._settings),
                totp=await store.totp_factors.find(user.id),
                passkeys=tuple(await store.passkeys.list_for_user(user.id)),
                recovery_codes=await store.recovery_codes.left(user.id),
            )

    @retry_on_conflict
    async def remove_totp(self, identity: Identity) -> None:
        """Removes the authenticator app of the caller. With the last factor, recovery codes end.

        Raises NotFound if the account has no app or is deleted, InvalidCredential if the session of
        the caller has ended, InsufficientAuthentication if the caller has proved one factor only,
        and LastFactor if the account must have a second factor.
        """
        async with self._database.transaction() as store:
            user = await self._lock(store, identity)
            await store.login_tickets.end_all(user.id)
            if not await store.totp_factors.remove_all(user.id):
                raise NotFound
            has_factor = await keep_or_end_mfa(store, user, self._settings)
            await self._record(
                store, EventType.FACTOR_REMOVED, identity, method=FactorMethod.TOTP.value
            )
            await tell_of_removal(self._mail, store, user, FactorMethod.TOTP, has_factor=has_factor)

    @retry_on_conflict
    async def new_recovery_codes(self, identity: Identity) -> Sequence[str]:
        """Replaces all recovery codes of the caller; returns the new ones.

        Raises NotFound if the account has no second factor, and otherwise as `remove_totp`.
        """
        async with self._database.transaction() as store:
            user = await self._lock(store, identity)
            if not user.mfa:
                raise NotFound
            codes = await replace_recovery_codes(
                store, user.id, count=self._settings.recovery_codes, at=now()
            )
            await self._record(store, EventType.RECOVERY_CODES_MADE, identity)
            await self._mail.queue(store, MailKind.RECOVERY_CODES_MADE, user)
        return codes

    async def _lock(self, store: Store, identity: Identity) -> User:
        row = await store.users.lock(identity.user.id)
        if row is None:
            raise NotFound
        await require_live_session(store, identity)
        require_second_factor(row.user, identity.amr)
        return row.user

    async def _record(
        self, store: Store, kind: EventType, identity: Identity, **detail: str
    ) -> None:
        session_id, strategy = identity.session_id, identity.strategy
        fields: dict[str, Any] = {"session_id": session_id, "strategy": strategy, **detail}
        await self._audit.record(store, kind, user_id=identity.user.id, **fields)
