"""One-time codes with which an application goes on with a login at a provider.

A code is in the fragment of an address, so no server logs it, and works once for a minute. It is no
credential: the login goes on as after a password, with the second factor that the account asks for.

The code of an account is the secret of a ticket, which ends with the sessions of the account. A
person without an account has no ticket in the database: the code of a login that waits for an
address is sealed.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from authapi.clock import now
from authapi.crypto import base64url
from authapi.crypto.encryption import Cipher
from authapi.crypto.ids import new_id
from authapi.crypto.secrets import hash_secret, is_secret, new_secret
from authapi.domain.factors.authentication_context import MFA
from authapi.domain.factors.passkeys import UsedChallenge
from authapi.domain.factors.values import LoginTicket, TicketPurpose, UsedTicket
from authapi.errors import DecryptionFailed, EmailNeeded, LoginFlowInvalid
from authapi.services.federation.once import has_ended, used_text
from authapi.services.logins.proved import Proved, use_up
from authapi.services.revalidation import lock_unchanged_user
from authapi.storage import Database
from authapi.storage.database import retry_on_conflict

CODE_USE = "federation codes 2"
"""The use of the cipher of sealed codes, which gives it a key of its own."""
LIFETIME = timedelta(seconds=60)
_CONTEXT = "login code"
_MAX_CODE = 8192


@dataclass(frozen=True, slots=True)
class RedeemedCode:
    """A login that goes on in the application, and what it asked for when it began."""

    proved: Proved
    strategy: str
    remember: bool


@dataclass(frozen=True, slots=True)
class IssuedCode:
    """A new code."""

    text: str = field(repr=False)
    expires_at: datetime


class LoginCodes:
    """Issues and redeems codes.

    Each method that uses the database raises StorageUnavailable if it does not answer.
    """

    def __init__(self, database: Database, cipher: Callable[[], Cipher]) -> None:
        self._database = database
        self._cipher = cipher

    @retry_on_conflict
    async def issue(self, proved: Proved, *, strategy: str, remember: bool) -> IssuedCode:
        """Returns a code for a login at a provider, whose flow is used up.

        Raises LoginFlowInvalid if the flow was used before, InvalidCredentials if the account was
        deactivated or deleted, or its credentials changed, since the callback.
        """
        if proved.once is None or proved.federated is None:
            raise LoginFlowInvalid
        text, at = new_secret(), now()
        ticket = LoginTicket(
            id=new_id(),
            user_id=proved.user.id,
            purpose=TicketPurpose.CODE,
            strategy=strategy,
            remember=remember,
            scopes=proved.scopes,
            amr=proved.amr,
            credentials_version=proved.credentials_version,
            attempts=0,
            created_at=at,
            expires_at=at + LIFETIME,
            federated=proved.federated,
        )
        async with self._database.transaction() as store:
            await lock_unchanged_user(store, proved.user.id, proved.credentials_version)
            await store.login_tickets.add(ticket, hash_secret(text), browser=None)
            if not await use_up(store, proved.once):
                raise LoginFlowInvalid
        return IssuedCode(text, ticket.expires_at)

    def issue_for_address(self, needed: EmailNeeded) -> IssuedCode:
        """Returns a code for a login that waits for an address; `redeem` raises `needed`."""
        at = now()
        members = {
            "ticket": needed.ticket,
            "ends_at": needed.expires_at.isoformat(),
            "sealed_at": at.isoformat(),
        }
        sealed = self._cipher().encrypt(json.dumps(members).encode(), context=_CONTEXT)
        return IssuedCode(base64url.encode(sealed), at + LIFETIME)

    async def redeem(self, code: str) -> RedeemedCode:
        """Returns the login of a code.

        Raises LoginFlowInvalid if the code is unknown, has expired or was used, the sessions of the
        account have ended since, or the account was deactivated or changed. The code is used up
        with the session, or the ticket, that follows; it raises LoginFlowInvalid if another request
        was faster. Raises EmailNeeded, and uses the code up, if the login waits for an address.
        """
        if not is_secret(code):
            raise await self._address_needed(code)
        async with self._database.read() as store:
            ticket = await store.login_tickets.find_by_secret(hash_secret(code), now=now())
            if ticket is None or ticket.purpose is not TicketPurpose.CODE:
                raise LoginFlowInvalid
            row = await store.users.find_credentials(ticket.user_id)
        proof = ticket.federated
        if row is None or proof is None or not row.user.is_active:
            raise LoginFlowInvalid
        if row.version != ticket.credentials_version:
            raise LoginFlowInvalid
        return RedeemedCode(
            Proved(
                user=row.user,
                credentials_version=row.version,
                auth_time=proof.auth_time,
                amr=ticket.amr,
                scopes=ticket.scopes,
                mfa_at=proof.auth_time if MFA in ticket.amr else None,
                federated=proof,
                once=UsedTicket(ticket.id),
            ),
            strategy=ticket.strategy,
            remember=ticket.remember,
        )

    async def _address_needed(self, code: str) -> EmailNeeded:
        sealed, members = self._open(code)
        sealed_at = datetime.fromisoformat(members["sealed_at"])
        expires_at = sealed_at + LIFETIME
        if expires_at <= now() or await has_ended(self._database, sealed_at, LIFETIME):
            raise LoginFlowInvalid
        # Of the sealed bytes: several texts decode to the same ones.
        await self._use(used_text(sealed.hex(), expires_at))
        ends_at = datetime.fromisoformat(members["ends_at"])
        return EmailNeeded(ticket=members["ticket"], expires_at=ends_at)

    @retry_on_conflict
    async def _use(self, once: UsedChallenge) -> None:
        async with self._database.transaction() as store:
            if not await use_up(store, once):
                raise LoginFlowInvalid

    def _open(self, code: str) -> tuple[bytes, dict[str, Any]]:
        if len(code) > _MAX_CODE:
            raise LoginFlowInvalid
        try:
            sealed = base64url.decode(code)
            members: dict[str, Any] = json.loads(self._cipher().decrypt(sealed, context=_CONTEXT))
        except (DecryptionFailed, ValueError):
            raise LoginFlowInvalid from None
        return sealed, members
