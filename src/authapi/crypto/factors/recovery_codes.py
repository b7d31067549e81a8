"""Recovery codes: 80 random bits in the base32 of Crockford, `XXXX-XXXX-XXXX-XXXX`.

The alphabet has no letters that look like digits. A code that people type in lower case, without
dashes, or with such a letter is the same code. 80 random bits cannot be guessed, so a plain SHA-256
protects them at rest (NIST SP 800-63B-4 requires a slow hash below 64 bits for look-up secrets that
are not random).
"""

import re
import secrets

from authapi.crypto.secrets import SecretHash, hash_secret

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_BITS = 80
_GROUP = 4
_LOOK_ALIKES = str.maketrans("OIL", "011")
_SEPARATORS = re.compile("[ -]")
_CODE = re.compile(f"[{_ALPHABET}]{{16}}")


def new_recovery_code() -> str:
    """Returns a new code."""
    number = secrets.randbits(_BITS)
    text = "".join(_ALPHABET[(number >> shift) & 31] for shift in range(_BITS - 5, -1, -5))
    return "-".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))


def hash_recovery_code(code: str) -> SecretHash | None:
    """Returns the hash of a code as its owner typed it; None if it does not have the form of one.

    Case, dashes, spaces and look-alike letters do not matter.
    """
    if not code.isascii():
        return None
    text = _SEPARATORS.sub("", code).upper().translate(_LOOK_ALIKES)
    return hash_secret(text) if _CODE.fullmatch(text) else None
