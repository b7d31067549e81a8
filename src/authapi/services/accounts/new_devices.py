"""Mail about logins from a device and network that the account was not used with, and their end.

The events of logins tell what is known, so there is no list of devices and no further cookie.
"""

from datetime import timedelta
from typing import Any

from authapi.clock import now
from authapi.crypto.ids import first_id_at
from authapi.domain.client import device_of
from authapi.domain.email_token import Purpose
from authapi.domain.events import EventType
from authapi.domain.federation.proof import FederatedProof
from authapi.domain.session import Session
from authapi.domain.user import User
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.audit import Audit
from authapi.services.mail import MailKind
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict

_KNOWN_LIFETIME = timedelta(days=90)
"""How long after a login its device is known in its network."""
_MAX_LOGINS = 500
"""Logins that are searched for the device. It bounds the work for an account that logs in all the
time; a device that is not among these counts as new."""
_DAY = timedelta(days=1)
_MAX_MAILS_PER_DAY = 5
"""Of one account: an attacker who has its password can invent any number of devices."""


class NewDevices:
    """Records logins, mails about those from a new device and network, and ends these.

    Each call raises StorageUnavailable if the database does not answer.
    """

    def __init__(
        self, database: Database, email_tokens: EmailTokens, audit: Audit, settings: Settings
    ) -> None:
        self._database = database
        self._email_tokens = email_tokens
        self._audit = audit
        self._sends_mail = settings.sends_mail

    async def record_login(
        self,
        store: Store,
        user: User,
        session: Session,
        federated: FederatedProof | None = None,
    ) -> None:
        """Records the login that created `session`, and tells its owner if the device is new.

        `federated` is what a provider has proved, if the login began at one.

        `user` is locked by the transaction of `store`. Raises the errors of the hooks.
        """
        # Before the event of this login, by which the device is known from now on.
        should_tell = await self._should_tell(store, user, session)
        provider: dict[str, str] = {}
        if federated is not None:
            provider["provider"] = federated.provider
            await store.identities.mark_session(session.id, federated.identity_id)
        await self._record(store, EventType.LOGIN, session, amr=list(session.amr), **provider)
        if should_tell:
            device = device_of(session.client.user_agent)
            known = {"program": device.program, "system": device.system}
            facts = {name: value for name, value in known.items() if value is not None}
            await self._email_tokens.send(
                store, user, MailKind.NEW_DEVICE, session_id=session.id, facts=facts
            )
            await self._record(store, EventType.NEW_DEVICE, session)

    @retry_on_conflict
    async def disown(self, token: str) -> None:
        """Ends the login that `token` was mailed about, and no other one.

        Does nothing but use up the token if that login has ended already. Raises
        InvalidOneTimeSecret.
        """
        async with self._database.transaction() as store:
            redeemed = await self._email_tokens.redeem(store, token, Purpose.DISOWN)
            user_id, session_id = redeemed.user.id, redeemed.token.id
            if await store.sessions.end_for_user(session_id, user_id, personal=False):
                await self._audit.record(
                    store,
                    EventType.SESSION_ENDED,
                    user_id=user_id,
                    session_id=session_id,
                    because="disowned",
                )

    async def _should_tell(self, store: Store, user: User, session: Session) -> bool:
        client = session.client
        # An unconfirmed address may belong to another person, who must not be able to end logins.
        # A login without a request is by the application itself.
        if not self._sends_mail or user.email_confirmed_at is None or client.request_id is None:
            return False
        agents = await store.events.find_user_agents(
            user.id,
            network=client.network,
            since=first_id_at(now() - _KNOWN_LIFETIME),
            limit=_MAX_LOGINS,
        )
        if device_of(client.user_agent) in map(device_of, agents):
            return False
        is_first, mails = await store.events.find_new_devices(
            user.id, since=first_id_at(now() - _DAY)
        )
        return not is_first and mails < _MAX_MAILS_PER_DAY

    async def _record(self, store: Store, kind: EventType, session: Session, **detail: Any) -> None:
        await self._audit.record(
            store,
            kind,
            user_id=session.user_id,
            session_id=session.id,
            strategy=session.kind.value,
            **detail,
        )
