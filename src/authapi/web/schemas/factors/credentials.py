"""Models of what a browser makes of a passkey: `PublicKeyCredential.toJSON()` (WebAuthn Level 3).

Browsers add members with new versions of the standard. Those that are not used are ignored, which
other bodies do not allow.
"""

import base64
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from authapi.domain.factors.passkeys import MAX_CREDENTIAL_ID, Assertion, Attestation

_PATTERN = "^([A-Za-z0-9_-]{4})*([A-Za-z0-9_-]{2,3})?$"


def _decode(value: object) -> bytes:
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "Input should be a valid string")
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise PydanticCustomError("base64url", "must be base64url without padding") from None


def _limits(max_bytes: int) -> WithJsonSchema:
    # Each three bytes are four characters.
    length = (max_bytes * 4 + 2) // 3
    return WithJsonSchema(
        {
            "type": "string",
            "pattern": _PATTERN,
            "minLength": 2,
            "maxLength": length,
            "examples": ["AQIDBA"],
        }
    )


_SHORT, _LONG = 2048, 24576
_DECODED = BeforeValidator(_decode)
CredentialID = Annotated[
    bytes,
    _DECODED,
    Field(min_length=1, max_length=MAX_CREDENTIAL_ID),
    _limits(MAX_CREDENTIAL_ID),
]
Short = Annotated[bytes, _DECODED, Field(min_length=1, max_length=_SHORT), _limits(_SHORT)]
Long = Annotated[bytes, _DECODED, Field(min_length=1, max_length=_LONG), _limits(_LONG)]
Handle = Annotated[bytes, _DECODED, Field(min_length=1, max_length=64), _limits(64)]
Transport = Annotated[
    str, Field(min_length=1, max_length=32, pattern="^[a-z0-9-]+$", examples=["internal"])
]


class FromBrowser(BaseModel):
    """Base of what a browser makes: values are not converted, unknown members are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)


class AssertionResponse(FromBrowser):
    """The members of `AuthenticatorAssertionResponse` that are used."""

    client_data: Annotated[Short, Field(alias="clientDataJSON")]
    authenticator_data: Annotated[Short, Field(alias="authenticatorData")]
    signature: Short
    user_handle: Annotated[Handle | None, Field(alias="userHandle")] = None


class AssertedCredential(FromBrowser):
    """The result of `navigator.credentials.get()`, as its `toJSON()` returns it."""

    id: CredentialID
    type: Literal["public-key"]
    response: AssertionResponse

    def assertion(self) -> Assertion:
        """The value for the services."""
        response = self.response
        return Assertion(
            credential_id=self.id,
            client_data=response.client_data,
            authenticator_data=response.authenticator_data,
            signature=response.signature,
            user_handle=response.user_handle,
        )


class AttestationResponse(FromBrowser):
    """The members of `AuthenticatorAttestationResponse` that are used."""

    client_data: Annotated[Short, Field(alias="clientDataJSON")]
    attestation_object: Annotated[Long, Field(alias="attestationObject")]
    transports: Annotated[list[Transport], Field(max_length=10)] = []


class CreatedCredential(FromBrowser):
    """The result of `navigator.credentials.create()`, as its `toJSON()` returns it."""

    id: CredentialID
    type: Literal["public-key"]
    response: AttestationResponse

    def attestation(self) -> Attestation:
        """The value for the services."""
        response = self.response
        return Attestation(
            credential_id=self.id,
            client_data=response.client_data,
            attestation_object=response.attestation_object,
            transports=tuple(dict.fromkeys(response.transports)),
        )
