"""Notices that the database is older than this host, or Redis, has seen it.

Each process remembers the newest event of the database, every ten seconds, in a small file in the
data folder if that exists, and in Redis or Valkey if that is configured. A database without that
event was restored from a backup, or lost a commit: it has credentials that had ended. A start
compares before its first request, and a running process before it replaces what is remembered. The
memory belongs to the first account, so that a host may use several databases, and a restored one
may have another address.
"""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import UUID

from authapi.clock import now
from authapi.crypto import strict_json
from authapi.crypto.ids import first_id_at, read_uuid
from authapi.domain.events import EventType
from authapi.services.jobs.periodic_task import PeriodicTask
from authapi.services.rate_limit_storage import close_redis, redis_storage
from authapi.settings import Settings
from authapi.storage import Database

RESOLVING: Final = frozenset({EventType.ALL_SESSIONS_ENDED, EventType.EVENTS_REAPPLIED})
"""The events after which a restored database counts as in order."""
_MAX_FILES = 20
"""Databases that a data folder remembers, those that were used last."""
_INTERVAL = 10.0
"""Seconds between two writes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one place remembers."""

    newest: UUID
    is_older: bool = False
    """Whether the database was found to be older, and nothing has been done about it yet."""
    found: UUID | None = None
    """The newest event of the database when it was found to be older."""

    def dump(self) -> str:
        found = None if self.found is None else str(self.found)
        return json.dumps({"newest": str(self.newest), "older": self.is_older, "found": found})

    @classmethod
    def load(cls, text: str | bytes | None) -> "_Seen | None":
        """Returns None for a text that `dump` did not write."""
        try:
            data = strict_json.loads(text.encode() if isinstance(text, str) else text or b"null")
        except ValueError:
            return None
        if not isinstance(data, dict):
            return None
        newest = read_uuid(data.get("newest"))
        if newest is None or not _has_time(newest):
            return None
        return cls(newest, data.get("older") is True, read_uuid(data.get("found")))


class NewestEvent:
    """Remembers the newest event, and compares the database with it.

    A place that cannot be read or written is left out: an installation may have neither.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._account: UUID | None = None
        self._written: UUID | None = None
        self._is_checked = False
        self._task = PeriodicTask(
            "newest-event", self._write, interval=_INTERVAL, on_error=self._log_failure
        )

    async def check(self, *, remember: bool = True) -> str | None:
        """Returns a line if the database is older than a place remembers, or None.

        The line is returned again until one of the events `RESOLVING` was recorded. With `remember`
        false, nothing is written. Raises StorageUnavailable.
        """
        async with self._database.read() as store:
            self._account = await store.history.first_account()
        self._is_checked = remember
        if self._account is None:
            return None
        found: list[tuple[_Place, _Seen]] = []
        async with _places(self._settings, self._account) as places:
            for place in places:
                seen = await place.read()
                if seen is not None and (judged := await self._judge(seen)) is not None:
                    found.append((place, judged))
            for place, judged in found if remember else ():
                await place.write(judged)
        if not found:
            return None
        return _describe(max(seen.newest for _, seen in found))

    def start(self) -> None:
        """Starts to write the newest event of the database, every ten seconds."""
        self._task.start()

    async def stop(self) -> None:
        """Stops, and writes the newest event. Raises nothing."""
        try:
            await self._task.stop()
        finally:
            try:
                await self._write()
            except Exception as error:
                self._log_failure(error)

    async def _judge(self, seen: _Seen) -> _Seen | None:
        """Returns what to remember if the database is older than `seen`, or None."""
        if seen.is_older:
            return None if await self._is_resolved(seen.found) else seen
        if seen.newest < first_id_at(now() - self._settings.events_retention):
            return None  # the event has been pruned
        # Read after `seen`, which another process may have written a moment ago.
        async with self._database.read() as store:
            newest = await store.history.newest()
        if self._settings.deleted_events == "erase":
            # The event may have been deleted with its account, which is a newer event.
            if newest is not None and newest >= seen.newest:
                return None
        else:
            async with self._database.read() as store:
                if await store.history.has(seen.newest):
                    return None
        # The commands may have run between the restore and the first comparison.
        if await self._is_resolved(seen.newest):
            return None
        return _Seen(seen.newest, is_older=True, found=newest)

    async def _is_resolved(self, found: UUID | None) -> bool:
        async with self._database.read() as store:
            return await store.history.has_later(RESOLVING, found)

    async def _write(self) -> None:
        # A process that has not compared must not hide from the next start that it is older.
        if not self._is_checked:
            return
        async with self._database.read() as store:
            newest = await store.history.newest()
        if newest is None or newest == self._written:
            return
        if self._account is None:
            async with self._database.read() as store:
                self._account = await store.history.first_account()
        if self._account is None:
            return
        missing: list[UUID] = []
        async with _places(self._settings, self._account) as places:
            for place in places:
                seen = await place.read()
                judged = None if seen is None else await self._judge(seen)
                if judged is not None:
                    if judged != seen:  # since the last write of this or another process
                        missing.append(judged.newest)
                        await place.write(judged)
                elif seen is None or seen.is_older or seen.newest < newest:
                    await place.write(_Seen(newest))
        if missing:
            _log.warning("%s", _describe(max(missing)))
        self._written = newest

    @staticmethod
    def _log_failure(error: Exception) -> None:
        _log.warning("newest event not remembered, will retry", exc_info=error)


async def describe_restore(database: Database, settings: Settings) -> str | None:
    """Returns the line of `NewestEvent.check`, and changes nothing. Raises StorageUnavailable."""
    return await NewestEvent(database, settings).check(remember=False)


class _Place(Protocol):
    """A place that outlives the database."""

    async def read(self) -> _Seen | None:
        """Returns what it remembers, or None."""

    async def write(self, seen: _Seen) -> None:
        """Replaces what it remembers, if it can."""


class _File(_Place):
    def __init__(self, folder: Path, account: UUID) -> None:
        self._folder = folder
        self._path = folder / f"newest-event-{account}.json"

    async def read(self) -> _Seen | None:
        return await asyncio.to_thread(self._read)

    def _read(self) -> _Seen | None:
        try:
            return _Seen.load(self._path.read_bytes())
        except OSError:
            return None

    async def write(self, seen: _Seen) -> None:
        await asyncio.to_thread(self._write, seen)

    def _write(self, seen: _Seen) -> None:
        # Renamed, so that a reader never sees a part. Without a data folder, or on a read-only
        # host, there is no such file.
        temporary = self._path.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):
            temporary.write_text(seen.dump(), encoding="utf-8")
            temporary.replace(self._path)
            # The databases of tests and of development come and go.
            found = self._folder.glob("newest-event-*.json")
            by_age = sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
            for path in by_age[_MAX_FILES:]:
                path.unlink()


class _Redis(_Place):
    def __init__(self, client: Any, account: UUID) -> None:
        self._client = client
        self._key = f"authapi newest event {account}"

    async def read(self) -> _Seen | None:
        text = None
        with _without_redis_errors():
            text = await self._client.get(self._key)
        return _Seen.load(text)

    async def write(self, seen: _Seen) -> None:
        with _without_redis_errors():
            await self._client.set(self._key, seen.dump())


@contextlib.contextmanager
def _without_redis_errors() -> Iterator[None]:
    from redis.exceptions import RedisError  # noqa: PLC0415  # an optional dependency

    with contextlib.suppress(RedisError, OSError, TimeoutError):
        yield


@contextlib.asynccontextmanager
async def _places(settings: Settings, account: UUID) -> AsyncIterator[Sequence["_Place"]]:
    places: list[_Place] = [_File(settings.data_dir, account)]
    storage = redis_storage(settings)
    if storage is None:
        yield places
        return
    try:
        places.append(_Redis(storage.bridge.get_connection(), account))  # type: ignore[attr-defined]  # limits
        yield places
    finally:
        with _without_redis_errors():
            await close_redis(storage)


def _describe(missing: UUID) -> str:
    return (
        "the database is older than this host has seen it, or lost a commit: the event of"
        f" {_time_of(missing)} is missing. If it was restored from a backup, credentials that had"
        " ended work again: run `authapi events reapply FILE --since TIME` with an export, or"
        " `authapi sessions end --all`"
    )


def _has_time(event_id: UUID) -> bool:
    try:
        _time_of(event_id)
    except ValueError:  # after the year 9999
        return False
    return True


def _time_of(event_id: UUID) -> str:
    at = datetime.fromtimestamp((event_id.int >> 80) / 1000, UTC)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
