"""Models of requests for mail, and of requests with a token from a mail."""

from typing import Annotated

from pydantic import Field

from authapi.web.schemas.fields import Email, Input, NewPassword, OneTimeSecret, Password

OptionalPassword = Annotated[
    Password | None, Field(json_schema_extra={"format": "password", "writeOnly": True})
]


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


class LoginDisowning(Input):
    """The token from a mail about a login."""

    token: OneTimeSecret


class PasswordReset(Input):
    """The token from a mail, and the new password."""

    token: OneTimeSecret
    new_password: Annotated[NewPassword, Field(examples=["another horse, another battery"])]
