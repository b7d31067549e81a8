"""Tokens: personal access tokens, refresh tokens, token exchange, and what ends them.

`introspection` finds out what a token stands for (RFC 7662), `revocation` ends one (RFC 7009), and
`secret_scanning` ends those that were found in public.
"""

from authapi.services.tokens.exchange import ExchangedToken, TokenExchange
from authapi.services.tokens.introspection import (
    TokenInfo,
    TokenIntrospection,
    TokenKind,
    TokenLookup,
)
from authapi.services.tokens.personal import PersonalTokens
from authapi.services.tokens.refresh import RefreshedSession, RefreshTokens
from authapi.services.tokens.revocation import TokenRevocation
from authapi.services.tokens.scanner_keys import read_scanner_keys
from authapi.services.tokens.secret_scanning import ReportedToken, SecretScanning, Verdict

__all__ = [
    "ExchangedToken",
    "PersonalTokens",
    "RefreshTokens",
    "RefreshedSession",
    "ReportedToken",
    "SecretScanning",
    "TokenExchange",
    "TokenInfo",
    "TokenIntrospection",
    "TokenKind",
    "TokenLookup",
    "TokenRevocation",
    "Verdict",
    "read_scanner_keys",
]
