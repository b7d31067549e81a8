"""Models of logins, and of the identity of a request."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from authapi.domain.email_address import MAX_LENGTH as MAX_EMAIL_LENGTH
from authapi.domain.email_address import EmailAddress
from authapi.domain.factors.authentication_context import ACR_VALUES
from authapi.domain.identity import Identity
from authapi.domain.username import LoginIdentifier, Username, parse_login_name
from authapi.errors import InputError, InvalidInput
from authapi.web.schemas.factors.credentials import AssertedCredential
from authapi.web.schemas.fields import (
    LOGIN,
    Code,
    Email,
    Input,
    Output,
    Password,
    RecoveryCode,
    Remember,
    StrategyName,
    Ticket,
    Time,
    disabled_member,
    limit,
)
from authapi.web.schemas.user import UserOut

_NO_ADDRESS = EmailAddress("", "")
"""Stands for a member that is left out."""


class LoginRequest(Input):
    """The name and password of an account, and the kind of credential to issue.

    The operator decides whether accounts log in with their address, their user name, or either.
    """

    email: Annotated[
        Email,
        Field(default_factory=lambda: _NO_ADDRESS, json_schema_extra=limit("login_email")),
    ]
    username: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_EMAIL_LENGTH,
            examples=["alice"],
            description="The user name. If the service accepts both, also the e-mail address.",
            json_schema_extra={"pattern": r"^[^\u0000-\u0020]+$", **limit("login_username")},
        ),
    ] = ""
    password: Password
    strategy: StrategyName = None
    remember: Remember = False

    def login_name(
        self, accepted: LoginIdentifier, *, allow_reserved: bool = False
    ) -> EmailAddress | Username:
        """What names the account: exactly one of the members that are `accepted`.

        `allow_reserved` is that of `parse_email`. Raises InvalidInput if it is missing, not valid
        or not accepted.
        """
        given = self.model_fields_set & {"email", "username"}
        if accepted != "both" and (refused := given - {accepted}):
            raise InvalidInput(disabled_member(min(refused)))
        if not given:
            name = "email" if accepted == "email" else "username"
            raise InvalidInput(InputError(("body", name), "missing", "Field required"))
        if len(given) > 1:
            raise InvalidInput(disabled_member("email"))
        if "email" in given:
            return self.email
        return parse_login_name(self.username, accepted, allow_reserved=allow_reserved)


class SecondFactor(Input):
    """The code of an authenticator app, a recovery code or a passkey: exactly one."""

    # A null member stands for one that is left out.
    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
                for name in ("code", "recovery_code", "passkey")
            ]
        }
    )

    ticket: Ticket = None
    code: Code | None = None
    recovery_code: RecoveryCode | None = None
    passkey: AssertedCredential | None = None

    @model_validator(mode="after")
    def _check_one_code(self) -> Self:
        if [self.code, self.recovery_code, self.passkey].count(None) != 2:
            message = "send exactly one of code, recovery_code and passkey"
            raise PydanticCustomError("one_code", message)
        return self


class LoginEnrolment(Input):
    """The login that adds a second factor."""

    ticket: Ticket = None


class LoginConfirmation(Input):
    """The login that adds a second factor, and the first code of the authenticator app."""

    ticket: Ticket = None
    code: Code


class LoginOut(Output):
    """The result of a login. The optional members depend on the strategy.

    In the OpenAPI document, this is a union with a model for each strategy
    (`web/documents/logins.py`).
    """

    model_config = ConfigDict(extra="allow", json_schema_extra=limit(LOGIN))

    user: UserOut
    strategy: Annotated[str, Field(examples=["token"])]
    expires_at: Time
    access_token: Annotated[
        str | None,
        Field(description="The credential of a bearer strategy. It is not shown again."),
    ] = None
    token_type: Literal["bearer"] | None = None
    expires_in: Annotated[
        int | None, Field(description="Seconds until `access_token` expires.")
    ] = None
    refresh_token: Annotated[
        str | None,
        Field(description="With the strategy `jwt`: for the token endpoint. It can be used once."),
    ] = None
    refresh_expires_in: Annotated[
        int | None, Field(description="Seconds until `refresh_token` expires if it is not used.")
    ] = None


class EnrolledLoginOut(LoginOut):
    """The result of a login that has added the first second factor of its account."""

    recovery_codes: Annotated[
        list[str],
        Field(
            description="The recovery codes of the account. They are not shown again.",
            examples=[["7K2M-Q4XP-9RTD-3WHN"]],
        ),
    ]


class Reauthentication(Input):
    """The password, a code of the authenticator app, a recovery code or a passkey: exactly one."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [name]} for name in ("password", "code", "recovery_code", "passkey")
            ]
        }
    )

    password: Annotated[Password, Field(default_factory=str)]
    code: Annotated[Code, Field(default_factory=str)]
    recovery_code: Annotated[RecoveryCode, Field(default_factory=str)]
    passkey: Annotated[
        AssertedCredential, Field(default_factory=AssertedCredential.model_construct)
    ]

    @model_validator(mode="after")
    def _check_one_proof(self) -> Self:
        if len(self.model_fields_set) != 1:
            message = "send exactly one of password, code, recovery_code and passkey"
            raise PydanticCustomError("one_proof", message)
        return self

    def second_factor(self) -> dict[str, Any]:
        """The second factor, as an argument of `StepUp.prove`; empty if it is the password."""
        if "passkey" in self.model_fields_set:
            return {"passkey": self.passkey.assertion()}
        return self.model_dump(include=self.model_fields_set - {"password"})


class IdentityOut(Output):
    """How a request was authenticated."""

    user_id: UUID
    strategy: Annotated[str, Field(examples=["session"])]
    session_id: UUID | None
    scopes: list[str]
    auth_time: Annotated[Time, Field(description="When the user last authenticated.")]
    amr: Annotated[
        list[str],
        Field(
            description="The authentication methods (RFC 8176); empty for a personal access token.",
            examples=[["pwd"]],
        ),
    ]
    acr: Annotated[
        str | None,
        Field(
            description="How strong the login is; null for a personal access token.",
            examples=[*ACR_VALUES],
        ),
    ]
    mfa_at: Annotated[
        Time | None,
        Field(description="When this login last proved a second factor; null if it has not."),
    ]
    expires_at: Time | None

    @classmethod
    def of(cls, identity: Identity) -> "IdentityOut":
        """The representation of `identity`."""
        return cls(
            user_id=identity.user.id,
            strategy=identity.strategy,
            session_id=identity.session_id,
            scopes=sorted(identity.scopes),
            auth_time=identity.auth_time,
            amr=list(identity.amr),
            acr=identity.acr,
            mfa_at=identity.mfa_at,
            expires_at=identity.expires_at,
        )
