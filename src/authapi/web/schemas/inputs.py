"""The JSON that comes in: strict, no unknown members, no conversions."""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
)

from authapi.services.names import PRINTABLE
from authapi.web.schemas.fields import (
    Email,
    Input,
    Locale,
    Name,
    NewPassword,
    OneTimeSecret,
    Password,
    Scope,
    Seconds,
    TokenName,
    limit,
    no_duplicates,
)

OwnLocale = Annotated[
    Locale | None,
    Field(
        description="The language to be written to in; null for that of the service.",
        json_schema_extra=limit("locale"),
    ),
]

PasswordIfAny = Annotated[
    Password | None, Field(json_schema_extra={"format": "password", "writeOnly": True})
]


class Registration(Input):
    """A new account."""

    email: Email
    password: NewPassword
    name: Name | None = None
    locale: OwnLocale = None


class AddressOnly(Input):
    """An address that something is asked about."""

    email: Email


class EmailConfirmation(Input):
    """What came by mail, and that the account is the reader's."""

    token: OneTimeSecret
    password: Annotated[
        PasswordIfAny, Field(description="That of the account, if nobody is logged in to it.")
    ] = None
    email: Annotated[
        Email | None,
        Field(description="Typed by the reader, if there is neither a login nor a password."),
    ] = None


class EmailChange(Input):
    """The address to be."""

    email: Email
    current_password: Annotated[
        PasswordIfAny, Field(description="Not needed after a fresh login.")
    ] = None


class EmailUndo(Input):
    """What came by mail, and the address that is to come back."""

    token: OneTimeSecret
    email: Annotated[Email, Field(description="Typed by the reader; the mail was sent there.")]


class PasswordReset(Input):
    """What came by mail, and the password to be."""

    token: OneTimeSecret
    new_password: Annotated[NewPassword, Field(examples=["another horse, another battery"])]


class InvitationAcceptance(Input):
    """What came by mail, and what the account is to have."""

    token: OneTimeSecret
    password: NewPassword
    name: Name | None = None


class Reauthentication(Input):
    """The password in use."""

    password: Password


class LoginRequest(Input):
    """A login: whose, and in which envelope the credential should come."""

    email: Email
    password: Password
    strategy: Annotated[
        str | None,
        Field(
            max_length=64,
            pattern="^[a-z][a-z0-9_]*$",
            description="One of the strategies that can log in; by default that of the settings.",
            json_schema_extra=limit("strategy"),
        ),
    ] = None
    remember: Annotated[
        bool, Field(description="Keep the cookie when the browser closes (session only).")
    ] = False


class Profile(Input):
    """What one may change of one's account."""

    name: Name | None = None
    locale: OwnLocale = None


class PasswordChange(Input):
    """The password in use, and the one to be."""

    current_password: Password
    new_password: Annotated[NewPassword, Field(examples=["another horse, another battery"])]


OwnScopes = Annotated[
    list[Scope] | None,
    Field(
        max_length=100,
        description="Some of your own scopes; all of them if left out.",
        json_schema_extra={"uniqueItems": True, **limit("scopes")},
    ),
    AfterValidator(lambda value: value and no_duplicates(value)),
]


class NewToken(Input):
    """A personal access token to be."""

    kind: Annotated[Literal["token"], Field(examples=["token"])] = "token"
    name: TokenName
    scopes: OwnScopes = None
    expires_in: Annotated[
        Seconds | None, Field(description="Seconds.", json_schema_extra=limit("expires_in"))
    ] = None


class NewJWT(Input):
    """A JWT for another service to be."""

    model_config = ConfigDict(json_schema_extra=limit("jwt_audiences"))

    kind: Annotated[Literal["jwt"], Field(examples=["jwt"])]
    audience: Annotated[
        str,
        Field(
            min_length=1,
            max_length=255,
            description="The service that it is for: what that asks to find in `aud`.",
            json_schema_extra=limit("audience"),
        ),
    ]
    scopes: OwnScopes = None
    expires_in: Annotated[
        Seconds | None,
        Field(
            description="Seconds; less where the credential in use or its session ends before.",
            json_schema_extra=limit("jwt_expires_in"),
        ),
    ] = None


def _by_kind(value: object) -> NewToken | NewJWT:
    # By hand, so that what is wrong is told of the member and not of an alternative of the body.
    is_jwt = isinstance(value, dict) and value.get("kind") == "jwt"
    return (NewJWT if is_jwt else NewToken).model_validate(value, from_attributes=True)


NewCredential = Annotated[
    NewToken | NewJWT, PlainValidator(_by_kind, json_schema_input_type=NewToken | NewJWT)
]


FoundText = Annotated[str, Field(max_length=1 << 16, pattern=r"^[^\u0000]*$")]
"""Any text at all: a link that we do not like must not keep a token alive that came beside it."""


class LeakReport(BaseModel):
    """What a secret scanner takes for a token of ours.

    The format is somebody else's: members that we do not know are none of our business.
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    token: FoundText
    type: Annotated[
        str,
        Field(
            min_length=1,
            max_length=255,
            pattern=PRINTABLE,
            description="The name under which the scanner keeps the pattern.",
            examples=["authapi_access_token"],
        ),
    ]
    url: Annotated[FoundText | None, Field(description="Where it was found; may be empty.")] = None
    source: Annotated[
        FoundText | None, Field(description="In what kind of place.", examples=["content"])
    ] = None
