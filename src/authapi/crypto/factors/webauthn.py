"""Verification of passkeys (WebAuthn Level 3): the only module that imports the package webauthn.

The import takes half a second, so the first verification does it: call the functions in a thread.
The package checks type, challenge, RP ID, flags and signature. What it does not check is checked
here: `crossOrigin`, `topOrigin`, that a new key fits its algorithm, and that CBOR has no tags.
Statements of attestation are not looked at.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from authapi.crypto import base64url, strict_json
from authapi.crypto.factors import strict_cbor
from authapi.domain.factors.passkeys import (
    MAX_CREDENTIAL_ID,
    MAX_PUBLIC_KEY,
    Algorithm,
    Assertion,
    Attestation,
    AuthenticatorState,
    NewCredential,
    RelyingParty,
)
from authapi.errors import PasskeyMismatch

if TYPE_CHECKING:
    from webauthn.authentication.verify_authentication_response import VerifiedAuthentication
    from webauthn.registration.verify_registration_response import VerifiedRegistration

_MIN_RSA_BITS = 2048
_FLAGS, _ATTESTED, _HEAD = 32, 64, 37
_ID_LENGTH, _ID = 53, 55
"""Where the authenticator data has its flags and the id, if there is one (WebAuthn Level 3, section
6.1)."""


def is_installed() -> bool:
    """Whether the extra `passkeys` is installed."""
    return find_spec("webauthn") is not None


@dataclass(frozen=True, slots=True)
class ClientData:
    """What the browser says about a ceremony, which the authenticator has signed."""

    challenge: bytes
    origin: str
    is_framed: bool
    """Whether the page was in a frame of another origin."""


def read_client_data(data: bytes) -> ClientData:
    """Returns the members of `clientDataJSON`. Raises PasskeyMismatch if they are missing."""
    try:
        members = strict_json.loads(data)
        if not isinstance(members, dict):
            raise PasskeyMismatch
        challenge, origin = members.get("challenge"), members.get("origin")
        if not isinstance(challenge, str) or not isinstance(origin, str):
            raise PasskeyMismatch
        is_framed = members.get("crossOrigin", False) is not False or "topOrigin" in members
        return ClientData(base64url.decode(challenge), origin, is_framed)
    except ValueError:
        raise PasskeyMismatch from None


def verify_attestation(attestation: Attestation, relying_party: RelyingParty) -> NewCredential:
    """Verifies a new credential: user verification, and a key for an algorithm that was asked for.

    The statement of attestation is not looked at. The caller has checked the challenge. Raises
    PasskeyMismatch.
    """
    client = _checked_client_data(attestation.client_data, relying_party)
    try:
        found = _verify_registration(attestation, client, relying_party)
        key = found.credential_public_key
        if len(key) > MAX_PUBLIC_KEY:
            raise PasskeyMismatch
        credential = NewCredential(
            credential_id=found.credential_id,
            public_key=key,
            algorithm=_algorithm_of(key),
            sign_count=found.sign_count,
            aaguid=UUID(found.aaguid),
            backup_eligible=found.credential_device_type == "multi_device",
            backed_up=found.credential_backed_up,
        )
    except PasskeyMismatch:
        raise
    except Exception:  # of many types: the package leaks KeyError and others
        raise PasskeyMismatch from None
    if (
        credential.credential_id != attestation.credential_id
        or not 0 < len(credential.credential_id) <= MAX_CREDENTIAL_ID
    ):
        raise PasskeyMismatch
    return credential


def verify_assertion(
    assertion: Assertion,
    public_key: bytes,
    relying_party: RelyingParty,
    *,
    requires_verification: bool,
) -> AuthenticatorState:
    """Verifies the signature of an assertion, and that the user was present.

    With `requires_verification`, also that the authenticator has verified its user. The caller has
    checked the challenge, and compares the counter. Raises PasskeyMismatch.
    """
    client = _checked_client_data(assertion.client_data, relying_party)
    try:
        _check_authenticator_data(assertion.authenticator_data)
        found = _verify_authentication(
            assertion, client, public_key, relying_party, requires_verification
        )
        return AuthenticatorState(
            sign_count=found.new_sign_count,
            is_user_verified=found.user_verified,
            backup_eligible=found.credential_device_type == "multi_device",
            backed_up=found.credential_backed_up,
        )
    except Exception:  # of many types: the package leaks KeyError and others
        raise PasskeyMismatch from None


def _checked_client_data(data: bytes, relying_party: RelyingParty) -> ClientData:
    client = read_client_data(data)
    if client.is_framed or not relying_party.accepts(client.origin):
        raise PasskeyMismatch("origin")
    return client


def _verify_registration(
    attestation: Attestation, client: ClientData, relying_party: RelyingParty
) -> "VerifiedRegistration":
    from webauthn import verify_registration_response  # noqa: PLC0415  # an extra, and slow
    from webauthn.helpers.cose import COSEAlgorithmIdentifier  # noqa: PLC0415
    from webauthn.helpers.structs import (  # noqa: PLC0415
        AuthenticatorAttestationResponse,
        RegistrationCredential,
    )

    return verify_registration_response(
        credential=RegistrationCredential(
            id=base64url.encode(attestation.credential_id),
            raw_id=attestation.credential_id,
            response=AuthenticatorAttestationResponse(
                client_data_json=attestation.client_data,
                attestation_object=_without_statement(attestation.attestation_object),
            ),
        ),
        expected_challenge=client.challenge,
        expected_rp_id=relying_party.id,
        expected_origin=client.origin,
        require_user_verification=True,
        supported_pub_key_algs=[COSEAlgorithmIdentifier(item) for item in Algorithm],
    )


def _verify_authentication(
    assertion: Assertion,
    client: ClientData,
    public_key: bytes,
    relying_party: RelyingParty,
    requires_verification: bool,
) -> "VerifiedAuthentication":
    from webauthn import verify_authentication_response  # noqa: PLC0415  # an extra, and slow
    from webauthn.helpers.structs import (  # noqa: PLC0415
        AuthenticationCredential,
        AuthenticatorAssertionResponse,
    )

    return verify_authentication_response(
        credential=AuthenticationCredential(
            id=base64url.encode(assertion.credential_id),
            raw_id=assertion.credential_id,
            response=AuthenticatorAssertionResponse(
                client_data_json=assertion.client_data,
                authenticator_data=assertion.authenticator_data,
                signature=assertion.signature,
            ),
        ),
        expected_challenge=client.challenge,
        expected_rp_id=relying_party.id,
        expected_origin=client.origin,
        credential_public_key=public_key,
        # No counter is lower: the caller compares it, to tell a copied passkey from other refusals.
        credential_current_sign_count=0,
        require_user_verification=requires_verification,
    )


def _without_statement(attestation_object: bytes) -> bytes:
    """The attestation object with the format `none`, whatever its own is.

    Some clients send a statement although none was asked for. Nothing rests on it, and the
    verifiers of the package would parse its certificates.
    """
    from webauthn.helpers import encode_cbor, parse_cbor  # noqa: PLC0415  # an extra, and slow

    strict_cbor.check(attestation_object)
    data = parse_cbor(attestation_object)["authData"]
    _check_authenticator_data(data)
    return encode_cbor({"fmt": "none", "attStmt": {}, "authData": data})


def _check_authenticator_data(data: bytes) -> None:
    """Checks the CBOR in authenticator data: the public key and the extensions.

    Raises ValueError, and IndexError if the data is too short.
    """
    is_attested = data[_FLAGS] & _ATTESTED
    start = _ID + int.from_bytes(data[_ID_LENGTH:_ID]) if is_attested else _HEAD
    strict_cbor.check(data[start:])


def _algorithm_of(public_key: bytes) -> Algorithm:
    """The algorithm of a COSE key that can verify by it (WebAuthn Level 3, section 5.8.5)."""
    from webauthn.helpers import (  # noqa: PLC0415  # an extra, and slow
        decode_credential_public_key,
        decoded_public_key_to_cryptography,
    )

    decoded = decode_credential_public_key(public_key)
    # A point that is not on its curve raises.
    match Algorithm(decoded.alg), decoded_public_key_to_cryptography(decoded):
        case Algorithm.EDDSA, Ed25519PublicKey():
            return Algorithm.EDDSA
        case Algorithm.ES256, EllipticCurvePublicKey(curve=curve) if curve.name == "secp256r1":
            return Algorithm.ES256
        case Algorithm.RS256, RSAPublicKey(key_size=bits) if bits >= _MIN_RSA_BITS:
            return Algorithm.RS256
        case _:
            raise PasskeyMismatch
