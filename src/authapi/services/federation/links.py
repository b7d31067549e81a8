"""The people at providers who may log in to an account: linked, listed, shown and unlinked."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.domain.events import EventType
from authapi.domain.factors.passkeys import UsedChallenge
from authapi.domain.factors.values import SingleUse, UsedTicket
from authapi.domain.federation.flow import Flow, FlowIntent
from authapi.domain.federation.person import LinkedIdentity, Person
from authapi.domain.federation.proof import FederatedProof
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.errors import (
    IdentityTaken,
    InvalidCredentials,
    LastWayIn,
    LoginFlowInvalid,
    NotFound,
)
from authapi.services.audit import Audit
from authapi.services.factors.additions import lock_owner
from authapi.services.federation.once import check_flow, check_unchanged, once_of
from authapi.services.federation.people import checked, shown_name, told_email
from authapi.services.logins.proved import use_up
from authapi.services.mail import Mail, MailKind
from authapi.services.revalidation import lock_target
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict


class IdentityLinks:
    """Links identities to accounts. Each is linked to one account at a time.

    Each method raises StorageUnavailable if the database does not answer.
    """

    def __init__(self, database: Database, audit: Audit, mail: Mail, settings: Settings) -> None:
        self._database = database
        self._audit = audit
        self._mail = mail
        self._settings = settings

    async def list_of(self, user_id: UUID) -> Sequence[LinkedIdentity]:
        """Returns the identities of an account, the oldest first. Empty without the account."""
        async with self._database.read() as store:
            return await store.identities.list_for_user(user_id)

    async def list_as_administrator(self, user_id: UUID) -> Sequence[LinkedIdentity]:
        """Returns the identities of an account, the oldest first. Raises NotFound."""
        async with self._database.read() as store:
            if await store.users.find(user_id) is None:
                raise NotFound
            return await store.identities.list_for_user(user_id)

    @retry_on_conflict
    async def link(self, person: Person, flow: Flow, identity: Identity) -> LinkedIdentity:
        """Links a person to the account of the caller, who has begun `flow` in this session.

        Returns the link as it is if the account has it already. The flow is used up. The owner gets
        a mail. Raises LoginFlowInvalid if the flow is not a link of this session, has expired or
        was used; ProviderAnswerRefused if the person has no usable identifier; IdentityTaken if
        another account has the identity; InvalidCredential if the session has ended or has changed,
        or the credentials of the account since the flow began; InsufficientAuthentication if the
        account has a second factor that the session has not proved; and NotFound if the account is
        deleted.
        """
        check_flow(flow, FlowIntent.LINK, person, identity)
        person = checked(person)
        async with self._database.transaction() as store:
            row = await lock_owner(store, identity)
            user = row.user
            if not user.is_active:
                raise NotFound
            check_unchanged(flow, row.version)
            linked, is_new = await self._insert(store, user, person, new_id(), last_login_at=None)
            if not await store.used_challenges.add(once_of(flow)):
                raise LoginFlowInvalid
            if is_new:
                await self.tell_of_link(
                    store,
                    user,
                    person,
                    session_id=identity.session_id,
                    strategy=identity.strategy,
                )
        return linked

    @retry_on_conflict
    async def unlink(self, identity: Identity, identity_id: UUID) -> None:
        """Unlinks an identity of the caller, and ends all sessions that began with it.

        The owner gets a mail. The session of the caller ends too if it began with the identity.
        Raises NotFound if the account has no such identity or is deleted, LastWayIn if it has no
        password, no passkey to log in with, and no other identity; InvalidCredential if the
        session has ended, and InsufficientAuthentication if the account has a second factor that
        the session has not proved.
        """
        async with self._database.transaction() as store:
            row = await lock_owner(store, identity)
            found = await _find(store, row.user.id, identity_id)
            has_password = row.password_hash is not None
            if not has_password and not await self._has_other_way_in(store, row.user, identity_id):
                raise LastWayIn
            await self._remove(store, row.user, found, by=identity)

    @retry_on_conflict
    async def unlink_as_administrator(
        self, user_id: UUID, identity_id: UUID, *, actor: Identity | None
    ) -> None:
        """Unlinks an identity of another account, also its last way in; the owner gets a mail.

        The owner can still choose a password by mail. `actor` is the superuser who asks for it;
        None stands for an operator at the command line. Raises NotFound if there is no such account
        or identity, OwnAccount for that of the actor, InvalidCredential if the account or session
        of the actor has ended, InsufficientAuthentication if the session has not proved their
        second factor, and SuperuserRequired.
        """
        async with self._database.transaction() as store:
            user = await lock_target(store, user_id, actor=actor, allow_own=False)
            found = await _find(store, user.id, identity_id)
            await self._remove(store, user, found, actor=actor)

    async def finish(
        self, store: Store, user: User, proof: FederatedProof, once: SingleUse | None
    ) -> None:
        """Completes a login with an identity, in the transaction that begins its session.

        Links the identity if it is not linked yet, and records the login. `once` is used up. The
        user is locked. Raises LoginFlowInvalid if `once` was used, IdentityTaken if another account
        has the identity, InvalidCredentials if it was unlinked.
        """
        if isinstance(once, UsedTicket) and not await use_up(store, once):
            raise LoginFlowInvalid  # first, in the order of locks
        at, person, is_new = now(), proof.person, False
        if proof.is_linked:
            is_there = await store.identities.record_login(
                proof.identity_id,
                at=at,
                email=told_email(person),
                email_verified=person.email_verified,
                name=shown_name(person),
                auth_context=auth_context_of(person),
            )
            if not is_there:
                raise InvalidCredentials
        else:
            _, is_new = await self._insert(store, user, person, proof.identity_id, last_login_at=at)
        if isinstance(once, UsedChallenge) and not await use_up(store, once):
            raise LoginFlowInvalid
        if is_new:
            await self.tell_of_link(store, user, person)

    async def add(
        self, store: Store, user: User, person: Person, identity_id: UUID
    ) -> LinkedIdentity:
        """Links a person to an account, which is new or locked, without telling the owner.

        Raises IdentityTaken if an account has the identity.
        """
        linked, is_new = await self._insert(store, user, person, identity_id, last_login_at=None)
        if not is_new:
            raise IdentityTaken
        return linked

    async def tell_of_link(
        self,
        store: Store,
        user: User,
        person: Person,
        *,
        session_id: UUID | None = None,
        strategy: str | None = None,
    ) -> None:
        """Records that a person was linked to an account, and queues the mail to the owner."""
        await self._audit.record(
            store,
            EventType.IDENTITY_LINKED,
            user_id=user.id,
            session_id=session_id,
            strategy=strategy,
            provider=person.provider,
        )
        await self._write_to(store, user, MailKind.IDENTITY_LINKED, person.provider)

    async def _insert(
        self,
        store: Store,
        user: User,
        person: Person,
        identity_id: UUID,
        *,
        last_login_at: datetime | None,
    ) -> tuple[LinkedIdentity, bool]:
        """Returns the link, and whether it is new. Raises IdentityTaken."""
        linked = LinkedIdentity(
            id=identity_id,
            user_id=user.id,
            provider=person.provider,
            issuer=person.issuer,
            subject=person.subject,
            email=told_email(person),
            email_verified=person.email_verified,
            name=shown_name(person),
            created_at=now(),
            last_login_at=last_login_at,
        )
        if await store.identities.add(linked, auth_context=auth_context_of(person)):
            return linked, True
        found = await store.identities.find(person.issuer, person.subject)
        if found is None or found.user_id != user.id:
            raise IdentityTaken
        return found, False

    async def _write_to(self, store: Store, user: User, kind: MailKind, provider: str) -> None:
        await self._mail.queue(store, kind, user, provider=self._settings.provider_title(provider))

    async def _has_other_way_in(self, store: Store, user: User, identity_id: UUID) -> bool:
        if self._settings.passkeys == "on" and await store.passkeys.count(user.id):
            return True
        return any(
            other.id != identity_id and self._settings.has_provider(other.provider)
            for other in await store.identities.list_for_user(user.id)
        )

    async def _remove(
        self,
        store: Store,
        user: User,
        found: LinkedIdentity,
        *,
        by: Identity | None = None,
        actor: Identity | None = None,
    ) -> None:
        ended = await store.identities.end_sessions(user.id, found.id)
        await store.login_tickets.end_all(user.id)
        await store.identities.remove(user.id, found.id)
        await self._audit.record(
            store,
            EventType.IDENTITY_UNLINKED,
            user_id=user.id,
            session_id=None if by is None else by.session_id,
            strategy=None if by is None else by.strategy,
            actor=actor,
            provider=found.provider,
            identity_id=str(found.id),
            sessions=ended,
        )
        await self._write_to(store, user, MailKind.IDENTITY_UNLINKED, found.provider)


def auth_context_of(person: Person) -> Mapping[str, object]:
    """Returns how a person authenticated, as far as the provider is trusted to say it."""
    at = person.auth_time
    return {"auth_time": None if at is None else at.isoformat(), "mfa": person.has_proved_mfa}


async def _find(store: Store, user_id: UUID, identity_id: UUID) -> LinkedIdentity:
    found = await store.identities.find_by_id(identity_id)
    if found is None or found.user_id != user_id:
        raise NotFound
    return found
