"""Models of OAuth responses: token introspection (RFC 7662) and metadata (RFC 8414, RFC 9728)."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from authapi.domain.factors.authentication_context import ACR_VALUES, acr_of
from authapi.domain.identity import FIRST_PARTY_CLIENT_ID
from authapi.services.tokens import TokenInfo, TokenKind
from authapi.web.schemas.fields import Output

NumericDate = Annotated[
    int, Field(description="Seconds since 1970-01-01T00:00:00Z.", examples=[1795507200])
]


class ActiveToken(Output):
    """The response for an active token (RFC 7662, section 2.2); empty members are omitted."""

    active: Literal[True]
    token_type: Annotated[
        Literal["Bearer", "refresh_token"],
        Field(description="A resource server must not accept a refresh token."),
    ]
    iss: str
    sub: Annotated[UUID, Field(description="The id of the account.")]
    client_id: Annotated[
        str,
        Field(
            description="The client that the token was issued to.",
            examples=[FIRST_PARTY_CLIENT_ID],
        ),
    ]
    aud: str | list[str]
    exp: NumericDate
    iat: NumericDate
    sid: Annotated[
        UUID, Field(description="The id of the session. All tokens of one login have the same.")
    ]
    scope: Annotated[str | None, Field(description="Scopes, separated by spaces.")] = None
    jti: Annotated[str | None, Field(description="The id of a JWT.")] = None
    auth_time: Annotated[
        NumericDate | None,
        Field(description="When the user last authenticated; not for personal access tokens."),
    ] = None
    amr: list[str] | None = None
    acr: Annotated[
        str | None,
        Field(
            description="How strong the login is (RFC 9470, section 6.2).", examples=[*ACR_VALUES]
        ),
    ] = None

    @classmethod
    def of(cls, token: TokenInfo, issuer: str) -> "ActiveToken":
        """The representation of `token`. It identifies the account only by its id."""
        session = token.session
        return cls.model_validate(
            {
                "active": True,
                "token_type": "Bearer" if token.kind is TokenKind.ACCESS else "refresh_token",
                "iss": issuer,
                "sub": token.user.id,
                "client_id": FIRST_PARTY_CLIENT_ID,
                "aud": token.audience,
                "exp": int(token.expires_at.timestamp()),
                "iat": int(token.issued_at.timestamp()),
                "sid": session.id,
                "scope": " ".join(sorted(token.scopes)) or None,
                "jti": token.jti,
                # A personal access token is not the result of a login, so it has no `auth_time`.
                "auth_time": int(session.auth_time.timestamp()) if session.amr else None,
                "amr": list(session.amr) or None,
                "acr": acr_of(session.amr),
            }
        )


class InactiveToken(Output):
    """The response for an inactive or unknown token. It does not contain a reason."""

    active: Literal[False]


INACTIVE = InactiveToken(active=False).model_dump_json()


class AuthorizationServer(Output):
    """Metadata of the authorization server (RFC 8414, section 2)."""

    issuer: str
    jwks_uri: str
    token_endpoint: str | None = None
    token_endpoint_auth_methods_supported: list[str] | None = None
    grant_types_supported: list[str]
    response_types_supported: Annotated[
        list[str], Field(description="Empty: there is no authorization endpoint.")
    ]
    revocation_endpoint: str | None = None
    revocation_endpoint_auth_methods_supported: list[str] | None = None
    introspection_endpoint: str | None = None
    introspection_endpoint_auth_methods_supported: list[str] | None = None
    scopes_supported: list[str] | None = None
    service_documentation: str | None = None


class ProtectedResource(Output):
    """Metadata of the protected resource (RFC 9728, section 2)."""

    resource: str
    authorization_servers: list[str] | None = None
    bearer_methods_supported: list[str]
    scopes_supported: list[str] | None = None
    resource_name: str
    resource_documentation: str | None = None


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


class JWKSetOut(Output):
    """A JWK set (RFC 7517, section 5)."""

    keys: list[dict[str, str]]
