"""Tokens beside those that a login gives at once.

Personal ones, those that renew a login, those that a credential is exchanged for, and what is done
about any that leaked.
"""

from authapi.services.tokens.exchange import Exchange, ExchangedToken
from authapi.services.tokens.leaks import Leak, Leaks, Verdict
from authapi.services.tokens.personal import Tokens
from authapi.services.tokens.presented import Presented, PresentedTokens, TokenKind
from authapi.services.tokens.refresh import RefreshTokens, Renewed
from authapi.services.tokens.scanners import read_scanners
from authapi.services.tokens.state import TokenStates

__all__ = [
    "Exchange",
    "ExchangedToken",
    "Leak",
    "Leaks",
    "Presented",
    "PresentedTokens",
    "RefreshTokens",
    "Renewed",
    "TokenKind",
    "TokenStates",
    "Tokens",
    "Verdict",
    "read_scanners",
]
