"""Client secrets that are signed for one request (RFC 7523, section 3), as Apple requires them."""

from collections.abc import Mapping

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jose import jwk, jwt

from authapi.errors import UnsupportedKey


class AssertionKey:
    """A private key for ES256, as PEM, that the provider knows by `kid`.

    Raises UnsupportedKey for other data, and for a key with a passphrase.
    """

    def __init__(self, pem: bytes, *, kid: str) -> None:
        try:
            private = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):  # the last for an unknown curve
            raise UnsupportedKey("not a private key") from None
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
            raise UnsupportedKey("another curve than P-256")
        self._kid = kid
        self._key = jwk.construct(
            private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "ES256"
        )

    def sign(self, claims: Mapping[str, object]) -> str:
        """Returns a JWT with `claims`. Times must be integers, in seconds since 1970."""
        return jwt.encode(dict(claims), self._key, algorithm="ES256", headers={"kid": self._kid})
