"""How other systems write password hashes, and what each becomes here.

Read are the argon2 family and bcrypt in the form that everybody writes, what Django makes of those,
its and Werkzeug's PBKDF2 and scrypt, and passlib's own forms, which all of them become. A hash says
itself how much work it asks for, so each kind has a bound: who has an account imported is not to
choose how long a login keeps a core busy. The bounds are some three times what the makers ask for
today, and about a second of work.

Pure text: no password is hashed here, and passlib is not needed.
"""

import base64
import binascii
import re
from collections.abc import Callable

from authapi.errors import HashRefused

MARK = "foreign:"
"""What a stored hash of another system begins with. No hash that is made here does."""

_LONGEST = 512
_LONGEST_STORED = 255 - len(MARK)
_MAX_ARGON2_MEMORY = 1 << 18  # KiB
_MAX_ARGON2_WORK = 1 << 20  # KiB times passes
_MAX_ARGON2_LANES = 16
_MAX_BCRYPT_COST = 14
_MAX_ITERATIONS = 4_000_000
_MAX_SCRYPT_MEMORY = 1 << 28  # bytes
_MAX_SCRYPT_WORK = 1 << 30  # bytes times parallel passes
_DIGEST_SIZES = {"sha1": 20, "sha256": 32, "sha512": 64}
_SCRYPT_SIZE = 32  # bytes, of which each block is made by itself (RFC 7914, section 6)
_BCRYPT_LETTERS = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

_NUMBER = "([1-9][0-9]{0,9})"
_SALT = r"([!-#%-~]{1,128})"  # printable ASCII without the dollar
_BASE64 = "([A-Za-z0-9+/]+={0,2})"
_BARE_BASE64 = "([A-Za-z0-9+/]+)"
_PASSLIB_BASE64 = "([A-Za-z0-9./]+)"
_HEX = "([0-9a-f]+)"


def translate(text: str) -> str:
    """`text` as passlib reads it; what is in that form already stays as it is.

    Raises HashRefused for what is not understood, damaged, or asks for too much work.
    """
    if len(text) <= _LONGEST:
        for pattern, spell in _FORMS:
            match = pattern.fullmatch(text)
            if match is not None:
                spelt = spell(*match.groups(""))
                _require(len(spelt) <= _LONGEST_STORED, "is longer than what is stored here")
                return spelt
    raise HashRefused("is of no kind that is read here: argon2, bcrypt, pbkdf2 or scrypt")


def is_bcrypt(spelt: str) -> bool:
    """Whether a translated hash is one of bcrypt, by itself or behind SHA-256."""
    return spelt.startswith(("$2", "bcrypt_sha256$"))


def is_cut_at_72_bytes(spelt: str) -> bool:
    """Whether a translated hash knows the first 72 bytes of its password at most."""
    return spelt.startswith("$2")


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
    _require(int(cost) >= 4, "has a cost below 4, which bcrypt does not have")
    _bound("bcrypt cost", int(cost), _MAX_BCRYPT_COST)
    # The last letter of each holds more bits than are left; some programs set the others.
    salt, digest = _without_spare_bits(salt, 4), _without_spare_bits(digest, 2)
    return f"{kind}{head}{cost}${salt}{digest}"


def _without_spare_bits(letters: str, bits: int) -> str:
    last = _BCRYPT_LETTERS.index(letters[-1]) >> bits << bits
    return letters[:-1] + _BCRYPT_LETTERS[last]


def _pbkdf2_of_django(algorithm: str, iterations: str, salt: str, digest: str) -> str:
    return _pbkdf2(algorithm, iterations, salt.encode("ascii"), _from_base64(digest))


def _pbkdf2_of_werkzeug(algorithm: str, iterations: str, salt: str, digest: str) -> str:
    return _pbkdf2(algorithm, iterations, salt.encode("ascii"), _from_hex(digest))


def _pbkdf2_of_passlib(algorithm: str, iterations: str, salt: str, digest: str) -> str:
    plain = [_from_base64(text.replace(".", "+")) for text in (salt, digest)]
    return _pbkdf2(algorithm.removeprefix("-") or "sha1", iterations, *plain)


def _pbkdf2(algorithm: str, iterations: str, salt: bytes, digest: bytes) -> str:
    _bound("iterations", int(iterations), _MAX_ITERATIONS)
    _require(len(digest) == _DIGEST_SIZES[algorithm], "has a digest of another length")
    kind = "" if algorithm == "sha1" else f"-{algorithm}"
    encoded = [_to_base64(data).replace("+", ".") for data in (salt, digest)]
    return f"$pbkdf2{kind}${iterations}${encoded[0]}${encoded[1]}"


def _scrypt_of_django(n: str, salt: str, r: str, p: str, digest: str) -> str:
    return _scrypt_of_64(int(n), int(r), int(p), salt, _from_base64(digest))


def _scrypt_of_werkzeug(n: str, r: str, p: str, salt: str, digest: str) -> str:
    return _scrypt_of_64(int(n), int(r), int(p), salt, _from_hex(digest))


def _scrypt_of_64(n: int, r: int, p: int, salt: str, digest: bytes) -> str:
    _require(len(digest) == 2 * _SCRYPT_SIZE, "has a digest of another length")
    _require(n > 1 and n & (n - 1) == 0, "has an N that is no power of two")
    # passlib makes 32 bytes. They are the first half of 64: a block does not depend on how many
    # are asked for, and 256 bits tell a right password from all others.
    return _scrypt(n.bit_length() - 1, r, p, salt.encode("ascii"), digest[:_SCRYPT_SIZE])


def _scrypt_of_passlib(log_n: str, r: str, p: str, salt: str, digest: str) -> str:
    return _scrypt(int(log_n), int(r), int(p), _from_base64(salt), _from_base64(digest))


def _scrypt(log_n: int, r: int, p: int, salt: bytes, digest: bytes) -> str:
    _bound("binary logarithm of N", log_n, _MAX_SCRYPT_MEMORY.bit_length())
    memory = 128 * r * (1 << log_n)
    _bound("memory, in bytes", memory, _MAX_SCRYPT_MEMORY)
    _bound("memory times p", memory * p, _MAX_SCRYPT_WORK)
    _require(log_n < 16 * r, "has an N that is too large for its r")
    _require(len(digest) == _SCRYPT_SIZE, "has a digest of another length")
    return f"$scrypt$ln={log_n},r={r},p={p}${_to_base64(salt)}${_to_base64(digest)}"


def _bound(what: str, value: int, most: int) -> None:
    _require(value <= most, f"asks for too much work: {what} is at most {most}")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise HashRefused(otherwise)


def _from_base64(text: str) -> bytes:
    # Padding may be there or not; bits that mean nothing may not be set, for libraries disagree.
    bare = text.rstrip("=")
    try:
        data = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except binascii.Error:
        raise HashRefused("is damaged: a part of it is not Base64") from None
    _require(_to_base64(data) == bare, "is damaged: a part of it is not Base64")
    return data


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii").rstrip("=")


def _from_hex(text: str) -> bytes:
    _require(len(text) % 2 == 0, "is damaged: it ends in the middle of a byte")
    return bytes.fromhex(text)


_ARGON2 = (
    # Bare, or as Django writes it.
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
_FORMS: tuple[tuple[re.Pattern[str], Callable[..., str]], ...] = (
    (re.compile(_ARGON2), _argon2),
    (re.compile(_BCRYPT), _bcrypt),
    (re.compile(_DJANGO_PBKDF2), _pbkdf2_of_django),
    (re.compile(_DJANGO_SCRYPT), _scrypt_of_django),
    (re.compile(_WERKZEUG_PBKDF2), _pbkdf2_of_werkzeug),
    (re.compile(_WERKZEUG_SCRYPT), _scrypt_of_werkzeug),
    (re.compile(_PASSLIB_PBKDF2), _pbkdf2_of_passlib),
    (re.compile(_PASSLIB_SCRYPT), _scrypt_of_passlib),
)
