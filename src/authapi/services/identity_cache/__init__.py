"""Identities kept in memory between requests, their invalidation, and when sessions were used.

`cache` is the map from credentials to identities, `invalidation` removes entries that another
process has changed, and `last_used` writes the time of the last use of each session in batches.
"""

from authapi.services.identity_cache.cache import CachedIdentity, IdentityCache
from authapi.services.identity_cache.invalidation import (
    CacheInvalidation,
    announce_changes,
    invalidation_of,
)
from authapi.services.identity_cache.last_used import LastUsed

__all__ = [
    "CacheInvalidation",
    "CachedIdentity",
    "IdentityCache",
    "LastUsed",
    "announce_changes",
    "invalidation_of",
]
