"""Password hashing: the only module that speaks passlib, and how it is spoken to.

passlib takes its argon2 cost from whatever argon2-cffi has as default, answers over-long passwords
and damaged hashes with errors before any work, and calls a stronger hash "in need of an update". So
the cost is always given, every failure costs one full verification, and a hash is replaced only by
one at least as strong.

All functions block for tens of milliseconds: call them in a thread (`services/passwords.py`).
"""

import re
from dataclasses import dataclass, field

from passlib.context import CryptContext

from authapi.errors import PasswordMismatch

MAX_LENGTH = 1024
"""Characters; longer passwords are refused before any work."""

_ARGON2 = re.compile(
    r"\$argon2id\$v=19\$m=([0-9]{1,9}),t=([0-9]{1,4}),p=([0-9]{1,3})"
    r"\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+"
)
_MAX_MEMORY = 1 << 20  # KiB; a stored hash that asks for more would be a way to exhaust us
_MAX_PASSES = 64
_MAX_LANES = 16


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
        """The hash to store for `password`. Raises ValueError if it cannot be encoded as UTF-8."""
        return PasswordHash(self._context.hash(password))

    def verify(self, password: str, stored: PasswordHash | None) -> None:
        """Return if `password` belongs to `stored`; raise PasswordMismatch otherwise.

        None, or a hash that cannot be read, costs the same as a wrong password.
        """
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
        """Whether `stored` is weaker than this hasher's cost. A stronger one is left alone."""
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
