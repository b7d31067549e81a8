"""Authenticator apps of accounts, for tests. pyotp is the app: it has no code of the service."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyotp

from authapi.clock import now
from authapi.crypto.secrets import hash_secret, new_secret
from authapi.domain.identity import Identity
from authapi.domain.session import SessionKind
from authapi.domain.user import User
from authapi.errors import InvalidCredential, InvalidCredentials
from authapi.services import Services
from authapi.services.logins.proved import Proved


@dataclass
class Authenticator:
    """An app that its account has confirmed with the code of the current time step."""

    secret: str
    recovery_codes: Sequence[str]
    caller: Identity
    """Of the cookie session that has added the app."""

    def code(self, steps: int = 1) -> str:
        """The code of a time step relative to the current one. That of the current one was used."""
        return pyotp.TOTP(self.secret).at(now(), counter_offset=steps)


async def add_authenticator(services: Services, caller: Identity) -> Authenticator:
    """Adds an app to the account of `caller`, whose address is confirmed."""
    factors, cookie = services.factors, hash_secret(new_secret())
    enrolment = await factors.totp.begin(caller)
    code = pyotp.TOTP(enrolment.secret).at(now())
    codes = await factors.totp.confirm(caller, code, new_secret_hash=cookie)
    renewed = await services.sessions.identify_by_secret(
        cookie, SessionKind.SESSION, strategy="session"
    )
    if renewed is None:  # in a race
        raise InvalidCredential
    return Authenticator(enrolment.secret, codes or (), renewed)


async def proved_password(services: Services, user: User) -> Proved:
    """The first factor of a login of this user."""
    async with services.database.read() as store:
        row = await store.users.find_credentials(user.id)
    if row is None:  # in a race
        raise InvalidCredentials
    return Proved(row.user, row.version, now(), ("pwd",))


def wrong_code(app: Authenticator | str) -> str:
    """A code that is wrong in all time steps of the window."""
    totp = pyotp.TOTP(app if isinstance(app, str) else app.secret)
    right = {totp.at(now(), counter_offset=steps) for steps in range(-2, 3)}
    return next(code for number in range(9) if (code := f"{number:06}") not in right)
