"""Models of registrations, and of invitations that are accepted."""

from authapi.web.schemas.fields import (
    Email,
    Input,
    Name,
    NewPassword,
    NewUserName,
    OneTimeSecret,
    OwnLocale,
)


class Registration(Input):
    """A new account."""

    email: Email
    password: NewPassword
    name: Name | None = None
    username: NewUserName = None
    locale: OwnLocale = None


class InvitationAcceptance(Input):
    """The token from a mail, and the password and name of the account."""

    token: OneTimeSecret
    password: NewPassword
    name: Name | None = None
