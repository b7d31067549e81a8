"""Tokens beside those that a login gives at once: personal ones, and those that renew a login.

`presented` and `state` are about any token that somebody holds: what it is, whether it is alive.
"""

from authapi.services.tokens.personal import Tokens
from authapi.services.tokens.presented import Presented, PresentedTokens, TokenKind
from authapi.services.tokens.refresh import RefreshTokens, Renewed
from authapi.services.tokens.state import TokenStates

__all__ = [
    "Presented",
    "PresentedTokens",
    "RefreshTokens",
    "Renewed",
    "TokenKind",
    "TokenStates",
    "Tokens",
]
