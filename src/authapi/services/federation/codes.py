"""One-time codes with which an application fetches the credential of a login.

A code is in the fragment of an address, so no server logs it, and works once for a minute. It is
sealed: the database has nothing of it until it is used. It is no credential: the login goes on as
after a password, with the second factor that the account asks for.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from authapi.clock import now
from authapi.crypto import base64url
from authapi.crypto.encryption import Cipher
from authapi.domain.federation.proof import FederatedProof
from authapi.errors import DecryptionFailed, LoginFlowInvalid
from authapi.services.federation.once import used_text
from authapi.services.logins.proved import Proved
from authapi.services.revalidation import lock_unchanged_user
from authapi.storage import Database
from authapi.storage.database import retry_on_conflict

CODE_USE = "federation codes 1"
"""The use of the cipher of codes, which gives it a key of its own."""
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

    Each method raises StorageUnavailable if the database does not answer.
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
        expires_at = now() + LIFETIME
        async with self._database.transaction() as store:
            await lock_unchanged_user(store, proved.user.id, proved.credentials_version)
            if proved.once is None or proved.federated is None:
                raise LoginFlowInvalid
            if not await store.used_challenges.add(proved.once):
                raise LoginFlowInvalid
        members = {
            "user_id": str(proved.user.id),
            "version": proved.credentials_version,
            "auth_time": proved.auth_time.isoformat(),
            "amr": list(proved.amr),
            "mfa_at": None if proved.mfa_at is None else proved.mfa_at.isoformat(),
            "federated": proved.federated.as_json(),
            "strategy": strategy,
            "remember": remember,
            "expires_at": expires_at.isoformat(),
        }
        sealed = self._cipher().encrypt(json.dumps(members).encode(), context=_CONTEXT)
        return IssuedCode(base64url.encode(sealed), expires_at)

    async def redeem(self, code: str) -> RedeemedCode:
        """Returns the login of a code. The code is used up as a flow is.

        Raises LoginFlowInvalid if the code is unknown or has expired, or the account was
        deactivated or changed since. The session, or the ticket, that follows raises it if the code
        was used.
        """
        sealed, members = self._open(code)
        expires_at = datetime.fromisoformat(members["expires_at"])
        async with self._database.read() as store:
            row = await store.users.find_credentials(UUID(members["user_id"]))
        is_unchanged = row is not None and row.user.is_active and row.version == members["version"]
        if row is None or not is_unchanged or expires_at <= now():
            raise LoginFlowInvalid
        mfa_at = members["mfa_at"]
        return RedeemedCode(
            Proved(
                user=row.user,
                credentials_version=row.version,
                auth_time=datetime.fromisoformat(members["auth_time"]),
                amr=tuple(members["amr"]),
                mfa_at=None if mfa_at is None else datetime.fromisoformat(mfa_at),
                federated=FederatedProof.of_json(members["federated"]),
                # Of the sealed bytes: several texts decode to the same ones.
                once=used_text(sealed.hex(), expires_at),
            ),
            strategy=members["strategy"],
            remember=members["remember"],
        )

    def _open(self, code: str) -> tuple[bytes, dict[str, Any]]:
        if len(code) > _MAX_CODE:
            raise LoginFlowInvalid
        try:
            sealed = base64url.decode(code)
            members: dict[str, Any] = json.loads(self._cipher().decrypt(sealed, context=_CONTEXT))
        except (DecryptionFailed, ValueError):
            raise LoginFlowInvalid from None
        return sealed, members
