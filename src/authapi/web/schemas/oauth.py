"""The JSON of OAuth: what is told of tokens (RFC 7662), of ourselves (RFC 8414, RFC 9728)."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from authapi.identity import OWN_CLIENT
from authapi.services.tokens import Presented, TokenKind
from authapi.web.schemas.fields import Output

NumericDate = Annotated[int, Field(description="Seconds since 1970.", examples=[1795507200])]


class ActiveToken(Output):
    """What a good token stands for. Members without a value are left out."""

    active: Literal[True]
    token_type: Annotated[
        Literal["Bearer", "refresh_token"],
        Field(description="A refresh token is nothing that a resource may accept."),
    ]
    iss: str
    sub: Annotated[UUID, Field(description="The account.")]
    client_id: Annotated[
        str, Field(description="Which client the token was given to.", examples=[OWN_CLIENT])
    ]
    aud: str | list[str]
    exp: NumericDate
    iat: NumericDate
    sid: Annotated[UUID, Field(description="The session: the same in all tokens of one login.")]
    scope: Annotated[str | None, Field(description="Names with a space between them.")] = None
    jti: Annotated[str | None, Field(description="Of a JWT.")] = None
    auth_time: Annotated[
        NumericDate | None,
        Field(description="When its owner logged in; not for personal access tokens."),
    ] = None
    amr: list[str] | None = None

    @classmethod
    def of(cls, token: Presented, issuer: str) -> "ActiveToken":
        """The token as the API tells of it: whose it is by id, and by nothing else."""
        session = token.session
        return cls.model_validate(
            {
                "active": True,
                "token_type": "Bearer" if token.kind is TokenKind.ACCESS else "refresh_token",
                "iss": issuer,
                "sub": token.user.id,
                "client_id": OWN_CLIENT,
                "aud": token.audience,
                "exp": int(token.expires_at.timestamp()),
                "iat": int(token.issued_at.timestamp()),
                "sid": session.id,
                "scope": " ".join(sorted(token.scopes)) or None,
                "jti": token.jti,
                # Nobody logged in with a personal access token, so nothing was proved lately.
                "auth_time": int(session.auth_time.timestamp()) if session.amr else None,
                "amr": list(session.amr) or None,
            }
        )


class InactiveToken(Output):
    """Whatever is no good token, for any reason."""

    active: Literal[False]


INACTIVE = InactiveToken(active=False).model_dump_json()


class AuthorizationServer(Output):
    """What clients need to know of us (RFC 8414, section 2)."""

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
    """Who gives the tokens that this resource takes (RFC 9728, section 2)."""

    resource: str
    authorization_servers: list[str] | None = None
    bearer_methods_supported: list[str]
    scopes_supported: list[str] | None = None
    resource_name: str
    resource_documentation: str | None = None
