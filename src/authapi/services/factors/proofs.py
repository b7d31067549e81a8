"""Verification of second factors, for a login and for a caller who proves one again.

`check` compares a code, and `use_up` uses it up in the transaction of what it allows. Between the
two, another request may use the same code: only one of them goes on.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from authapi.clock import now
from authapi.crypto.factors.recovery_codes import hash_recovery_code
from authapi.crypto.factors.totp import clean_code, matching_steps
from authapi.crypto.secrets import SecretHash
from authapi.domain.client import current_client
from authapi.domain.email_address import stored_email
from authapi.domain.events import EventType
from authapi.domain.factors.passkeys import ChallengePurpose
from authapi.domain.factors.values import FactorMethod, TOTPFactor, totp_context
from authapi.domain.user import User
from authapi.errors import (
    AuthAPIError,
    ConfigurationError,
    DecryptionFailed,
    PasskeyMismatch,
    Unavailable,
)
from authapi.services.audit import Audit
from authapi.services.audit.known_networks import known_network
from authapi.services.factors.webauthn.assertions import (
    BoundAssertion,
    PasskeyAssertions,
    ProvedPasskey,
)
from authapi.services.keys import Keys
from authapi.services.mail import Mail, MailKind
from authapi.services.rate_limits import RateLimits
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict

MAX_FAILURES = 100
"""Wrong codes in a row after which the authenticator app is closed (NIST SP 800-63B-4, section
3.2.2). A recovery code opens it again."""
_FAILURES_TOLD = 10
"""Wrong codes in a row after which the owner is told, once a day."""
_DAY = timedelta(days=1)

_log = logging.getLogger(__name__)


class WrongSecondFactor(AuthAPIError):
    """A code is wrong, or was used before. The caller turns it into a refusal."""


@dataclass(frozen=True, slots=True)
class SecondFactorProof:
    """A second factor that was verified, and is to be used up."""

    user: User
    method: FactorMethod
    factor_id: UUID | None = None
    """The authenticator app; None for a recovery code."""
    step: int = 0
    """The time step of the code of the app."""
    code: SecretHash | None = field(default=None, repr=False)
    """The hash of the recovery code."""
    passkey: ProvedPasskey | None = field(default=None, repr=False)
    """The passkey."""


class SecondFactorProofs:
    """Verifies codes of authenticator apps, passkeys and recovery codes, and uses them up.

    `keys` has the cipher of the secrets; `on_outcome` is called with the method and whether
    the code was right. Each method raises StorageUnavailable if the database does not answer.
    """

    def __init__(
        self,
        database: Database,
        keys: Keys,
        passkeys: PasskeyAssertions,
        rate_limits: RateLimits,
        audit: Audit,
        mail: Mail,
        *,
        on_outcome: Callable[[FactorMethod, bool], None] | None = None,
    ) -> None:
        self._database = database
        self._keys = keys
        self.passkeys = passkeys
        self._rate_limits = rate_limits
        self._audit = audit
        self._mail = mail
        self._on_outcome = on_outcome

    async def methods(self, store: Store, user_id: UUID) -> Sequence[FactorMethod]:
        """Returns how the user can prove a second factor."""
        found = []
        if await store.totp_factors.find(user_id) is not None:
            found.append(FactorMethod.TOTP)
        if self.passkeys.are_available and await store.passkeys.count(user_id):
            found.append(FactorMethod.PASSKEY)
        codes = await store.recovery_codes.left(user_id)
        if codes is not None and codes.left:
            found.append(FactorMethod.RECOVERY)
        return found

    @property
    def enrollable(self) -> Sequence[FactorMethod]:
        """The second factors that a user without one can add to complete a login."""
        passkey = (FactorMethod.PASSKEY,) if self.passkeys.are_available else ()
        return (FactorMethod.TOTP, *passkey)

    @asynccontextmanager
    async def attempt(self, user: User, *, is_guessable: bool) -> AsyncIterator[None]:
        """Context manager around `check`, which counts the attempt against the account.

        `is_guessable` is whether the code has few digits: recovery codes cannot be guessed, and are
        not counted. Raises TooManyAttempts instead of entering the block.
        """
        if not is_guessable:
            yield
            return
        account, client = stored_email(user.email).canonical, current_client()
        is_known = await known_network(self._database, account, client)()
        async with (
            self._audit.recording_throttled(account),
            self._rate_limits.second_factor_attempt(user.id, is_known_network=is_known),
        ):
            yield

    async def check(
        self,
        user: User,
        *,
        code: str | None = None,
        recovery_code: str | None = None,
        passkey: BoundAssertion | None = None,
    ) -> SecondFactorProof:
        """Compares a code of the authenticator app or a recovery code, or verifies a passkey.

        Raises WrongSecondFactor if it is wrong, was used before, or the user has no such factor.
        For a passkey, also raises PasskeysUnavailable.
        """
        if passkey is not None:
            return await self._check_passkey(user, passkey)
        method = FactorMethod.RECOVERY if code is None else FactorMethod.TOTP
        try:
            if code is None:
                return await self._check_recovery_code(user, recovery_code or "")
            return await self._check_totp(user, code)
        except WrongSecondFactor:
            self._count(method, is_right=False)
            raise

    async def use_up(self, store: Store, proof: SecondFactorProof) -> None:
        """Uses a factor up in the transaction of what it allows. The user is locked.

        Raises WrongSecondFactor if another transaction has used it up since `check`.
        """
        user, at = proof.user, now()
        if proof.passkey is not None:
            try:
                await self.passkeys.use_up(store, proof.passkey)
            except PasskeyMismatch:
                raise WrongSecondFactor from None
            return
        if proof.factor_id is not None:
            if not await store.totp_factors.use(proof.factor_id, step=proof.step, at=at):
                raise WrongSecondFactor
        elif proof.code is not None:
            if not await store.recovery_codes.use(user.id, proof.code, at=at):
                raise WrongSecondFactor
            await store.totp_factors.reset_failures(user.id)
            codes = await store.recovery_codes.left(user.id)
            left = 0 if codes is None else codes.left
            await self._audit.record(
                store, EventType.RECOVERY_CODE_USED, user_id=user.id, left=left
            )
            await self._mail.queue(store, MailKind.RECOVERY_CODE_USED, user, left=str(left))
        self._count(proof.method, is_right=True)

    async def lock_secret(self, store: Store) -> None:
        """Checks that what `encrypt` returns can be decrypted after a restart of this process.

        Call it first in the transaction of `store`. Raises Unavailable if the secret was changed by
        `keys rewrap` since this process started.
        """
        try:
            await self._keys.lifecycle.lock_secret(store)
        except ConfigurationError:
            _log.error("no authenticator app can be added: AUTHAPI_SECRET was changed, restart")
            raise Unavailable from None

    def encrypt(self, factor_id: UUID, secret: bytes) -> bytes:
        """Returns the secret of an authenticator app as the row `factor_id` stores it."""
        return self._keys.factor_cipher.encrypt(secret, context=totp_context(factor_id))

    def matching_step(self, factor: TOTPFactor, code: str) -> int:
        """Returns the time step that `code` belongs to, to be used up. The caller has counted it.

        Raises WrongSecondFactor if the code is wrong or was used.
        """
        return _unused_step(factor, self._decrypt(factor), code)

    def _decrypt(self, factor: TOTPFactor) -> bytes:
        try:
            return self._keys.factor_cipher.decrypt(factor.secret, context=factor.context)
        except DecryptionFailed:
            # The row was modified, or this process has not been restarted since `keys rewrap`.
            _log.error("the secret of an authenticator app cannot be decrypted")
            raise WrongSecondFactor from None

    async def _check_totp(self, user: User, code: str) -> SecondFactorProof:
        async with self._database.read() as store:
            factor = await store.totp_factors.find(user.id)
        if factor is None:
            raise WrongSecondFactor
        # The code may be right if the secret is unreadable: it is no guess that closes the app.
        secret = self._decrypt(factor)
        failures = await self._count_attempt(factor)
        try:
            if failures is None:
                raise WrongSecondFactor  # the app is closed
            step = _unused_step(factor, secret, code)
        except WrongSecondFactor:
            if failures is None or failures >= _FAILURES_TOLD:
                await self._tell_owner(user, factor)
            raise
        return SecondFactorProof(user, FactorMethod.TOTP, factor_id=factor.id, step=step)

    async def _check_passkey(self, user: User, bound: BoundAssertion) -> SecondFactorProof:
        # A step-up replaces a whole login. After a password, possession is the second factor.
        requires_verification = bound.purpose is ChallengePurpose.STEP_UP
        try:
            proved = await self.passkeys.verify(
                bound, user_id=user.id, requires_verification=requires_verification
            )
        except PasskeyMismatch:
            raise WrongSecondFactor from None
        return SecondFactorProof(user, FactorMethod.PASSKEY, passkey=proved)

    async def _check_recovery_code(self, user: User, text: str) -> SecondFactorProof:
        code = hash_recovery_code(text)
        if code is None:
            raise WrongSecondFactor
        async with self._database.read() as store:
            if not await store.recovery_codes.has_unused(user.id, code):
                raise WrongSecondFactor
        return SecondFactorProof(user, FactorMethod.RECOVERY, code=code)

    @retry_on_conflict
    async def _count_attempt(self, factor: TOTPFactor) -> int | None:
        # Before the code is compared, and committed on its own: concurrent guesses are counted too.
        # A right code sets the number back when it is used up.
        async with self._database.transaction() as store:
            return await store.totp_factors.count_attempt(factor.id, limit=MAX_FAILURES)

    @retry_on_conflict
    async def _tell_owner(self, user: User, factor: TOTPFactor) -> None:
        at = now()
        async with self._database.transaction() as store:
            await store.users.lock(user.id)
            if await store.totp_factors.set_owner_told(factor.id, at=at, before=at - _DAY):
                await self._mail.queue(store, MailKind.SECOND_FACTOR_REFUSED, user)

    def _count(self, method: FactorMethod, *, is_right: bool) -> None:
        if self._on_outcome is not None:
            self._on_outcome(method, is_right)


def _unused_step(factor: TOTPFactor, secret: bytes, code: str) -> int:
    digits = clean_code(code)
    steps = [] if digits is None else matching_steps(secret, digits, now().timestamp())
    # A code can belong to several steps of the window: the latest one that is unused counts.
    unused = [step for step in steps if step > factor.last_step]
    if not unused:
        raise WrongSecondFactor
    return max(unused)
