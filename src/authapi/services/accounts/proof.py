"""The password of somebody who is known already, proved once more."""

from datetime import timedelta
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import first_id_at
from authapi.crypto.passwords import PasswordHash
from authapi.errors import PasswordMismatch, WrongPassword
from authapi.identity import NO_NETWORK, Client, EventType, Identity, User, current_client
from authapi.services.addresses import parse_email
from authapi.services.audit import Audit
from authapi.services.passwords import Passwords
from authapi.services.throttle import AtHome, Throttle
from authapi.storage import Database

_HOME_FOR = timedelta(days=90)
"""How long after a login its network counts as one that the owner of the account is at."""


class PasswordProof:
    """Asks for a password again, within the limits on guessing."""

    def __init__(
        self, database: Database, passwords: Passwords, throttle: Throttle, audit: Audit
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._throttle = throttle
        self._audit = audit

    async def require(
        self,
        user: User,
        password: str,
        *,
        caller: Identity | None = None,
        refusal: EventType = EventType.REAUTHENTICATION_REFUSED,
    ) -> PasswordHash | None:
        """What the password was proved against: compare it once the account is locked.

        `caller` is who asks, where they are logged in; `refusal` the event of a wrong password.
        Raises WrongPassword, TooManyAttempts, Overloaded.
        """
        account, client = parse_email(user.email).canonical, current_client()
        session_id = caller.session_id if caller else None
        home = at_home(self._database, account, client)
        async with (
            self._audit.throttling(account),
            self._throttle.confirmation(account, session_id, client, at_home=home),
        ):
            return await self._check(user.id, password, caller, refusal)

    async def _check(
        self, user_id: UUID, password: str, caller: Identity | None, refusal: EventType
    ) -> PasswordHash | None:
        async with self._database.read() as store:
            found = await store.users.find_credentials(user_id)
        stored = None if found is None else found[1]
        try:
            await self._passwords.verify(password, stored)
        except PasswordMismatch:
            await self._audit.record_alone(
                refusal,
                user_id=user_id,
                session_id=caller.session_id if caller else None,
                strategy=caller.strategy if caller else None,
            )
            raise WrongPassword from None
        return stored


def at_home(database: Database, account: str, client: Client) -> AtHome:
    """Whether the canonical address `account` was logged in to lately from where `client` is."""

    async def asked() -> bool:
        network, since = client.network, first_id_at(now() - _HOME_FOR)
        async with database.read() as store:
            known = await store.events.has_login(account, network=network, since=since)
        return known and network != NO_NETWORK

    return asked
