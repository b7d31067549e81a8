"""The JSON that comes in: strict, no unknown members, no conversions."""

from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
)

from authapi.web.schemas.fields import (
    Email,
    Input,
    Name,
    NewPassword,
    Password,
    Scope,
    Seconds,
    TokenName,
    limit,
    no_duplicates,
)


class Registration(Input):
    """A new account."""

    email: Email
    password: NewPassword
    name: Name | None = None


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


class PasswordChange(Input):
    """The password in use, and the one to be."""

    current_password: Password
    new_password: Annotated[NewPassword, Field(examples=["another horse, another battery"])]


class NewToken(Input):
    """A personal access token to be."""

    name: TokenName
    scopes: Annotated[
        list[Scope] | None,
        Field(
            max_length=100,
            description="Some of your own scopes; all of them if left out. Superusers hold "
            "`introspect` besides those listed.",
            json_schema_extra={"uniqueItems": True, **limit("scopes")},
        ),
        AfterValidator(lambda value: value and no_duplicates(value)),
    ] = None
    expires_in: Annotated[
        Seconds | None, Field(description="Seconds.", json_schema_extra=limit("expires_in"))
    ] = None
