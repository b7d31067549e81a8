"""An authenticator app and a passkey for tests of applications whose users have second factors."""

import base64
import secrets
from collections.abc import Awaitable, Callable, Collection
from typing import Literal
from uuid import UUID

from authapi.clock import now
from authapi.crypto.factors.totp import as_base32, code_at, new_totp_secret, step_at
from authapi.crypto.ids import new_id
from authapi.domain.events import EventType
from authapi.domain.factors.passkeys import Passkey
from authapi.domain.factors.values import NO_STEP, FactorMethod, TOTPFactor, totp_context
from authapi.domain.user import User
from authapi.errors import FactorExists, NotFound
from authapi.services import Services
from authapi.services.accounts.users import next_update_time
from authapi.services.factors.webauthn.relying_party import relying_party_of
from authapi.storage import Store
from authapi.storage.tables.users import Credentials
from authapi.testing.passkeys import BACKED_UP, ELIGIBLE, ORIGIN, SoftPasskey

_AHEAD = 1
"""Steps that the app may be ahead of the service, which accepts the codes of both neighbours."""


class Authenticator:
    """An authenticator app (RFC 6238) and a passkey. `Client.authenticator` creates it.

    `secret` of the app is base32, as the service shows it; by default a new one. An account has
    what `enrol` and `enrol_passkey` have added.
    """

    def __init__(self, services: Callable[[], Services], secret: str | None = None) -> None:
        self._services = services
        self._secret = new_totp_secret() if secret is None else _from_base32(secret)
        self._shown = NO_STEP
        self._has_app = secret is not None
        self._passkey: SoftPasskey | None = None

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

        async def add(store: Store, row: Credentials) -> None:
            if await store.totp_factors.find(user.id) is not None:
                raise FactorExists
            encrypted = services.keys.factor_cipher.encrypt(
                self._secret, context=totp_context(factor_id)
            )
            await store.totp_factors.add(
                TOTPFactor.unused(
                    factor_id, user.id, encrypted, credentials_version=row.version, at=at
                )
            )

        found = await _add_factor(services, user, FactorMethod.TOTP, add)
        self._has_app = True
        return found

    @property
    def passkey(self) -> SoftPasskey:
        """The passkey, for a page of the origin that the settings have.

        Raises PasskeysUnavailable, which says what to change, if passkeys are off, the settings
        have no domain, or the extra `passkeys` is not installed.
        """
        if self._passkey is None:
            relying_party = relying_party_of(self._services().settings)
            origins = sorted(relying_party.origins)
            self._passkey = SoftPasskey(origin=ORIGIN if not origins else origins[0])
        return self._passkey

    @property
    def has_passkey(self) -> bool:
        """Whether an account has the passkey."""
        return self._passkey is not None and self._passkey.handle is not None

    async def enrol_passkey(self, user: User, *, name: str = "Passkey") -> User:
        """Adds the passkey to an account, and returns the account as it is now.

        Sessions and hooks are as with `enrol`. Raises NotFound if the account has no row,
        FactorExists if an account has the passkey, PasskeysUnavailable as `passkey`, and the errors
        of the hooks.
        """
        services, passkey, at = self._services(), self.passkey, now()
        stored = Passkey(
            id=new_id(),
            user_id=user.id,
            credential_id=passkey.credential_id,
            public_key=passkey.public_key,
            algorithm=passkey.algorithm,
            sign_count=passkey.sign_count,
            transports=("internal", "hybrid"),
            aaguid=UUID(int=0),
            backup_eligible=bool(passkey.flags & ELIGIBLE),
            backed_up=bool(passkey.flags & BACKED_UP),
            name=name,
            created_at=at,
            last_used_at=None,
        )
        handle = secrets.token_bytes(32)

        async def add(store: Store, _: Credentials) -> None:
            nonlocal handle
            handle = await store.passkeys.handle(user.id, handle)
            if not await store.passkeys.add(stored):
                raise FactorExists

        found = await _add_factor(services, user, FactorMethod.PASSKEY, add)
        passkey.handle = handle
        return found

    def proves(self, methods: Collection[str]) -> Literal["code", "passkey"]:
        """Returns what this authenticator answers to a login or caller who can prove `methods`."""
        if self.has_passkey and "passkey" in methods and not (self._has_app and "totp" in methods):
            return "passkey"
        return "code"


async def _add_factor(
    services: Services,
    user: User,
    method: FactorMethod,
    add: Callable[[Store, Credentials], Awaitable[None]],
) -> User:
    async with services.database.transaction() as store:
        row = await store.users.lock(user.id)
        if row is None:
            raise NotFound
        await add(store, row)
        since = row.user.mfa_since or now()
        await store.users.set_mfa(user.id, since, at=next_update_time(row.user))
        await services.audit.record(
            store, EventType.FACTOR_ADDED, user_id=user.id, method=method.value
        )
        found = await store.users.find(user.id)
    if found is None:
        raise NotFound
    return found


def _from_base32(text: str) -> bytes:
    return base64.b32decode(text + "=" * (-len(text) % 8))
