"""Formats of password hashes from other systems, converted to passlib's formats.

Supported are argon2 and bcrypt in their standard formats, Django's variants of both, PBKDF2 and
scrypt of Django and Werkzeug, and passlib's own formats. A hash contains its cost parameters.
Without an upper bound, an imported hash could make a login use a CPU core for any length of time.
The bounds are about three times the present defaults of those systems, and about a second of work.

This module only parses text: it hashes no password and does not need passlib.
"""

import base64
import binascii
import re
from collections.abc import Callable

from authapi.errors import UnsupportedHash

IMPORTED_PREFIX = "foreign:"
"""The prefix of a stored hash of another system. Hashes of this service do not have it."""

_MAX_LENGTH = 512
_MAX_STORED_LENGTH = 255 - len(IMPORTED_PREFIX)
_MAX_ARGON2_MEMORY = 1 << 18  # KiB
_MAX_ARGON2_WORK = 1 << 20  # KiB times passes
_MAX_ARGON2_LANES = 16
_MAX_BCRYPT_COST = 14
_MAX_ITERATIONS = 4_000_000
_MAX_SCRYPT_MEMORY = 1 << 28  # bytes
_MAX_SCRYPT_WORK = 1 << 30  # bytes times parallel passes
_DIGEST_SIZES = {"sha1": 20, "sha256": 32, "sha512": 64}
_SCRYPT_SIZE = 32  # bytes: one block, which does not depend on others (RFC 7914, section 6)
_BCRYPT_ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

_NUMBER = "([1-9][0-9]{0,9})"
_SALT = r"([!-#%-~]{1,128})"  # printable ASCII without the dollar
_BASE64 = "([A-Za-z0-9+/]+={0,2})"
_BARE_BASE64 = "([A-Za-z0-9+/]+)"
_PASSLIB_BASE64 = "([A-Za-z0-9./]+)"
_HEX = "([0-9a-f]+)"


def to_passlib_format(text: str) -> str:
    """Returns the hash `text` in passlib's format. Converting the result again changes nothing.

    Raises UnsupportedHash if the format is not supported, if the hash is damaged or too long, or if
    its cost exceeds a bound.
    """
    if len(text) <= _MAX_LENGTH:
        for pattern, convert in _FORMATS:
            match = pattern.fullmatch(text)
            if match is not None:
                converted = convert(*match.groups(""))
                _require(len(converted) <= _MAX_STORED_LENGTH, "is too long")
                return converted
    raise UnsupportedHash("has an unsupported format: use argon2, bcrypt, pbkdf2 or scrypt")


def is_bcrypt(converted: str) -> bool:
    """Returns whether a hash in passlib's format is bcrypt, with or without SHA-256 before it."""
    return converted.startswith(("$2", "bcrypt_sha256$"))


def truncates_at_72_bytes(converted: str) -> bool:
    """Returns whether a hash in passlib's format ignores its password after 72 bytes."""
    return converted.startswith("$2")


def _argon2(head: str, memory: str, passes: str, lanes: str, salt: str, digest: str) -> str:
    m, t, p = int(memory), int(passes), int(lanes)
    _bound("memory, in KiB", m, _MAX_ARGON2_MEMORY)
    _bound("memory times passes", m * t, _MAX_ARGON2_WORK)
    _bound("lanes", p, _MAX_ARGON2_LANES)
    _require(m >= 8 * p, "has less memory than its lanes need")
    _require(len(_from_base64(salt)) >= 8, "has a salt of less than 8 bytes")
    _require(len(_from_base64(digest)) >= 16, "has a digest of less than 16 bytes")
    return f"{head}m={m},t={t},p={p}${salt}${digest}"


def _bcrypt(kind: str, head: str, cost: str, salt: str, digest: str) -> str:
    _require(int(cost) >= 4, "has a cost below 4, the minimum of bcrypt")
    _bound("bcrypt cost", int(cost), _MAX_BCRYPT_COST)
    # The last character of each has unused bits, which some programs set.
    salt, digest = _without_unused_bits(salt, 4), _without_unused_bits(digest, 2)
    return f"{kind}{head}{cost}${salt}{digest}"


def _without_unused_bits(text: str, bits: int) -> str:
    last = _BCRYPT_ALPHABET.index(text[-1]) >> bits << bits
    return text[:-1] + _BCRYPT_ALPHABET[last]


def _pbkdf2_of_django(algorithm: str, iterations: str, salt: str, digest: str) -> str:
    return _pbkdf2(algorithm, iterations, salt.encode("ascii"), _from_base64(digest))


def _pbkdf2_of_werkzeug(algorithm: str, iterations: str, salt: str, digest: str) -> str:
    return _pbkdf2(algorithm, iterations, salt.encode("ascii"), _from_hex(digest))


def _pbkdf2_of_passlib(algorithm: str, iterations: str, salt: str, digest: str) -> str:
    decoded = [_from_base64(text.replace(".", "+")) for text in (salt, digest)]
    return _pbkdf2(algorithm.removeprefix("-") or "sha1", iterations, *decoded)


def _pbkdf2(algorithm: str, iterations: str, salt: bytes, digest: bytes) -> str:
    _bound("iterations", int(iterations), _MAX_ITERATIONS)
    _require(len(digest) == _DIGEST_SIZES[algorithm], "has a digest of the wrong length")
    kind = "" if algorithm == "sha1" else f"-{algorithm}"
    encoded = [_to_base64(data).replace("+", ".") for data in (salt, digest)]
    return f"$pbkdf2{kind}${iterations}${encoded[0]}${encoded[1]}"


def _scrypt_of_django(n: str, salt: str, r: str, p: str, digest: str) -> str:
    return _scrypt_of_64(int(n), int(r), int(p), salt, _from_base64(digest))


def _scrypt_of_werkzeug(n: str, r: str, p: str, salt: str, digest: str) -> str:
    return _scrypt_of_64(int(n), int(r), int(p), salt, _from_hex(digest))


def _scrypt_of_64(n: int, r: int, p: int, salt: str, digest: bytes) -> str:
    _require(len(digest) == 2 * _SCRYPT_SIZE, "has a digest of the wrong length")
    _require(n > 1 and n & (n - 1) == 0, "has an N that is not a power of two")
    # passlib derives 32 bytes. They equal the first half of 64, because a block does not depend on
    # the requested length, and 256 bits are enough to verify a password.
    return _scrypt(n.bit_length() - 1, r, p, salt.encode("ascii"), digest[:_SCRYPT_SIZE])


def _scrypt_of_passlib(log_n: str, r: str, p: str, salt: str, digest: str) -> str:
    return _scrypt(int(log_n), int(r), int(p), _from_base64(salt), _from_base64(digest))


def _scrypt(log_n: int, r: int, p: int, salt: bytes, digest: bytes) -> str:
    _bound("binary logarithm of N", log_n, _MAX_SCRYPT_MEMORY.bit_length())
    memory = 128 * r * (1 << log_n)
    _bound("memory, in bytes", memory, _MAX_SCRYPT_MEMORY)
    _bound("memory times p", memory * p, _MAX_SCRYPT_WORK)
    _require(log_n < 16 * r, "has an N that is too large for its r")
    _require(len(digest) == _SCRYPT_SIZE, "has a digest of the wrong length")
    return f"$scrypt$ln={log_n},r={r},p={p}${_to_base64(salt)}${_to_base64(digest)}"


def _bound(parameter: str, value: int, maximum: int) -> None:
    _require(value <= maximum, f"has too high a cost: {parameter} must be at most {maximum}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UnsupportedHash(message)


def _from_base64(text: str) -> bytes:
    # Padding is optional. Unused bits must not be set, because libraries treat them differently.
    bare = text.rstrip("=")
    try:
        data = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except binascii.Error:
        raise UnsupportedHash("is damaged: invalid Base64") from None
    _require(_to_base64(data) == bare, "is damaged: invalid Base64")
    return data


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii").rstrip("=")


def _from_hex(text: str) -> bytes:
    _require(len(text) % 2 == 0, "is damaged: odd number of hexadecimal digits")
    return bytes.fromhex(text)


_ARGON2 = (
    # With or without Django's prefix.
    r"(?:argon2)?(\$argon2(?:id|i|d)\$(?:v=16\$|v=19\$)?)"
    rf"m={_NUMBER},t={_NUMBER},p={_NUMBER}\${_BARE_BASE64}\${_BARE_BASE64}"
)
_BCRYPT = (
    r"(?:bcrypt\$)?(|bcrypt_sha256\$)(\$2[aby]\$)([0-9]{2})\$"
    r"([A-Za-z0-9./]{22})([A-Za-z0-9./]{31})"
)
_DJANGO_PBKDF2 = rf"pbkdf2_(sha1|sha256)\${_NUMBER}\${_SALT}\${_BASE64}"
_DJANGO_SCRYPT = rf"scrypt\${_NUMBER}\${_SALT}\${_NUMBER}\${_NUMBER}\${_BASE64}"
_WERKZEUG_PBKDF2 = rf"pbkdf2:(sha1|sha256|sha512):{_NUMBER}\${_SALT}\${_HEX}"
_WERKZEUG_SCRYPT = rf"scrypt:{_NUMBER}:{_NUMBER}:{_NUMBER}\${_SALT}\${_HEX}"
_PASSLIB_PBKDF2 = rf"\$pbkdf2(|-sha256|-sha512)\${_NUMBER}\${_PASSLIB_BASE64}\${_PASSLIB_BASE64}"
_PASSLIB_SCRYPT = (
    rf"\$scrypt\$ln=([1-9][0-9]?),r={_NUMBER},p={_NUMBER}\${_BARE_BASE64}\${_BARE_BASE64}"
)
_FORMATS: tuple[tuple[re.Pattern[str], Callable[..., str]], ...] = (
    (re.compile(_ARGON2), _argon2),
    (re.compile(_BCRYPT), _bcrypt),
    (re.compile(_DJANGO_PBKDF2), _pbkdf2_of_django),
    (re.compile(_DJANGO_SCRYPT), _scrypt_of_django),
    (re.compile(_WERKZEUG_PBKDF2), _pbkdf2_of_werkzeug),
    (re.compile(_WERKZEUG_SCRYPT), _scrypt_of_werkzeug),
    (re.compile(_PASSLIB_PBKDF2), _pbkdf2_of_passlib),
    (re.compile(_PASSLIB_SCRYPT), _scrypt_of_passlib),
)
