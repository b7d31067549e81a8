"""Accounts with second factors, for tests. pyotp is the authenticator app."""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from uuid import UUID

import pyotp

from authapi.clock import now
from authapi.crypto.factors.recovery_codes import hash_recovery_code, new_recovery_code
from authapi.crypto.factors.totp import as_base32, new_totp_secret
from authapi.crypto.ids import new_id
from authapi.domain.factors.passkeys import Passkey
from authapi.domain.factors.values import TOTPFactor
from authapi.domain.user import User
from authapi.services import Services
from tests.soft_authenticator import BACKED_UP, ELIGIBLE, SoftAuthenticator

PERIOD = 30
"""Seconds of a time step."""


@dataclass(frozen=True)
class SecondFactors:
    """The second factors of an account, as its owner has them."""

    user: User
    """The account with its factors."""
    app: pyotp.TOTP
    codes: list[str]
    """The recovery codes."""

    def code(self, *, steps: int = 0) -> str:
        """The code of the app, now or `steps` time steps later."""
        return self.app.at(now(), counter_offset=steps)

    def wrong_code(self) -> str:
        """A code that the app shows in none of the steps around now."""
        shown = {self.code(steps=steps) for steps in range(-3, 4)}
        return next(text for text in map("{:06}".format, range(10)) if text not in shown)


def words_of(records: Iterable[logging.LogRecord]) -> set[str]:
    """The words of log records: of their messages, and of the texts that belong to them.

    A part of a number, such as a time, can equal a code.
    """
    texts = [
        text
        for record in records
        for text in (record.getMessage(), *record.__dict__.values())
        if isinstance(text, str)
    ]
    return {word for text in texts for word in re.split(r"[^0-9A-Za-z-]", text)}


async def add_second_factors(services: Services, user: User) -> SecondFactors:
    """Gives the account an authenticator app, none of whose codes was used, and recovery codes."""
    secret, factor_id, at = new_totp_secret(), new_id(), now()
    codes = [new_recovery_code() for _ in range(10)]
    factor = TOTPFactor(
        id=factor_id,
        user_id=user.id,
        secret=services.keys.factor_cipher.encrypt(secret, context=f"totp {factor_id}"),
        last_step=-1,
        session_id=None,
        credentials_version=0,
        failures=0,
        owner_told_at=None,
        created_at=at,
        confirmed_at=at,
        last_used_at=None,
        expires_at=None,
    )
    async with services.database.transaction() as store:
        await store.users.lock(user.id)
        await store.totp_factors.remove_all(user.id)
        await store.totp_factors.add(factor)
        hashes = [hash_recovery_code(code) for code in codes]
        await store.recovery_codes.replace(user.id, [code for code in hashes if code], at=at)
        await store.users.set_mfa(user.id, at, at=at)
        found = await store.users.find(user.id)
    assert found is not None
    return SecondFactors(found, pyotp.TOTP(as_base32(secret)), codes)


def stored_passkey(user_id: UUID, passkey: SoftAuthenticator) -> Passkey:
    """The passkey as the service stores it."""
    return Passkey(
        id=new_id(),
        user_id=user_id,
        credential_id=passkey.credential_id,
        public_key=passkey.public_key,
        algorithm=passkey.algorithm,
        sign_count=passkey.sign_count,
        transports=("internal",),
        aaguid=UUID(int=0),
        backup_eligible=bool(passkey.flags & ELIGIBLE),
        backed_up=bool(passkey.flags & BACKED_UP),
        name="My phone",
        created_at=now(),
        last_used_at=None,
    )


async def insert_passkey(
    services: Services, user: User, passkey: SoftAuthenticator, *, name: str = "My phone"
) -> Passkey:
    """Gives the account a passkey, as its second factor."""
    stored, at = replace(stored_passkey(user.id, passkey), name=name), now()
    async with services.database.transaction() as store:
        await store.users.lock(user.id)
        await store.users.set_mfa(user.id, at, at=at)
        passkey.handle = await store.passkeys.handle(user.id, bytes(range(32)))
        assert await store.passkeys.add(stored)
    return stored
