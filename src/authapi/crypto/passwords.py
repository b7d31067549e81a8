"""Password hashing: the only module that speaks passlib, and how it is spoken to.

passlib takes its argon2 cost from whatever argon2-cffi has as default, answers over-long passwords
and damaged hashes with errors before any work, and calls a stronger hash "in need of an update". So
the cost is always given, every failure costs one full verification, and a hash is replaced only by
one at least as strong.

Hashes that came from other systems (`foreign_passwords.py`) are verified until their owner logs in,
and one of ours takes their place then, whatever they cost: as long as each has a cost of its own,
the time of an answer tells which accounts have one. passlib cuts passwords for bcrypt at 72 bytes,
takes whatever bcrypt it finds, and complains of the version of the one that is meant: see below.

All functions block for tens of milliseconds: call them in a thread (`services/passwords.py`).
"""

import logging
import re
import warnings
from dataclasses import dataclass, field
from functools import cache

from authapi.crypto.foreign_passwords import MARK, is_bcrypt, is_cut_at_72_bytes, translate
from authapi.crypto.password_text import MAX_LENGTH, opaque_string
from authapi.errors import HashRefused, PasswordMismatch

with warnings.catch_warnings():
    # passlib 1.7.4 is the last of its line. It imports `crypt` and reads `argon2.__version__`, each
    # once, when it is loaded; under `-W error` an application could not import us otherwise. The
    # filters end with this block.
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
_MAX_MEMORY = 1 << 20  # KiB; a stored hash that asks for more would be a way to exhaust us
_MAX_PASSES = 64
_MAX_LANES = 16
_BCRYPT = ("bcrypt", "django_bcrypt_sha256")
_BCRYPT_LENGTH = 72  # bytes


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """A stored password hash. A type of its own, so that no password is stored in its place."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Cost:
    """The price of one argon2id hash: memory in KiB, passes over it, and lanes (RFC 9106)."""

    memory: int
    passes: int
    lanes: int

    def exceeds(self, other: "Cost") -> bool:
        """Whether this costs more in one way and less in none: only then is rehashing a gain."""
        mine = (self.memory, self.passes, self.lanes)
        theirs = (other.memory, other.passes, other.lanes)
        return mine != theirs and all(a >= b for a, b in zip(mine, theirs, strict=True))


class PasswordHasher:
    """Hashes and verifies with argon2id of one cost."""

    def __init__(self, cost: Cost) -> None:
        self._cost = cost
        self._context = CryptContext(
            schemes=["argon2"],
            argon2__type="ID",
            argon2__memory_cost=cost.memory,
            argon2__time_cost=cost.passes,
            argon2__parallelism=cost.lanes,
        )
        # Verified against when there is no account, so that its absence costs the same time. Making
        # it here also takes the slow first call away from the first login.
        self._decoy = self._context.hash("nobody has this password")

    def hash(self, password: str) -> PasswordHash:
        """The hash to store for the normal form of `password` (`crypto.password_text`).

        Raises ValueError if it cannot be encoded as UTF-8.
        """
        return PasswordHash(self._context.hash(opaque_string(password)))

    def verify(self, password: str, stored: PasswordHash | None) -> None:
        """Return if `password` belongs to `stored`; raise PasswordMismatch otherwise.

        The normal form is verified first, then the password as it was typed, if that differs: other
        systems hash what they are sent. Both are verified for every `stored`, so the time of a
        refusal depends on what was typed and not on the account.

        None, or a hash that cannot be read, costs the same as a wrong password. One of another
        system costs its own verification first.
        """
        normal = opaque_string(password)
        try:
            self._verify(normal, stored)
        except PasswordMismatch:
            if normal == password:
                raise
            self._verify(password, stored)

    def _verify(self, password: str, stored: PasswordHash | None) -> None:
        if stored is not None and (foreign := _read_foreign(stored)) is not None:
            if _fits(password, foreign):
                return
            stored = None
        readable = stored is not None and _cost_of(stored) is not None
        candidate = stored.text if stored is not None and readable else self._decoy
        try:
            matches = self._context.verify(password[:MAX_LENGTH], candidate)
        except ValueError:
            # A password that has no UTF-8 form, or a hash damaged behind its parameters.
            matches = self._context.verify("", self._decoy)
        if not matches or not readable or len(password) > MAX_LENGTH:
            raise PasswordMismatch

    def is_outdated(self, stored: PasswordHash) -> bool:
        """Whether `stored` is weaker than this hasher's cost, or of another system.

        A stronger one of ours is left alone.
        """
        if _read_foreign(stored) is not None:
            return True
        cost = _cost_of(stored)
        return cost is not None and self._cost.exceeds(cost)


def _cost_of(stored: PasswordHash) -> Cost | None:
    match = _ARGON2.fullmatch(stored.text)
    if match is None:
        return None
    cost = Cost(*(int(number) for number in match.groups()))
    if cost.memory > _MAX_MEMORY or cost.passes > _MAX_PASSES or cost.lanes > _MAX_LANES:
        return None
    return cost


def foreign_hash(text: str) -> PasswordHash:
    """What to store for a hash that another system made.

    Raises HashRefused, saying why, for one that could not be verified here at a login.
    """
    spelt = translate(text)
    if is_bcrypt(spelt) and not _has_bcrypt():
        raise HashRefused(
            "is of bcrypt, which needs the extra: pip install 'fastapi-authapi[bcrypt]'"
        )
    return PasswordHash(MARK + spelt)


def _read_foreign(stored: PasswordHash) -> str | None:
    # What passlib reads, if it is such a hash, in the form and within the bounds of an import.
    if not stored.text.startswith(MARK):
        return None
    spelt = stored.text.removeprefix(MARK)
    try:
        return spelt if translate(spelt) == spelt else None
    except HashRefused:
        return None


def _fits(password: str, foreign: str) -> bool:
    if is_bcrypt(foreign) and not _has_bcrypt():
        _log.error("a bcrypt hash was not verified: pip install 'fastapi-authapi[bcrypt]'")
        return False
    try:
        matches = _foreign_context().verify(password[:MAX_LENGTH], foreign)
        size = len(password.encode("utf-8"))
    except ValueError:
        # No UTF-8 form, a NUL where bcrypt would stop, or parameters that the library refuses.
        return False
    if "\0" in password:
        # To HMAC, and so to PBKDF2 and scrypt, NULs at the end are as good as none.
        return False
    if is_cut_at_72_bytes(foreign) and size > _BCRYPT_LENGTH:
        # Nobody can tell whether the rest is right, and it would be hashed as if it were.
        return False
    return matches and len(password) <= MAX_LENGTH


@cache
def _foreign_context() -> CryptContext:
    # Made when it is first needed: most services never are in need of it.
    others = ("argon2", "pbkdf2_sha1", "pbkdf2_sha256", "pbkdf2_sha512", "scrypt")
    return CryptContext(schemes=[*others, *_BCRYPT])


@cache
def _has_bcrypt() -> bool:
    # Only the one that is declared, in a version that passlib can speak to: others that it would
    # take instead are not tested with it. Newer ones do not say their version where it asks.
    logging.getLogger("passlib.handlers.bcrypt").setLevel(logging.ERROR)
    try:
        for name in _BCRYPT:
            get_crypt_handler(name).set_backend("bcrypt")
    except (MissingBackendError, ValueError):
        return False
    return True
