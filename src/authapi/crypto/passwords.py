"""Password hashing with passlib. No other module imports passlib.

passlib takes its default argon2 cost from argon2-cffi, rejects too long passwords and damaged
hashes without any hashing, and reports a stronger hash as in need of an update. This module
therefore always sets the cost, makes every failure cost a full verification, and replaces a hash
only by a hash that is at least as strong.

Imported hashes (`imported_hashes.py`) are verified until the user's first login, which replaces
them by a hash of this service at any cost: until then, the response time reveals which accounts
have an imported hash. passlib truncates passwords for bcrypt at 72 bytes, uses any bcrypt library
that it finds, and logs an error about the version of the supported one; see below.

All functions block for tens of milliseconds: call them in a thread (`services/passwords.py`).
"""

import logging
import re
import warnings
from dataclasses import dataclass, field
from functools import cache

from authapi.crypto.imported_hashes import (
    IMPORTED_PREFIX,
    is_bcrypt,
    to_passlib_format,
    truncates_at_72_bytes,
)
from authapi.crypto.password_normalization import MAX_LENGTH, opaque_string
from authapi.errors import PasswordMismatch, UnsupportedHash

with warnings.catch_warnings():
    # passlib 1.7.4 is its last release. When it is loaded, it imports `crypt` and reads
    # `argon2.__version__`, which raise DeprecationWarning: without the filters, an application that
    # runs with `-W error` could not import this module. The filters end with this block.
    for _message in ("'crypt' is deprecated", r"Accessing argon2\.__version__ is deprecated"):
        warnings.filterwarnings("ignore", _message, DeprecationWarning, r"passlib\.")
    from passlib.context import CryptContext
    from passlib.exc import MissingBackendError
    from passlib.registry import get_crypt_handler

    get_crypt_handler("argon2").get_backend()

_log = logging.getLogger(__name__)

_ARGON2 = re.compile(
    r"\$argon2id\$v=19\$m=([0-9]{1,9}),t=([0-9]{1,4}),p=([0-9]{1,3})"
    r"\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+"
)
_MAX_MEMORY = 1 << 20  # KiB; a stored hash with a higher cost could exhaust the memory
_MAX_PASSES = 64
_MAX_LANES = 16
_BCRYPT = ("bcrypt", "django_bcrypt_sha256")
_BCRYPT_LENGTH = 72  # bytes


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """A stored password hash. A separate type, so that a password cannot be stored by mistake."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of an argon2id hash: memory in KiB, passes and lanes (RFC 9106)."""

    memory: int
    passes: int
    lanes: int

    def exceeds(self, other: "Cost") -> bool:
        """Returns whether at least one parameter is higher than in `other`, and none is lower."""
        own = (self.memory, self.passes, self.lanes)
        others = (other.memory, other.passes, other.lanes)
        return own != others and all(a >= b for a, b in zip(own, others, strict=True))


LOWEST_COST = Cost(memory=8, passes=1, lanes=1)
"""The lowest cost of argon2id (RFC 9106, section 3.1). It protects no password: for tests only."""


class PasswordHasher:
    """Hashes with argon2id at a fixed cost, and verifies own and imported hashes."""

    def __init__(self, cost: Cost) -> None:
        self._cost = cost
        self._context = CryptContext(
            schemes=["argon2"],
            argon2__type="ID",
            argon2__memory_cost=cost.memory,
            argon2__time_cost=cost.passes,
            argon2__parallelism=cost.lanes,
        )
        # Verified if there is no account, so that the time does not reveal that. Hashing here also
        # moves the slow first call of the library out of the first login.
        self._decoy = self._context.hash("decoy: not the password of any account")

    def hash(self, password: str) -> PasswordHash:
        """Returns the hash of the normalized `password` (`crypto.password_normalization`).

        Raises ValueError if it cannot be encoded as UTF-8.
        """
        return PasswordHash(self._context.hash(opaque_string(password)))

    def verify(self, password: str, stored: PasswordHash | None) -> None:
        """Verifies `password` against `stored`. Raises PasswordMismatch if it does not match.

        Verifies the normalized form first, then the original form if it differs, because other
        systems hash passwords without normalization. A failure verifies both for every `stored`, so
        that its time depends on the password and not on the account.

        None, or a hash that cannot be parsed, takes the time of a wrong password. An imported hash
        takes the time of its own verification in addition.
        """
        normalized = opaque_string(password)
        try:
            self._verify(normalized, stored)
        except PasswordMismatch:
            if normalized == password:
                raise
            self._verify(password, stored)

    def _verify(self, password: str, stored: PasswordHash | None) -> None:
        if stored is not None and (imported := _parse_imported(stored)) is not None:
            if _verify_imported(password, imported):
                return
            stored = None
        is_parsable = stored is not None and _parse_cost(stored) is not None
        candidate = stored.text if stored is not None and is_parsable else self._decoy
        try:
            matches = self._context.verify(password[:MAX_LENGTH], candidate)
        except ValueError:
            # The password cannot be encoded as UTF-8, or the hash is damaged after its parameters.
            matches = self._context.verify("", self._decoy)
        if not matches or not is_parsable or len(password) > MAX_LENGTH:
            raise PasswordMismatch

    def needs_rehash(self, stored: PasswordHash) -> bool:
        """Returns whether `stored` is imported, or is weaker than the cost of this hasher."""
        if _parse_imported(stored) is not None:
            return True
        cost = _parse_cost(stored)
        return cost is not None and self._cost.exceeds(cost)


def _parse_cost(stored: PasswordHash) -> Cost | None:
    match = _ARGON2.fullmatch(stored.text)
    if match is None:
        return None
    cost = Cost(*(int(number) for number in match.groups()))
    if cost.memory > _MAX_MEMORY or cost.passes > _MAX_PASSES or cost.lanes > _MAX_LANES:
        return None
    return cost


def imported_hash(text: str) -> PasswordHash:
    """Returns the value to store for the hash `text` of another system.

    Raises UnsupportedHash, with the reason, if the hash could not be verified at a login.
    """
    converted = to_passlib_format(text)
    if is_bcrypt(converted) and not _has_bcrypt():
        raise UnsupportedHash(
            "is a bcrypt hash, which needs the extra: pip install 'fastapi-authapi[bcrypt]'"
        )
    return PasswordHash(IMPORTED_PREFIX + converted)


def _parse_imported(stored: PasswordHash) -> str | None:
    # Returns the hash in passlib's format, or None unless an import would have stored it.
    if not stored.text.startswith(IMPORTED_PREFIX):
        return None
    converted = stored.text.removeprefix(IMPORTED_PREFIX)
    try:
        return converted if to_passlib_format(converted) == converted else None
    except UnsupportedHash:
        return None


def _verify_imported(password: str, imported: str) -> bool:
    if is_bcrypt(imported) and not _has_bcrypt():
        _log.error("bcrypt hash not verified: pip install 'fastapi-authapi[bcrypt]'")
        return False
    try:
        matches = _imported_context().verify(password[:MAX_LENGTH], imported)
        size = len(password.encode("utf-8"))
    except ValueError:
        # Not encodable as UTF-8, a NUL in a bcrypt password, or parameters that passlib rejects.
        return False
    if "\0" in password:
        # HMAC, and so PBKDF2 and scrypt, ignore NULs at the end of a password.
        return False
    if truncates_at_72_bytes(imported) and size > _BCRYPT_LENGTH:
        # The rest of the password cannot be verified, and rehashing would accept it as it is.
        return False
    return matches and len(password) <= MAX_LENGTH


@cache
def _imported_context() -> CryptContext:
    # Created at the first use: most services have no imported hashes.
    others = ("argon2", "pbkdf2_sha1", "pbkdf2_sha256", "pbkdf2_sha512", "scrypt")
    return CryptContext(schemes=[*others, *_BCRYPT])


@cache
def _has_bcrypt() -> bool:
    # Only the declared library counts: passlib would also use others, which are not tested. New
    # releases of it no longer have the version attribute that passlib reads, which passlib logs.
    logging.getLogger("passlib.handlers.bcrypt").setLevel(logging.ERROR)
    try:
        for name in _BCRYPT:
            get_crypt_handler(name).set_backend("bcrypt")
    except (MissingBackendError, ValueError):
        return False
    return True
