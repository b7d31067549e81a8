"""Models of response bodies."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    ConfigDict,
    Field,
    JsonValue,
)

from authapi.crypto.secrets import hash_secret
from authapi.identity import Event, EventType, Identity, Session, SessionKind, User
from authapi.services.tokens import ExchangedToken, Verdict
from authapi.web.schemas.fields import (
    Output,
    Time,
    limit,
)
from authapi.web.schemas.inputs import LeakReport


class UserOut(Output):
    """An account."""

    id: UUID
    email: Annotated[
        str, Field(description="In the spelling of its owner.", examples=["a@example.com"])
    ]
    name: str | None
    is_active: bool
    is_superuser: bool
    email_confirmed_at: Time | None
    created_at: Time
    updated_at: Time
    locale: Annotated[
        str | None,
        Field(description="The language of mails; null for the default language of the service."),
    ]
    roles: list[str]

    @classmethod
    def of(cls, user: User) -> "UserOut":
        """The representation of `user`."""
        return cls(
            id=user.id,
            email=user.email,
            name=user.name,
            is_active=user.is_active,
            is_superuser=user.is_superuser,
            email_confirmed_at=user.email_confirmed_at,
            created_at=user.created_at,
            updated_at=user.updated_at,
            locale=user.locale,
            roles=sorted(user.roles),
        )


class LoginOut(Output):
    """The result of a login. The optional members depend on the strategy."""

    model_config = ConfigDict(extra="allow")

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
        Field(description="With the strategy `jwt`: for POST /token. It can be used once."),
    ] = None
    refresh_expires_in: Annotated[
        int | None, Field(description="Seconds until `refresh_token` expires if it is not used.")
    ] = None


class TokenOut(Output):
    """The response of the token endpoint (RFC 6749, section 5.1)."""

    access_token: str
    token_type: Literal["bearer"]
    expires_in: Annotated[int, Field(description="Seconds until `access_token` expires.")]
    refresh_token: Annotated[
        str | None,
        Field(description="The next refresh token. It replaces the one of the request."),
    ] = None
    refresh_expires_in: Annotated[
        int | None, Field(description="Seconds until `refresh_token` expires if it is not used.")
    ] = None
    scope: str


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
            expires_at=identity.expires_at,
        )


class SessionOut(Output):
    """A login session of the caller."""

    id: UUID
    kind: SessionKind
    current: Annotated[bool, Field(description="Whether this request belongs to the session.")]
    created_at: Time
    last_seen_at: Time
    idle_expires_at: Annotated[
        Time | None, Field(description="When the session expires if it is not used.")
    ]
    expires_at: Time
    ip: str | None
    user_agent: str | None

    @classmethod
    def of(cls, session: Session, identity: Identity) -> "SessionOut":
        """The representation of `session`; `current` is set if it is the session of `identity`."""
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
    """The current session, and the data that the application stores in it."""

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
        """The representation of `token`, which must be a personal access token."""
        return cls(
            id=token.id,
            name=token.name or "",
            scopes=sorted(token.scopes or ()),
            created_at=token.created_at,
            last_used_at=token.last_seen_at if token.last_seen_at > token.created_at else None,
            expires_at=token.expires_at,
        )


class NewTokenOut(PersonalTokenOut):
    """A new personal access token with its secret. The secret is not shown again."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"


class NewJWTOut(Output):
    """A JWT for another service."""

    model_config = ConfigDict(json_schema_extra=limit("jwt_audiences"))

    kind: Literal["jwt"] = "jwt"
    access_token: Annotated[str, Field(description="The JWT. The service does not store it.")]
    token_type: Literal["bearer"] = "bearer"
    expires_in: Annotated[int, Field(description="Seconds until the JWT expires.")]
    expires_at: Time
    audience: Annotated[str, Field(description="The claim `aud` of the JWT.")]
    scopes: list[str]

    @classmethod
    def of(cls, token: ExchangedToken) -> "NewJWTOut":
        """The representation of `token`."""
        return cls(
            access_token=token.text,
            expires_in=int((token.expires_at - token.issued_at).total_seconds()),
            expires_at=token.expires_at,
            audience=token.audience,
            scopes=sorted(token.scopes),
        )


class LeakFeedback(Output):
    """The result of a report, in the format of GitHub's secret scanning partner programme."""

    token_hash: Annotated[
        str, Field(description="The SHA-256 of the reported token, in hexadecimal.")
    ]
    token_type: Annotated[str, Field(description="The `type` of the report.")]
    label: Annotated[
        Verdict,
        Field(description="`true_positive` if the token was valid; it is revoked now."),
    ]

    @classmethod
    def of(cls, report: LeakReport, verdict: Verdict) -> "LeakFeedback":
        """The feedback for `report`. It does not contain the token."""
        digest = hash_secret(report.token).digest
        return cls(token_hash=digest.hex(), token_type=report.type, label=verdict)


class EventOut(Output):
    """An audit event of the account of the caller."""

    id: UUID
    at: Time
    type: EventType
    outcome: Literal["success", "refused"]
    session_id: UUID | None
    strategy: str | None
    ip: str | None
    user_agent: str | None
    request_id: str | None
    detail: dict[str, JsonValue]

    @classmethod
    def of(cls, event: Event) -> "EventOut":
        """The representation of `event` for the owner of the account."""
        return cls.model_validate(
            {
                "id": event.id,
                "at": event.at,
                "type": event.type,
                "outcome": event.outcome,
                "session_id": event.session_id,
                "strategy": event.strategy,
                # The address and user agent of a superuser are personal data of the superuser.
                "ip": event.client.ip if event.actor_id is None else None,
                "user_agent": event.client.user_agent if event.actor_id is None else None,
                "request_id": event.client.request_id,
                "detail": dict(event.detail),
            }
        )


class EventPage(Output):
    """A page of audit events."""

    items: list[EventOut]
    next: Annotated[
        UUID | None,
        Field(description="Value of `before` for the next page; null on the last page."),
    ]


class ExportOut(Output):
    """All data of the account of the caller."""

    exported_at: Time
    account: UserOut
    sessions: Annotated[list[SessionOut], Field(description="The active login sessions.")]
    tokens: list[PersonalTokenOut]
    events: list[EventOut]


class HealthOut(Output):
    """The result of a health check."""

    status: Literal["ok"]


class JWKSetOut(Output):
    """A JWK set (RFC 7517, section 5)."""

    keys: list[dict[str, str]]


class ProblemError(Output):
    """One invalid value of the input."""

    loc: list[str | int]
    code: str
    message: str


class Problem(Output):
    """An error, as a problem document (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(examples=["urn:authapi:error:not_found"])]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Any
    code: Annotated[
        str,
        Field(
            description="The stable code of the error; see docs/errors.md.", examples=["not_found"]
        ),
    ]
    request_id: str
    errors: list[ProblemError] | None = None


class OAuthError(Problem):
    """An error of an OAuth endpoint (RFC 6749, section 5.2)."""

    model_config = ConfigDict(extra="forbid")

    error: Annotated[
        str,
        Field(
            description="The error code of RFC 6749 or RFC 6750.",
            examples=["invalid_grant"],
            pattern=r"^[a-z_]+$",
        ),
    ]
    error_description: Annotated[
        str,
        Field(
            description="A description for developers. It may change.",
            pattern=r"^[\x20\x21\x23-\x5b\x5d-\x7e]+$",
        ),
    ]


def session_data_out(identity: Identity, data: Mapping[str, Any]) -> SessionDataOut:
    """The representation of the session of `identity`, with `data`.

    Raises TypeError if `identity` has no session.
    """
    if identity.session_id is None or identity.expires_at is None:
        raise TypeError("this identity has no session")
    return SessionDataOut(id=identity.session_id, expires_at=identity.expires_at, data=dict(data))
