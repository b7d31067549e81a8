"""Models of passkeys: the options for a browser, the bodies with its answers, and the list."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from authapi.crypto import base64url
from authapi.domain.display_names import DISPLAY_NAME_PATTERN
from authapi.domain.factors.passkeys import CHALLENGE_LIFETIME, Algorithm, Passkey
from authapi.services.factors.webauthn.assertions import RequestOptions
from authapi.services.factors.webauthn.registration import CreationOptions
from authapi.web.schemas.factors.credentials import AssertedCredential, CreatedCredential
from authapi.web.schemas.factors.enrolment import FirstRecoveryCodes
from authapi.web.schemas.fields import (
    NAME_IN_DOCUMENT,
    Input,
    Output,
    Remember,
    StrategyName,
    Ticket,
    Time,
)

_TIMEOUT = int(CHALLENGE_LIFETIME.total_seconds() * 1000)

PasskeyName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=100,
        pattern=DISPLAY_NAME_PATTERN,
        examples=["My laptop"],
        json_schema_extra=NAME_IN_DOCUMENT,
    ),
]


class PasskeyLogin(Input):
    """The answer of an authenticator to the options of a login."""

    credential: AssertedCredential
    strategy: StrategyName = None
    remember: Remember = False


class WaitingLogin(Input):
    """A login that waits for its second factor."""

    ticket: Ticket = None


class NewPasskey(Input):
    """The answer of an authenticator to the options of a registration."""

    credential: CreatedCredential
    name: PasskeyName


class FirstPasskey(NewPasskey):
    """The login that adds a second factor, and the answer of an authenticator to its options."""

    ticket: Ticket = None


class PasskeyChange(Input):
    """A new name of a passkey."""

    name: PasskeyName


class Descriptor(Output):
    """A passkey, as a browser finds it (`PublicKeyCredentialDescriptorJSON`)."""

    type: Literal["public-key"] = "public-key"
    id: str
    transports: list[str]

    @classmethod
    def of(cls, passkey: Passkey) -> "Descriptor":
        """The representation of `passkey`."""
        return cls(id=base64url.encode(passkey.credential_id), transports=list(passkey.transports))


class RequestOptionsOut(Output):
    """For `PublicKeyCredential.parseRequestOptionsFromJSON()`."""

    challenge: Annotated[str, Field(description="It can be answered once, within five minutes.")]
    rp_id: Annotated[str, Field(serialization_alias="rpId", examples=["example.com"])]
    timeout: Annotated[int, Field(description="Milliseconds.")] = _TIMEOUT
    allow_credentials: Annotated[list[Descriptor], Field(serialization_alias="allowCredentials")]
    user_verification: Annotated[
        Literal["required", "discouraged"], Field(serialization_alias="userVerification")
    ]

    @classmethod
    def of(cls, options: RequestOptions) -> "RequestOptionsOut":
        """The representation of `options`."""
        return cls(
            challenge=base64url.encode(options.challenge),
            rp_id=options.rp_id,
            allow_credentials=[Descriptor.of(passkey) for passkey in options.passkeys],
            user_verification="required" if options.requires_verification else "discouraged",
        )


class RelyingPartyOut(Output):
    """This service (`PublicKeyCredentialRpEntity`)."""

    id: Annotated[str, Field(examples=["example.com"])]
    name: str


class PasskeyUserOut(Output):
    """The account (`PublicKeyCredentialUserEntityJSON`)."""

    id: Annotated[str, Field(description="Random; it is not the id of the account.")]
    name: str
    display_name: Annotated[str, Field(serialization_alias="displayName")]


class AlgorithmOut(Output):
    """An algorithm (`PublicKeyCredentialParameters`)."""

    type: Literal["public-key"] = "public-key"
    alg: int


class AuthenticatorSelectionOut(Output):
    """What the authenticator must do (`AuthenticatorSelectionCriteria`)."""

    resident_key: Annotated[Literal["required"], Field(serialization_alias="residentKey")]
    require_resident_key: Annotated[Literal[True], Field(serialization_alias="requireResidentKey")]
    user_verification: Annotated[Literal["required"], Field(serialization_alias="userVerification")]


class CreationOptionsOut(Output):
    """For `PublicKeyCredential.parseCreationOptionsFromJSON()`."""

    challenge: Annotated[str, Field(description="It can be answered once, within five minutes.")]
    rp: RelyingPartyOut
    user: PasskeyUserOut
    algorithms: Annotated[list[AlgorithmOut], Field(serialization_alias="pubKeyCredParams")]
    timeout: Annotated[int, Field(description="Milliseconds.")] = _TIMEOUT
    exclude_credentials: Annotated[
        list[Descriptor], Field(serialization_alias="excludeCredentials")
    ]
    selection: Annotated[
        AuthenticatorSelectionOut, Field(serialization_alias="authenticatorSelection")
    ]
    attestation: Literal["none"] = "none"

    @classmethod
    def of(cls, options: CreationOptions) -> "CreationOptionsOut":
        """The representation of `options`."""
        user, party = options.user, options.relying_party
        return cls(
            challenge=base64url.encode(options.challenge),
            rp=RelyingPartyOut(id=party.id, name=party.name),
            user=PasskeyUserOut(
                id=base64url.encode(options.handle),
                name=user.email,
                display_name=user.name or user.email,
            ),
            algorithms=[AlgorithmOut(alg=int(item)) for item in Algorithm],
            exclude_credentials=[Descriptor.of(passkey) for passkey in options.existing],
            selection=AuthenticatorSelectionOut(
                resident_key="required", require_resident_key=True, user_verification="required"
            ),
        )


class PasskeyOut(Output):
    """A passkey of an account."""

    id: UUID
    name: str
    created_at: Time
    last_used_at: Time | None
    is_synced: Annotated[
        bool, Field(description="Whether the authenticator may copy it to other devices.")
    ]
    backed_up: Annotated[bool, Field(description="Whether a copy existed at the last use.")]
    transports: list[str]
    aaguid: Annotated[
        UUID, Field(description="The model of the authenticator, by its own account.")
    ]
    credential_id: Annotated[str, Field(description="In base64url, as browsers have it.")]

    @classmethod
    def of(cls, passkey: Passkey) -> "PasskeyOut":
        """The representation of `passkey`."""
        return cls(
            id=passkey.id,
            name=passkey.name,
            created_at=passkey.created_at,
            last_used_at=passkey.last_used_at,
            is_synced=passkey.backup_eligible,
            backed_up=passkey.backed_up,
            transports=list(passkey.transports),
            aaguid=passkey.aaguid,
            credential_id=base64url.encode(passkey.credential_id),
        )


class RelatedOriginsOut(Output):
    """The origins of other sites."""

    origins: Annotated[list[str], Field(examples=[["https://example.org"]])]


class PasskeyEndpointsOut(Output):
    """The pages of passkeys."""

    enroll: Annotated[
        str,
        Field(description="Where one adds a passkey.", examples=["https://example.com/security"]),
    ]
    manage: Annotated[
        str,
        Field(
            description="Where one renames and removes passkeys.",
            examples=["https://example.com/security"],
        ),
    ]


class AddedPasskeyOut(Output):
    """A new passkey."""

    passkey: PasskeyOut
    recovery_codes: FirstRecoveryCodes = None
