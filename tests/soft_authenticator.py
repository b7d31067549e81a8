"""The passkey of the testing kit, under the names that tests of the service have for it."""

from authapi.testing.passkeys import (
    ATTESTED,
    BACKED_UP,
    ELIGIBLE,
    ORIGIN,
    PRESENT,
    VERIFIED,
    Key,
    b64,
    cose_key,
    unb64,
)
from authapi.testing.passkeys import SoftPasskey as SoftAuthenticator

__all__ = [
    "ATTESTED",
    "BACKED_UP",
    "ELIGIBLE",
    "ORIGIN",
    "PRESENT",
    "VERIFIED",
    "Key",
    "SoftAuthenticator",
    "b64",
    "cose_key",
    "unb64",
]
