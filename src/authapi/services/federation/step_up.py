"""Step-up at a provider: a user who is logged in proves again there who they are."""

from datetime import datetime, timedelta

from authapi.clock import now
from authapi.crypto.secrets import SecretHash
from authapi.domain.events import EventType
from authapi.domain.factors.authentication_context import MFA
from authapi.domain.federation.flow import Flow, FlowIntent
from authapi.domain.federation.person import Person
from authapi.domain.federation.proof import FED
from authapi.domain.identity import Identity
from authapi.errors import LoginFlowInvalid, NotFound, ProviderAnswerRefused
from authapi.services.audit import Audit
from authapi.services.factors.step_up import record_second_factor
from authapi.services.federation.once import check_flow, check_unchanged, once_of
from authapi.services.federation.people import checked, is_recent
from authapi.services.revalidation import require_live_session
from authapi.storage import Database
from authapi.storage.database import retry_on_conflict

_MAX_AGE = timedelta(minutes=5)
"""How long ago the person may have authenticated at the provider."""


class FederatedStepUp:
    """Makes a session count as a recent login, because its user has logged in at a provider."""

    def __init__(self, database: Database, audit: Audit) -> None:
        self._database = database
        self._audit = audit

    async def prove(
        self,
        person: Person,
        flow: Flow,
        identity: Identity,
        *,
        new_secret_hash: SecretHash | None,
    ) -> None:
        """Makes the session of the caller as recent as the login of the person at the provider.

        The caller has begun `flow` in this session, with the intent `STEP_UP`; it is used up.
        `new_secret_hash` replaces the secret of the session; None keeps it. A provider that is
        trusted for second factors also proves one.

        Raises LoginFlowInvalid if the flow is not one of this session, has expired or was used;
        ProviderAnswerRefused if the provider does not say that the person has authenticated within
        the last five minutes, or the account is not linked to the person; InvalidCredential if the
        session has ended or has changed, or the credentials of the account since the flow began;
        NotFound if the account is deleted; StorageUnavailable if the database does not answer.
        """
        check_flow(flow, FlowIntent.STEP_UP, person, identity)
        person = checked(person)
        at = person.auth_time
        if at is None or not is_recent(person, _MAX_AGE):
            await self._refuse(person, identity, "stale")
        elif not await self._is_linked(person, identity):
            await self._refuse(person, identity, "other_person")
        else:
            await self._use(person, flow, identity, min(at, now()), new_secret_hash)

    async def _is_linked(self, person: Person, identity: Identity) -> bool:
        async with self._database.read() as store:
            found = await store.identities.find(person.issuer, person.subject)
        return found is not None and found.user_id == identity.user.id

    async def _refuse(self, person: Person, identity: Identity, reason: str) -> None:
        await self._audit.record_separately(
            EventType.REAUTHENTICATION_REFUSED,
            user_id=identity.user.id,
            session_id=identity.session_id,
            strategy=identity.strategy,
            provider=person.provider,
            reason=reason,
        )
        raise ProviderAnswerRefused(reason)

    @retry_on_conflict
    async def _use(
        self,
        person: Person,
        flow: Flow,
        identity: Identity,
        at: datetime,
        secret: SecretHash | None,
    ) -> None:
        async with self._database.transaction() as store:
            row = await store.users.lock(identity.user.id)
            if row is None:
                raise NotFound
            session = await require_live_session(store, identity)
            check_unchanged(flow, row.version)
            found = await store.identities.find(person.issuer, person.subject)
            if session is None or found is None or found.user_id != row.user.id:
                raise LoginFlowInvalid
            # Strictly later than before: `check_same_login` tells holders of the old secret from
            # those of the new one by this time.
            at = max(at, session.auth_time + timedelta(microseconds=1))
            if person.has_proved_mfa and row.user.mfa:
                await record_second_factor(store, session, FED, secret=None)
            if secret is None:
                await store.sessions.set_auth_time(session.id, auth_time=at)
            else:
                await store.sessions.replace_secret(session.id, secret, auth_time=at)
            if not await store.used_challenges.add(once_of(flow)):
                raise LoginFlowInvalid
            await self._audit.record(
                store,
                EventType.REAUTHENTICATED,
                user_id=row.user.id,
                session_id=identity.session_id,
                strategy=identity.strategy,
                amr=[FED, MFA] if person.has_proved_mfa else [FED],
                provider=person.provider,
            )
