"""The JSON that goes out: only what is named here."""

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
    email: Annotated[str, Field(description="As its owner wrote it.", examples=["a@example.com"])]
    name: str | None
    is_active: bool
    is_superuser: bool
    email_confirmed_at: Time | None
    created_at: Time
    updated_at: Time
    locale: Annotated[
        str | None,
        Field(description="The language they are written to in; null: that of the service."),
    ]
    roles: list[str]

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
            locale=user.locale,
            roles=sorted(user.roles),
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
    refresh_token: Annotated[
        str | None, Field(description="With `jwt`: for POST /token, once.")
    ] = None
    refresh_expires_in: Annotated[
        int | None, Field(description="Seconds until that ends if it is not used.")
    ] = None


class TokenOut(Output):
    """The answer of the token endpoint (RFC 6749, section 5.1)."""

    access_token: str
    token_type: Literal["bearer"]
    expires_in: Annotated[int, Field(description="Seconds.")]
    refresh_token: Annotated[
        str | None, Field(description="For the next time; the one that was sent is used up.")
    ] = None
    refresh_expires_in: Annotated[
        int | None, Field(description="Seconds until that ends if it is not used.")
    ] = None
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
            scopes=sorted(token.scopes or ()),
            created_at=token.created_at,
            last_used_at=token.last_seen_at if token.last_seen_at > token.created_at else None,
            expires_at=token.expires_at,
        )


class NewTokenOut(PersonalTokenOut):
    """A personal access token with its secret, which is never shown again."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"


class NewJWTOut(Output):
    """A JWT for another service."""

    model_config = ConfigDict(json_schema_extra=limit("jwt_audiences"))

    kind: Literal["jwt"] = "jwt"
    access_token: Annotated[str, Field(description="Kept nowhere here.")]
    token_type: Literal["bearer"] = "bearer"
    expires_in: Annotated[int, Field(description="Seconds.")]
    expires_at: Time
    audience: Annotated[str, Field(description="Its `aud`.")]
    scopes: list[str]

    @classmethod
    def of(cls, token: ExchangedToken) -> "NewJWTOut":
        """The token as the API shows it."""
        return cls(
            access_token=token.text,
            expires_in=int((token.expires_at - token.issued_at).total_seconds()),
            expires_at=token.expires_at,
            audience=token.audience,
            scopes=sorted(token.scopes),
        )


class LeakFeedback(Output):
    """What came of a report, in the form that GitHub's partner programme takes."""

    token_hash: Annotated[str, Field(description="The SHA-256 of the text, in hexadecimal.")]
    token_type: Annotated[str, Field(description="As it was reported.")]
    label: Annotated[
        Verdict, Field(description="A true positive was a live credential, and is dead now.")
    ]

    @classmethod
    def of(cls, report: LeakReport, verdict: Verdict) -> "LeakFeedback":
        """The answer to a report; it never repeats the token."""
        digest = hash_secret(report.token).digest
        return cls(token_hash=digest.hex(), token_type=report.type, label=verdict)


class EventOut(Output):
    """Something that happened to my account."""

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
        """The event as the API shows it."""
        return cls.model_validate(
            {
                "id": event.id,
                "at": event.at,
                "type": event.type,
                "outcome": event.outcome,
                "session_id": event.session_id,
                "strategy": event.strategy,
                # Of a superuser who did it, their network and browser are nobody else's business.
                "ip": event.client.ip if event.actor_id is None else None,
                "user_agent": event.client.user_agent if event.actor_id is None else None,
                "request_id": event.client.request_id,
                "detail": dict(event.detail),
            }
        )


class EventPage(Output):
    """Some events, and where to go on."""

    items: list[EventOut]
    next: Annotated[UUID | None, Field(description="For `before`; null on the last page.")]


class ExportOut(Output):
    """Everything of mine."""

    exported_at: Time
    account: UserOut
    sessions: Annotated[list[SessionOut], Field(description="Logins that are alive.")]
    tokens: list[PersonalTokenOut]
    events: list[EventOut]


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


class OAuthError(Problem):
    """A refusal of an OAuth endpoint (RFC 6749, section 5.2)."""

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
            description="For developers; it may change.",
            pattern=r"^[\x20\x21\x23-\x5b\x5d-\x7e]+$",
        ),
    ]


def session_data_out(identity: Identity, data: Mapping[str, Any]) -> SessionDataOut:
    """The session of `identity` with `data`. Only for identities that have a session."""
    if identity.session_id is None or identity.expires_at is None:
        raise TypeError("this identity has no session")
    return SessionDataOut(id=identity.session_id, expires_at=identity.expires_at, data=dict(data))
