"""Logins by a passkey alone: it proves possession, and its authenticator has verified the user."""

from collections.abc import Awaitable, Callable

from authapi.clock import now
from authapi.crypto.secrets import hash_secret
from authapi.domain.email_address import stored_email
from authapi.domain.factors.authentication_context import MFA
from authapi.domain.factors.passkeys import Assertion, ChallengePurpose
from authapi.domain.factors.values import FactorMethod
from authapi.errors import PasskeyMismatch, PasskeyRefused, PasskeysUnavailable
from authapi.services.factors.webauthn.assertions import (
    BoundAssertion,
    PasskeyAssertions,
    ProvedPasskey,
    RequestOptions,
)
from authapi.services.factors.webauthn.relying_party import relying_party_of
from authapi.services.hooks import Hooks
from authapi.services.logins.proved import Proved, SecondFactorUse
from authapi.settings import Settings
from authapi.storage import Store


class PasskeyLogins:
    """Authenticates users by a passkey. It is two factors: no code is asked for after it.

    `browser` is the value of the cookie of the browser in which the login is under way. Each method
    raises PasskeysUnavailable, and StorageUnavailable if the database does not answer.
    """

    def __init__(self, assertions: PasskeyAssertions, hooks: Hooks, settings: Settings) -> None:
        self._assertions = assertions
        self._hooks = hooks
        self._settings = settings

    async def options(self, browser: str, *, origin: str | None) -> RequestOptions:
        """Returns the options of a login, for a page of `origin`. They name no account."""
        self._check_enabled()
        return await self._assertions.options(
            ChallengePurpose.LOGIN,
            _binding(browser),
            user_id=None,
            origin=origin,
            requires_verification=True,
        )

    async def authenticate(
        self, assertion: Assertion, browser: str | None, *, request: object = None
    ) -> Proved:
        """Verifies the answer to the options of this browser; returns the account that it proves.

        The hooks `before_login` get `request`, and do not run if it is None. The challenge is used
        up with the session. Raises PasskeyRefused, and the errors of the hooks.
        """
        self._check_enabled()
        if browser is None:
            raise PasskeyRefused
        try:
            proved = await self._assertions.verify(
                BoundAssertion(assertion, ChallengePurpose.LOGIN, _binding(browser)),
                user_id=None,
                requires_verification=True,
            )
        except PasskeyMismatch as refusal:
            raise PasskeyRefused(is_unknown=refusal.reason == "unknown") from None
        user = proved.credentials.user
        if not user.may_log_in(must_confirm=self._settings.registration == "confirm"):
            raise PasskeyRefused
        if self._hooks.checks_logins:
            await self._hooks.run_before_login(request, stored_email(user.email).canonical)
        at = now()
        # A passkey that cannot be copied is bound to hardware.
        hardware = () if proved.passkey.backup_eligible else ("hwk",)
        return Proved(
            user=user,
            credentials_version=proved.credentials.version,
            auth_time=at,
            amr=(FactorMethod.PASSKEY.amr, "user", *hardware, MFA),
            mfa_at=at,
            second_factor=SecondFactorUse(self._use(proved)),
        )

    def _use(self, proved: ProvedPasskey) -> Callable[[Store], Awaitable[None]]:
        async def use(store: Store) -> None:
            try:
                await self._assertions.use_up(store, proved)
            except PasskeyMismatch:
                raise PasskeyRefused from None

        return use

    def _check_enabled(self) -> None:
        if self._settings.passkeys == "second_factor":
            raise PasskeysUnavailable("Log in with your password first")
        relying_party_of(self._settings)


def _binding(browser: str) -> str:
    return hash_secret(browser).digest.hex()
