"""Tokens beside those that a login gives at once: personal ones, and those that renew a login."""

from authapi.services.tokens.personal import Tokens
from authapi.services.tokens.refresh import RefreshTokens, Renewed

__all__ = ["RefreshTokens", "Renewed", "Tokens"]
