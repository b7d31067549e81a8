"""Step-up: a user who is logged in proves a second factor, and the session counts as stronger."""

from authapi.clock import now, now_after
from authapi.crypto.secrets import SecretHash
from authapi.domain.events import EventType
from authapi.domain.factors.authentication_context import MFA
from authapi.domain.factors.passkeys import Assertion, ChallengePurpose
from authapi.domain.identity import Identity
from authapi.domain.session import Session
from authapi.errors import NotFound, WrongCode, WrongPasskey
from authapi.services.audit import Audit
from authapi.services.factors.proofs import SecondFactorProof, SecondFactorProofs, WrongSecondFactor
from authapi.services.factors.webauthn.assertions import BoundAssertion, RequestOptions, binding_of
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
        passkey: Assertion | None = None,
        new_secret_hash: SecretHash | None,
    ) -> None:
        """Verifies a code of the caller's authenticator app, a recovery code, or a passkey.

        The session of the caller then counts as one that has proved two factors now; with a
        passkey, which is two factors by itself, also as a recent login. The attempt is
        counted before the code is compared. The code is used up in the transaction that changes the
        session, so of several calls with one code, one succeeds. `new_secret_hash` replaces the
        secret of the session: a copy of the old one does not become stronger.

        Raises WrongCode if the code is wrong or was used, or the caller has no second factor;
        WrongPasskey and PasskeysUnavailable;
        TooManyAttempts; NotFound if the account is deleted; InvalidCredential if the session of the
        caller has ended; StorageUnavailable if the database does not answer.
        """
        user = identity.user
        async with self._proofs.attempt(user, is_guessable=code is not None):
            try:
                proof = await self._proofs.check(
                    user,
                    code=code,
                    recovery_code=recovery_code,
                    passkey=None if passkey is None else _bound(passkey, identity),
                )
            except WrongSecondFactor:
                await self._audit.record_separately(
                    EventType.REAUTHENTICATION_REFUSED,
                    user_id=user.id,
                    session_id=identity.session_id,
                    strategy=identity.strategy,
                )
                if passkey is not None:
                    raise WrongPasskey from None
                raise WrongCode from None
        await self._use(identity, proof, new_secret_hash)

    async def passkey_options(self, identity: Identity, *, origin: str | None) -> RequestOptions:
        """Returns the options of a passkey of the caller, for a page of `origin`.

        Raises PasskeysUnavailable, and StorageUnavailable if the database does not answer.
        """
        return await self._proofs.passkeys.options(
            ChallengePurpose.STEP_UP,
            binding_of(identity),
            user_id=identity.user.id,
            origin=origin,
            requires_verification=True,
        )

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
                if proof.passkey is not None:
                    raise WrongPasskey from None
                raise WrongCode from None
            methods = (proof.method.amr,) if proof.passkey is None else (proof.method.amr, "user")
            if session is not None:
                await record_second_factor(store, session, *methods, secret=secret)
                if proof.passkey is not None:
                    at = now_after(session.auth_time)
                    await store.sessions.set_auth_time(session.id, auth_time=at)
            await self._audit.record(
                store,
                EventType.REAUTHENTICATED,
                user_id=identity.user.id,
                session_id=identity.session_id,
                strategy=identity.strategy,
                amr=list(methods),
            )


async def record_second_factor(
    store: Store, session: Session, *methods: str, secret: SecretHash | None
) -> None:
    """Records that the user of a locked session has proved a second factor now, by `methods`.

    `secret` replaces that of the session; None keeps it.
    """
    # Strictly later than before: `check_same_login` tells holders of the old secret from those of
    # the new one by this time.
    at = now() if session.mfa_at is None else now_after(session.mfa_at)
    await store.sessions.set_mfa(
        session.id,
        mfa_at=at,
        amr=tuple(dict.fromkeys((*session.amr, *methods, MFA))),
        secret=secret,
    )


def _bound(passkey: Assertion, identity: Identity) -> BoundAssertion:
    return BoundAssertion(passkey, ChallengePurpose.STEP_UP, binding_of(identity))
