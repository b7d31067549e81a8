"""Accounts with passkeys, for tests of services. A soft authenticator holds the passkey."""

from typing import Any

from authapi.crypto.secrets import hash_secret, new_secret
from authapi.domain.factors.passkeys import Assertion, Attestation
from authapi.domain.identity import Identity
from authapi.domain.session import SessionKind
from authapi.errors import InvalidCredential
from authapi.services import Services
from authapi.services.factors.webauthn.assertions import RequestOptions
from authapi.services.factors.webauthn.registration import CreationOptions
from authapi.web.schemas.factors.credentials import AssertedCredential, CreatedCredential
from authapi.web.schemas.factors.passkeys import CreationOptionsOut, PasskeyOut, RequestOptionsOut
from tests.soft_authenticator import SoftAuthenticator


async def add_passkey(
    services: Services, caller: Identity, passkey: SoftAuthenticator
) -> tuple[PasskeyOut, Identity]:
    """Adds a passkey to the account of `caller`, whose session is a cookie and gets a new one."""
    passkeys, cookie = services.factors.passkeys, hash_secret(new_secret())
    created = attestation(passkey, await passkeys.options(caller, origin=None))
    added = await passkeys.add(caller, created, "My phone", new_secret_hash=cookie)
    identify = services.sessions.identify_by_secret
    renewed = await identify(cookie, SessionKind.SESSION, strategy="session")
    if renewed is None:  # in a race
        raise InvalidCredential
    return PasskeyOut.of(added.passkey), renewed


def attestation(passkey: SoftAuthenticator, options: CreationOptions) -> Attestation:
    """The new passkey, as its authenticator answers to the options of the service."""
    asked = CreationOptionsOut.of(options).model_dump(mode="json", by_alias=True)
    return CreatedCredential.model_validate(passkey.create(asked)).attestation()


def answer(passkey: SoftAuthenticator, options: RequestOptions) -> Assertion:
    """The answer of the passkey to the options of the service."""
    asked: dict[str, Any] = RequestOptionsOut.of(options).model_dump(mode="json", by_alias=True)
    # In a race, the passkey may be gone by now.
    found = passkey.get({**asked, "allowCredentials": []})
    return AssertedCredential.model_validate(found).assertion()
