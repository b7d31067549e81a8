"""Numbers about the service, and the versions that it runs on."""

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

from authapi.clock import now
from authapi.crypto.ids import first_id_at
from authapi.domain.monitoring.statistics import HOUR, HOURS, KeyCounts, Statistics, TableSize
from authapi.domain.signing_key import KeyState
from authapi.services.keys.lifecycle import next_rotation
from authapi.services.monitoring.kept import Kept
from authapi.settings import Settings
from authapi.storage import Database, migrations

DISTRIBUTION = "fastapi-authapi"
_MAX_AGE = 15.0
"""Seconds for which `recent` keeps the numbers: to count 10^5 accounts takes a tenth of one."""


@dataclass(frozen=True, slots=True)
class Versions:
    """What this process runs on."""

    authapi: str
    python: str
    database: str
    """Its name and version."""
    schema: str
    """The revision of the schema that this release needs, and that the start has checked."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a database permits and keeps."""

    database: str
    """Its name and version."""
    max_connections: int | None
    """The connections for ordinary roles; None without a limit."""
    oldest_event_at: datetime | None
    """None without events."""
    bytes_of_events: int | None
    """On the disk, with indexes; None if the database does not tell."""


def describe_version() -> str:
    """Returns the versions of authapi, of Python, and of the schema that this release needs."""
    python = ".".join(platform.python_version_tuple()[:2])
    return f"authapi {version(DISTRIBUTION)} (python {python}, schema {migrations.head()})"


class StatisticsService:
    """Counts accounts, sessions, events, queues and keys.

    Each call raises StorageUnavailable if the database does not answer.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._recent = Kept(self.counts, max_age=_MAX_AGE)

    async def recent(self) -> Statistics:
        """Returns numbers that are at most 15 seconds old: `at` says how old."""
        return await self._recent.get()

    async def counts(self) -> Statistics:
        """Returns all numbers, by one statement for each table."""
        at = now()
        async with self._database.read() as store:
            keys = await store.signing_keys.all()
            states = Counter(key.state for key in keys)
            return Statistics(
                at=at,
                accounts=await store.counts.accounts(),
                sessions=await store.counts.sessions(now=at),
                events=await store.counts.events(now=at, since=first_id_at(at - HOURS * HOUR)),
                queues=await store.counts.queues(),
                keys=KeyCounts(
                    {state: states[state] for state in KeyState},
                    next_rotation(keys, every=self._settings.key_rotation),
                ),
            )

    async def capacity(self) -> Capacity:
        """Returns what the database permits and keeps."""
        async with self._database.read() as store:
            return Capacity(
                database=await store.counts.server_version(),
                max_connections=await store.counts.max_connections(),
                oldest_event_at=await store.counts.oldest_event(),
                bytes_of_events=await store.sizes.bytes_of_events(),
            )

    async def sizes(self) -> Sequence[TableSize]:
        """Returns the rows and the sizes of the tables, the largest first.

        On SQLite, this reads the whole database: it is for commands.
        """
        async with self._database.read() as store:
            return await store.sizes.all()

    async def versions(self) -> Versions:
        """Returns the versions of this process and of its database."""
        async with self._database.read() as store:
            database = await store.counts.server_version()
        return Versions(
            authapi=version(DISTRIBUTION),
            python=platform.python_version(),
            database=database,
            schema=migrations.head(),
        )
