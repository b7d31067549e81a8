"""Accounts with second factors, for tests. pyotp is the authenticator app."""

from dataclasses import dataclass

import pyotp

from authapi.clock import now
from authapi.crypto.factors.recovery_codes import hash_recovery_code, new_recovery_code
from authapi.crypto.factors.totp import as_base32, new_totp_secret
from authapi.crypto.ids import new_id
from authapi.domain.factors.values import TOTPFactor
from authapi.domain.user import User
from authapi.services import Services

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
        await store.totp_factors.add(factor)
        hashes = [hash_recovery_code(code) for code in codes]
        await store.recovery_codes.replace(user.id, [code for code in hashes if code], at=at)
        await store.users.set_mfa(user.id, at, at=at)
        found = await store.users.find(user.id)
    assert found is not None
    return SecondFactors(found, pyotp.TOTP(as_base32(secret)), codes)
