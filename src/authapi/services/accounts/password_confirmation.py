"""Verification of the password of a user who is already identified."""

from datetime import timedelta
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import first_id_at
from authapi.crypto.passwords import PasswordHash
from authapi.domain.client import UNKNOWN_NETWORK, Client, current_client
from authapi.domain.email_address import parse_email
from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.errors import PasswordMismatch, WrongPassword
from authapi.services.audit import Audit
from authapi.services.passwords import Passwords
from authapi.services.rate_limits import KnownNetworkCheck, RateLimits
from authapi.storage import Database

_KNOWN_NETWORK_LIFETIME = timedelta(days=90)
"""How long after a login its network counts as known for the account."""


class PasswordConfirmation:
    """Verifies the password of an identified user, within the rate limits."""

    def __init__(
        self, database: Database, passwords: Passwords, rate_limits: RateLimits, audit: Audit
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._rate_limits = rate_limits
        self._audit = audit

    async def confirm_password(
        self,
        user: User,
        password: str,
        *,
        caller: Identity | None = None,
        refusal: EventType = EventType.REAUTHENTICATION_REFUSED,
    ) -> PasswordHash | None:
        """Verifies `password` and returns the hash that it matches.

        The caller of this method compares that hash again once it holds the lock on the user: the
        password may change in between. `caller` is the identity of the request, if it has one;
        `refusal` is the event to record for a wrong password. No connection is held while the
        password is hashed.

        Raises WrongPassword, TooManyAttempts, Overloaded if too many hashes are waiting, and
        StorageUnavailable if the database does not answer.
        """
        account, client = parse_email(user.email).canonical, current_client()
        session_id = caller.session_id if caller else None
        is_known = known_network(self._database, account, client)
        async with (
            self._audit.recording_throttled(account),
            self._rate_limits.confirmation_attempt(
                account, session_id, client, known_network=is_known
            ),
        ):
            return await self._verify(user.id, password, caller, refusal)

    async def _verify(
        self, user_id: UUID, password: str, caller: Identity | None, refusal: EventType
    ) -> PasswordHash | None:
        async with self._database.read() as store:
            row = await store.users.find_credentials(user_id)
        stored = None if row is None else row[1]
        try:
            await self._passwords.verify(password, stored)
        except PasswordMismatch:
            await self._audit.record_separately(
                refusal,
                user_id=user_id,
                session_id=caller.session_id if caller else None,
                strategy=caller.strategy if caller else None,
            )
            raise WrongPassword from None
        return stored


def known_network(database: Database, account: str, client: Client) -> KnownNetworkCheck:
    """Returns a check whether `account` was logged in to from the network of `client`.

    `account` is the canonical address. Logins of the last 90 days count. The check is one query;
    it raises StorageUnavailable if the database does not answer.
    """

    async def check() -> bool:
        network, since = client.network, first_id_at(now() - _KNOWN_NETWORK_LIFETIME)
        async with database.read() as store:
            has_login = await store.events.has_login(account, network=network, since=since)
        return has_login and network != UNKNOWN_NETWORK

    return check
