"""Models of personal access tokens, of JWTs for other services, and of reports of leaked tokens."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator

from authapi.crypto.secrets import hash_secret
from authapi.domain.display_names import SINGLE_LINE_PATTERN
from authapi.domain.session import Session
from authapi.services.tokens import ExchangedToken, Verdict
from authapi.web.schemas.fields import (
    Input,
    Output,
    Scope,
    Seconds,
    Time,
    TokenName,
    limit,
    no_duplicates,
)

MAX_SCOPES = 100
"""Scopes of a token."""

OwnScopes = Annotated[
    list[Scope] | None,
    Field(
        max_length=MAX_SCOPES,
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
