"""Callers who were recognised a moment ago, so that their next request costs no query.

A bounded map from the hash of a presented credential to what the database said of it. It only ever
says yes: whatever is missing, over or in doubt is asked of the database again.

Why it never says yes to a credential that a committed change has killed. Everything that happens is
numbered. A reader takes a number *before* it queries, and what it read is kept under that number. A
change takes a number *after* its commit, and becomes the generation of the user concerned. What was
read is good only while its number is not below its user's generation:

* a read that began after the change was numbered saw the change, and has a greater number;
* a read that began earlier may have missed it. It has a smaller number, whether it was put into the
  map before the change or comes to be put there long after, and so it is never used.

In the process that made a change, it is numbered before the change is acknowledged to anybody; in
other processes when they hear of it (`coherence`), and a process that cannot hear knows nobody.
Generations are forgotten only together with everything that they could have ruled out.
`tests/services/callers/test_coherence_model.py` walks through the interleavings.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from authapi.identity import Identity
from authapi.storage.changes import EVERYBODY

_GENERATIONS = 65_536
"""Changed users to remember one by one; beyond that, all callers are forgotten once."""


@dataclass(slots=True)
class Known:
    """What the database said of a credential."""

    identity: Identity
    session_id: UUID
    expires_at: datetime
    """When the credential ends in any case."""
    idle: timedelta | None
    """After how long without use it ends; None where idleness does not end it."""
    last_seen_at: datetime
    noted_at: datetime | None = field(default=None, compare=False)
    """When a use of it was last noted here; all else never changes."""


@dataclass(frozen=True, slots=True)
class _Entry:
    known: Known
    number: int
    read_at: float


class KnownCallers:
    """Up to `size` of them, each for `longest` at most.

    `longest` bounds what nobody announces: rows that an operator changes by hand.
    """

    def __init__(self, *, size: int, longest: timedelta) -> None:
        # In the order they were read, which is that in which they go: none stays for longer than
        # `longest`, so to keep those used last would move one at each request for nothing.
        self._entries: dict[bytes, _Entry] = {}
        self._size = size
        self._longest = longest.total_seconds()
        self._number = 0
        self._generations: dict[UUID, int] = {}
        self._floor = 0
        """The generation of all users that `_generations` does not name."""

    def __len__(self) -> int:
        return len(self._entries)

    def recall(self, credential: bytes) -> Known | None:
        """What is known of the credential with this hash, if it is still good."""
        entry = self._entries.get(credential)
        if entry is None:
            return None
        # Where nobody at all has changed since, there is no need to look for this one.
        if (
            entry.number < self._number
            and entry.number < self._generation(entry.known.identity.user.id)
        ) or time.monotonic() - entry.read_at > self._longest:
            del self._entries[credential]
            return None
        return entry.known

    def number(self) -> int:
        """The number to read under: take it before the query, give it to `remember`."""
        return self._number

    def remember(self, credential: bytes, known: Known, *, number: int) -> None:
        """Keep what was read under `number`, unless its user has changed since."""
        if not self._size or number < self._generation(known.identity.user.id):
            return
        self._entries.pop(credential, None)
        if len(self._entries) >= self._size:
            del self._entries[next(iter(self._entries))]
        self._entries[credential] = _Entry(known, number, time.monotonic())

    def changed(self, users: Collection[UUID]) -> None:
        """These users, or sessions of theirs, are not what they were."""
        if EVERYBODY in users:
            self.forget()
            return
        self._number += 1
        for user in users:
            self._generations[user] = self._number
        if len(self._generations) > _GENERATIONS:
            self.forget()

    @property
    def floor(self) -> int:
        """The number of the last time that everybody may have changed: what was read under a lesser
        one may be wrong, whoever it is about.
        """
        return self._floor

    def forget(self) -> None:
        """Anybody may have changed."""
        self._number += 1
        self._floor = self._number
        self._generations.clear()
        self._entries.clear()

    def _generation(self, user: UUID) -> int:
        return self._generations.get(user, self._floor)
