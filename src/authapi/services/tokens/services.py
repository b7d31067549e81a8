"""The services of tokens."""

from dataclasses import dataclass

from authapi.services.tokens.exchange import TokenExchange
from authapi.services.tokens.introspection import TokenIntrospection
from authapi.services.tokens.personal import PersonalTokens
from authapi.services.tokens.refresh import RefreshTokens
from authapi.services.tokens.revocation import TokenRevocation
from authapi.services.tokens.secret_scanning import SecretScanning


@dataclass(frozen=True, slots=True)
class TokenServices:
    """What the service does with tokens, besides issuing them at a login."""

    exchange: TokenExchange
    introspection: TokenIntrospection
    personal: PersonalTokens
    refresh: RefreshTokens
    revocation: TokenRevocation
    secret_scanning: SecretScanning
