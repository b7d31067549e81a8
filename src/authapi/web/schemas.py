"""The JSON that goes in and out. What comes in is strict: no unknown members, no conversions."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from authapi.crypto.passwords import MAX_LENGTH as MAX_PASSWORD_LENGTH
from authapi.errors import InvalidInput
from authapi.identity import Identity, Session, SessionKind, User
from authapi.services.addresses import MAX_LENGTH as MAX_EMAIL_LENGTH
from authapi.services.addresses import EmailAddress, parse_email

_PRINTABLE = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]+$"


def _email(value: object) -> EmailAddress:
    if isinstance(value, EmailAddress):
        return value
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "Input should be a valid string")
    try:
        return parse_email(value)
    except InvalidInput as refusal:
        problem = refusal.errors[0]
        raise PydanticCustomError(
            "email_invalid", "{reason}", {"reason": problem.message}
        ) from None


def _rfc3339(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _limit(name: str) -> dict[str, JsonValue]:
    # A limit that is a setting: `web/openapi.py` writes it into the document.
    return {"x-limit": name}


Email = Annotated[
    EmailAddress,
    BeforeValidator(_email),
    WithJsonSchema(
        {
            "type": "string",
            "format": "email",
            "maxLength": MAX_EMAIL_LENGTH,
            "examples": ["alice@example.com"],
            "description": "One address; its local part is ASCII.",
        }
    ),
]
Password = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_PASSWORD_LENGTH,
        json_schema_extra={"format": "password", "writeOnly": True},
        examples=["correct horse battery staple"],
    ),
]
NewPassword = Annotated[
    str,
    Field(
        max_length=MAX_PASSWORD_LENGTH,
        json_schema_extra={"format": "password", "writeOnly": True, **_limit("new_password")},
        examples=["correct horse battery staple"],
    ),
]
Name = Annotated[
    str, Field(min_length=1, max_length=200, pattern=_PRINTABLE, examples=["Alice Example"])
]
TokenName = Annotated[
    str, Field(min_length=1, max_length=100, pattern=_PRINTABLE, examples=["backup script"])
]
Scope = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$")]
Time = Annotated[
    datetime,
    PlainSerializer(_rfc3339, return_type=str),
    WithJsonSchema(
        {"type": "string", "format": "date-time", "examples": ["2026-11-23T08:00:00.000000Z"]}
    ),
]


def _no_duplicates(value: list[str]) -> list[str]:
    if len(set(value)) != len(value):
        raise PydanticCustomError("duplicate_items", "names an item twice")
    return value


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# JSON has one kind of number: 60 and 60.0 are the same (JSON Schema, core, section 4.2.2).
Seconds = Annotated[int, Field(ge=1, le=10**10, examples=[2592000]), BeforeValidator(_whole)]


class Input(BaseModel):
    """What comes in."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)


class Output(BaseModel):
    """What goes out."""

    model_config = ConfigDict(extra="forbid")


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
            json_schema_extra=_limit("strategy"),
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
            description="Some of your own scopes; all of them if left out.",
            json_schema_extra={"uniqueItems": True, **_limit("scopes")},
        ),
        AfterValidator(lambda value: value and _no_duplicates(value)),
    ] = None
    expires_in: Annotated[
        Seconds | None, Field(description="Seconds.", json_schema_extra=_limit("expires_in"))
    ] = None


class UserOut(Output):
    """An account."""

    id: UUID
    email: Annotated[str, Field(description="As its owner wrote it.", examples=["a@example.com"])]
    name: str | None
    is_active: bool
    is_superuser: bool
    email_confirmed_at: Time | None
    created_at: Time
    updated_at: Time

    @classmethod
    def of(cls, user: User) -> "UserOut":
        """The account as the API shows it."""
        return cls(
            id=user.id,
            email=user.email,
            name=user.name,
            is_active=user.is_active,
            is_superuser=user.is_superuser,
            email_confirmed_at=user.email_confirmed_at,
            created_at=user.created_at,
            updated_at=user.updated_at,
        )


class LoginOut(Output):
    """A session that has begun. Which members follow depends on the strategy."""

    model_config = ConfigDict(extra="allow")

    user: UserOut
    strategy: Annotated[str, Field(examples=["token"])]
    expires_at: Time
    access_token: Annotated[
        str | None, Field(description="For bearer strategies; shown this once.")
    ] = None
    token_type: Literal["bearer"] | None = None
    expires_in: Annotated[int | None, Field(description="Seconds until it ends.")] = None


class TokenOut(Output):
    """The answer of the token endpoint (RFC 6749, section 5.1)."""

    access_token: str
    token_type: Literal["bearer"]
    expires_in: Annotated[int, Field(description="Seconds.")]
    scope: str


class IdentityOut(Output):
    """How a request was authenticated."""

    user_id: UUID
    strategy: Annotated[str, Field(examples=["session"])]
    session_id: UUID | None
    scopes: list[str]
    auth_time: Annotated[Time, Field(description="When the caller last proved who they are.")]
    amr: Annotated[list[str], Field(description="How, in words of RFC 8176.", examples=[["pwd"]])]
    expires_at: Time | None

    @classmethod
    def of(cls, identity: Identity) -> "IdentityOut":
        """The identity as the API shows it."""
        return cls(
            user_id=identity.user.id,
            strategy=identity.strategy,
            session_id=identity.session_id,
            scopes=sorted(identity.scopes),
            auth_time=identity.auth_time,
            amr=list(identity.amr),
            expires_at=identity.expires_at,
        )


class SessionOut(Output):
    """A login of mine."""

    id: UUID
    kind: SessionKind
    current: Annotated[bool, Field(description="Whether this request came with it.")]
    created_at: Time
    last_seen_at: Time
    idle_expires_at: Annotated[Time | None, Field(description="When it ends if not used.")]
    expires_at: Time
    ip: str | None
    user_agent: str | None

    @classmethod
    def of(cls, session: Session, identity: Identity) -> "SessionOut":
        """The session as the API shows it to `identity`."""
        return cls(
            id=session.id,
            kind=session.kind,
            current=session.id == identity.session_id,
            created_at=session.created_at,
            last_seen_at=session.last_seen_at,
            idle_expires_at=session.idle_expires_at,
            expires_at=session.expires_at,
            ip=session.client.ip,
            user_agent=session.client.user_agent,
        )


class SessionDataOut(Output):
    """This session, and what is kept with it."""

    id: UUID
    expires_at: Time
    data: dict[str, JsonValue]


class PersonalTokenOut(Output):
    """A personal access token, without its secret."""

    id: UUID
    name: str
    scopes: list[str]
    created_at: Time
    last_used_at: Time | None
    expires_at: Time

    @classmethod
    def of(cls, token: Session) -> "PersonalTokenOut":
        """The token as the API shows it."""
        return cls(
            id=token.id,
            name=token.name or "",
            scopes=sorted(token.scopes),
            created_at=token.created_at,
            last_used_at=token.last_seen_at if token.last_seen_at > token.created_at else None,
            expires_at=token.expires_at,
        )


class NewTokenOut(PersonalTokenOut):
    """A personal access token with its secret, which is never shown again."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"


class HealthOut(Output):
    """Whether the service works."""

    status: Literal["ok"]


class JWKSetOut(Output):
    """A JWK set (RFC 7517, section 5)."""

    keys: list[dict[str, str]]


class ProblemError(Output):
    """One thing wrong with the input."""

    loc: list[str | int]
    code: str
    message: str


class Problem(Output):
    """A refusal (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(examples=["urn:authapi:error:not_found"])]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Any
    code: Annotated[str, Field(description="Stable; see docs/errors.md.", examples=["not_found"])]
    request_id: str
    errors: list[ProblemError] | None = None


def session_data_out(identity: Identity, data: Mapping[str, Any]) -> SessionDataOut:
    """The session of `identity` with `data`. Only for identities that have a session."""
    if identity.session_id is None or identity.expires_at is None:
        raise TypeError("this identity has no session")
    return SessionDataOut(id=identity.session_id, expires_at=identity.expires_at, data=dict(data))
