"""Models of request bodies. They refuse unknown members, and do not convert values."""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
)

from authapi.services.display_names import SINGLE_LINE_PATTERN
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
        description="The language of mails; null for the default language of the service.",
        json_schema_extra=limit("locale"),
    ),
]

OptionalPassword = Annotated[
    Password | None, Field(json_schema_extra={"format": "password", "writeOnly": True})
]


class Registration(Input):
    """A new account."""

    email: Email
    password: NewPassword
    name: Name | None = None
    locale: OwnLocale = None


class MailRequest(Input):
    """The address that a mail is requested for."""

    email: Email


class EmailConfirmation(Input):
    """The token from a mail, and proof that the account belongs to the caller."""

    token: OneTimeSecret
    password: Annotated[
        OptionalPassword,
        Field(description="The password of the account. Not needed with a login to it."),
    ] = None
    email: Annotated[
        Email | None,
        Field(
            description="The address of the account, typed by the user. Needed only without a "
            "login and a password."
        ),
    ] = None


class EmailChange(Input):
    """The new address of the account."""

    email: Email
    current_password: Annotated[
        OptionalPassword, Field(description="Not needed after a recent login.")
    ] = None


class EmailChangeReversal(Input):
    """The token from a mail, and the previous address of the account."""

    token: OneTimeSecret
    email: Annotated[
        Email, Field(description="The address that the mail was sent to, typed by the user.")
    ]


class PasswordReset(Input):
    """The token from a mail, and the new password."""

    token: OneTimeSecret
    new_password: Annotated[NewPassword, Field(examples=["another horse, another battery"])]


class InvitationAcceptance(Input):
    """The token from a mail, and the password and name of the account."""

    token: OneTimeSecret
    password: NewPassword
    name: Name | None = None


class Reauthentication(Input):
    """The current password."""

    password: Password


class LoginRequest(Input):
    """The e-mail address and password of an account, and the kind of credential to issue."""

    email: Email
    password: Password
    strategy: Annotated[
        str | None,
        Field(
            max_length=64,
            pattern="^[a-z][a-z0-9_]*$",
            description="The strategy that issues the credential. The operator sets the default.",
            json_schema_extra=limit("strategy"),
        ),
    ] = None
    remember: Annotated[
        bool,
        Field(description="Keep the cookie after the browser is closed (strategy `session` only)."),
    ] = False


class Profile(Input):
    """Changes of the own account. Members that are left out keep their values."""

    name: Name | None = None
    locale: OwnLocale = None


class PasswordChange(Input):
    """The current password, and the new password."""

    current_password: Password
    new_password: Annotated[NewPassword, Field(examples=["another horse, another battery"])]


OwnScopes = Annotated[
    list[Scope] | None,
    Field(
        max_length=100,
        description="A subset of the scopes of the caller; by default all of them.",
        json_schema_extra={"uniqueItems": True, **limit("scopes")},
    ),
    AfterValidator(lambda value: value and no_duplicates(value)),
]


class NewToken(Input):
    """A request for a personal access token."""

    kind: Annotated[Literal["token"], Field(examples=["token"])] = "token"
    name: TokenName
    scopes: OwnScopes = None
    expires_in: Annotated[
        Seconds | None,
        Field(description="Lifetime in seconds.", json_schema_extra=limit("expires_in")),
    ] = None


class NewJWT(Input):
    """A request for a JWT for another service."""

    model_config = ConfigDict(json_schema_extra=limit("jwt_audiences"))

    kind: Annotated[Literal["jwt"], Field(examples=["jwt"])]
    audience: Annotated[
        str,
        Field(
            min_length=1,
            max_length=255,
            description="The service that the JWT is for: the value of `aud` that it expects.",
            json_schema_extra=limit("audience"),
        ),
    ]
    scopes: OwnScopes = None
    expires_in: Annotated[
        Seconds | None,
        Field(
            description="Lifetime in seconds. It is shortened if the credential or the session of "
            "the request expires earlier.",
            json_schema_extra=limit("jwt_expires_in"),
        ),
    ] = None


def _by_kind(value: object) -> NewToken | NewJWT:
    # pydantic would add the name of the union member to the `loc` of each error.
    is_jwt = isinstance(value, dict) and value.get("kind") == "jwt"
    return (NewJWT if is_jwt else NewToken).model_validate(value, from_attributes=True)


NewCredential = Annotated[
    NewToken | NewJWT, PlainValidator(_by_kind, json_schema_input_type=NewToken | NewJWT)
]


ReportedText = Annotated[str, Field(max_length=1 << 16, pattern=r"^[^\u0000]*$")]
"""Any text without NUL: an invalid URL must not prevent the revocation of the reported token."""


class LeakReport(BaseModel):
    """A string that a secret scanner found and takes for a token of this service.

    The scanner defines the format, so unknown members are ignored.
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    token: ReportedText
    type: Annotated[
        str,
        Field(
            min_length=1,
            max_length=255,
            pattern=SINGLE_LINE_PATTERN,
            description="The name of the token pattern at the scanner.",
            examples=["authapi_access_token"],
        ),
    ]
    url: Annotated[
        ReportedText | None, Field(description="Where the token was found; may be empty.")
    ] = None
    source: Annotated[
        ReportedText | None, Field(description="The kind of place.", examples=["content"])
    ] = None
