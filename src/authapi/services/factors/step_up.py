"""Step-up: a user who is logged in proves a second factor, and the session counts as stronger."""

from collections.abc import Collection

from authapi.clock import now, now_after
from authapi.crypto.secrets import SecretHash
from authapi.domain.events import EventType
from authapi.domain.factors.authentication_context import MFA, TWO_FACTORS
from authapi.domain.identity import Identity
from authapi.domain.session import Session
from authapi.domain.user import User
from authapi.errors import InsufficientAuthentication, NotFound, WrongCode
from authapi.services.audit import Audit
from authapi.services.factors.proofs import SecondFactorProof, SecondFactorProofs, WrongSecondFactor
from authapi.services.revalidation import require_live_session
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict


class StepUp:
    """Proves the second factor of a caller again."""

    def __init__(self, database: Database, proofs: SecondFactorProofs, audit: Audit) -> None:
        self._database = database
        self._proofs = proofs
        self._audit = audit

    async def prove(
        self,
        identity: Identity,
        *,
        code: str | None = None,
        recovery_code: str | None = None,
        new_secret_hash: SecretHash | None,
    ) -> None:
        """Verifies a code of the caller's authenticator app, or a recovery code.

        The session of the caller then counts as one that has proved two factors now. The attempt is
        counted before the code is compared. The code is used up in the transaction that changes the
        session, so of several calls with one code, one succeeds. `new_secret_hash` replaces the
        secret of the session: a copy of the old one does not become stronger.

        Raises WrongCode if the code is wrong or was used, or the caller has no second factor;
        TooManyAttempts; NotFound if the account is deleted; InvalidCredential if the session of the
        caller has ended; StorageUnavailable if the database does not answer.
        """
        user = identity.user
        async with self._proofs.attempt(user, is_guessable=code is not None):
            try:
                proof = await self._proofs.check(user, code=code, recovery_code=recovery_code)
            except WrongSecondFactor:
                await self._audit.record_separately(
                    EventType.REAUTHENTICATION_REFUSED,
                    user_id=user.id,
                    session_id=identity.session_id,
                    strategy=identity.strategy,
                )
                raise WrongCode from None
        await self._use(identity, proof, new_secret_hash)

    @retry_on_conflict
    async def _use(
        self, identity: Identity, proof: SecondFactorProof, secret: SecretHash | None
    ) -> None:
        async with self._database.transaction() as store:
            if await store.users.lock(identity.user.id) is None:
                raise NotFound
            session = await require_live_session(store, identity)
            try:
                await self._proofs.use_up(store, proof)
            except WrongSecondFactor:
                raise WrongCode from None
            if session is not None:
                await record_second_factor(store, session, proof.method.amr, secret=secret)
            await self._audit.record(
                store,
                EventType.REAUTHENTICATED,
                user_id=identity.user.id,
                session_id=identity.session_id,
                strategy=identity.strategy,
                amr=[proof.method.amr],
            )


async def record_second_factor(
    store: Store, session: Session, method: str, *, secret: SecretHash | None
) -> None:
    """Records that the user of a locked session has proved a second factor now, by `method`.

    `secret` replaces that of the session; None keeps it.
    """
    # Strictly later than before: `check_same_login` tells holders of the old secret from those of
    # the new one by this time.
    at = now() if session.mfa_at is None else now_after(session.mfa_at)
    await store.sessions.set_mfa(
        session.id,
        mfa_at=at,
        amr=tuple(dict.fromkeys((*session.amr, method, MFA))),
        secret=secret,
    )


def require_second_factor(user: User, amr: Collection[str]) -> None:
    """Checks that a login by the methods `amr` has proved a second factor if `user` has one.

    Raises InsufficientAuthentication.
    """
    if user.mfa and MFA not in amr:
        raise InsufficientAuthentication(acr=TWO_FACTORS, max_age=None)
