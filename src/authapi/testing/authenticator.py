"""An authenticator app for tests of applications whose users have a second factor."""

import base64
from collections.abc import Callable
from dataclasses import replace

from authapi.clock import now
from authapi.crypto.factors.totp import as_base32, code_at, new_totp_secret, step_at
from authapi.crypto.ids import new_id
from authapi.domain.events import EventType
from authapi.domain.factors.values import FactorMethod, TOTPFactor
from authapi.domain.user import User
from authapi.errors import FactorExists, NotFound
from authapi.services import Services
from authapi.services.accounts.users import next_update_time

_NO_STEP = -1
_AHEAD = 1
"""Steps that the app may be ahead of the service, which accepts the codes of both neighbours."""


class Authenticator:
    """An authenticator app (RFC 6238). `Client.authenticator` creates it.

    `secret` is base32, as the service shows it; by default a new one.
    """

    def __init__(self, services: Callable[[], Services], secret: str | None = None) -> None:
        self._services = services
        self._secret = new_totp_secret() if secret is None else _from_base32(secret)
        self._shown = _NO_STEP

    @property
    def secret(self) -> str:
        """The secret in base32."""
        return as_base32(self._secret)

    def code(self) -> str:
        """Returns a code that was not shown before, because the service accepts each only once.

        There are two within 30 seconds. Raises RuntimeError for the third one: let the clock of the
        test advance.
        """
        current = step_at(now().timestamp())
        step = max(current, self._shown + 1)
        if step > current + _AHEAD:
            raise RuntimeError("the app has shown its two codes: let the clock advance 30 seconds")
        self._shown = step
        return code_at(self._secret, step)

    async def enrol(self, user: User) -> User:
        """Adds this app to an account, and returns the account as it is now.

        Sessions of the account stay. They have proved one factor only. The hooks of the
        application run, as for an app that a user adds.

        Raises NotFound if the account has no row, FactorExists if it has an app, and the errors of
        the hooks.
        """
        services, at, factor_id = self._services(), now(), new_id()
        async with services.database.transaction() as store:
            row = await store.users.lock(user.id)
            if row is None:
                raise NotFound
            if await store.totp_factors.find(user.id) is not None:
                raise FactorExists
            factor = TOTPFactor(
                id=factor_id,
                user_id=user.id,
                secret=b"",
                last_step=_NO_STEP,
                session_id=None,
                credentials_version=row.version,
                failures=0,
                owner_told_at=None,
                created_at=at,
                confirmed_at=at,
                last_used_at=None,
                expires_at=None,
            )
            sealed = services.keys.factor_cipher.encrypt(self._secret, context=factor.context)
            await store.totp_factors.add(replace(factor, secret=sealed))
            await store.users.set_mfa(user.id, at, at=next_update_time(row.user))
            await services.audit.record(
                store,
                EventType.FACTOR_ADDED,
                user_id=user.id,
                method=FactorMethod.TOTP.value,
            )
            found = await store.users.find(user.id)
        if found is None:
            raise NotFound
        return found


def _from_base32(text: str) -> bytes:
    return base64.b32decode(text + "=" * (-len(text) % 8))
