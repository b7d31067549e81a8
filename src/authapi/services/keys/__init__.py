"""Signing keys of access tokens: rows of the database, encrypted with one configured secret.

`signing` signs and verifies with the keys in memory (`key_set`), and reads them again in the
background. `lifecycle` moves keys from state to state. See
`docs/decisions/0013-signing-keys-as-rows.md`.
"""

from authapi.services.keys.lifecycle import JWKS_MAX_AGE
from authapi.services.keys.signing import Keys

__all__ = ["JWKS_MAX_AGE", "Keys"]
