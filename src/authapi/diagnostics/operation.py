"""The checks of how a service has been running: its jobs, its keys and its capacity."""

import asyncio
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from authapi.clock import now
from authapi.diagnostics.subject import Subject, database_exists, is_current
from authapi.domain.monitoring.findings import Finding
from authapi.domain.monitoring.statistics import Statistics
from authapi.domain.monitoring.wording import duration_in_words, pluralize, size_in_words
from authapi.errors import AuthAPIError
from authapi.services.monitoring.statistics import Capacity
from authapi.settings import Settings
from authapi.storage.urls import parse_url

_LATE = timedelta(days=1)
"""How long a job may be late: a service may have been stopped overnight."""
_OLDEST_POSTGRES = 14
"""The oldest version of PostgreSQL that its project still maintained in 2026."""
_MIN_FREE = 200 * 1024 * 1024
"""Bytes. SQLite needs room for its journal, and a full disk stops every login."""
_LARGE = 20 * 2**30
"""Bytes of events: more than most of a backup, which takes minutes to write and to restore."""
_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "fuse.sshfs"}
)
_MOUNTS = Path("/proc/mounts")


def check_operation(subject: Subject) -> Iterator[Finding]:
    """Whether the jobs of the service keep up, and whether the database has room for it."""
    if not database_exists(subject.settings) or not is_current(subject.settings):
        return  # the finding on the database says so
    try:
        counts, capacity = asyncio.run(_look(subject))
    except AuthAPIError:
        return
    yield from _check_connections(subject.settings, capacity)
    yield from _check_keys(subject.settings, counts)
    yield from _check_outbox(counts)
    yield from _check_events(subject.settings, capacity)


async def _look(subject: Subject) -> tuple[Statistics, Capacity]:
    services = subject.build_services()
    try:
        return await services.statistics.counts(), await services.statistics.capacity()
    finally:
        await services.stop()


def _check_connections(settings: Settings, capacity: Capacity) -> Iterator[Finding]:
    available = capacity.max_connections
    if available is None:
        return
    name, _, version = capacity.database.partition(" ")
    if version.partition(".")[0].isdecimal() and int(version.partition(".")[0]) < _OLDEST_POSTGRES:
        fact = f"{name} {version} gets no security fixes any more"
        yield Finding.advising(
            "database", "warning", fact, f"upgrade it to {_OLDEST_POSTGRES} or later"
        )
    # One more in each process listens for changes of other processes.
    needed = settings.workers * (settings.database_pool_size + 1)
    fact = f"{capacity.database} gives {available} connections, and {settings.workers} x"
    fact += f" {settings.database_pool_size + 1} may be open"
    if needed > available:
        remedy = "lower AUTHAPI_DATABASE_POOL_SIZE or AUTHAPI_WORKERS, or raise max_connections"
        yield Finding.advising("connections", "warning", fact, remedy)
    else:
        yield Finding("connections", "ok", fact)


def _check_keys(settings: Settings, counts: Statistics) -> Iterator[Finding]:
    due = counts.keys.next_rotation_at
    if due is not None and now() - due > max(_LATE, settings.key_rotation / 2):
        late = duration_in_words(timedelta(days=(now() - due).days))
        fact = f"the rotation of the signing key is {late} late"
        yield Finding.advising(
            "key rotation", "warning", fact, "run authapi serve, which rotates it"
        )


def _check_outbox(counts: Statistics) -> Iterator[Finding]:
    given_up = [queue for queue in counts.queues if queue.given_up]
    for queue in given_up:
        command = _LISTS.get(queue.kind, "authapi mail list --requests")
        fact = (
            f"{pluralize(queue.given_up, 'entry', 'entries')} of the outbox given up ({queue.kind})"
        )
        yield Finding.advising("outbox", "warning", fact, f"see {command}")
    oldest = counts.oldest_at
    if oldest is not None and now() - oldest > _LATE:
        late = duration_in_words(timedelta(days=(now() - oldest).days))
        fact = f"an entry of the outbox has waited for {late}"
        yield Finding.advising("outbox", "warning", fact, "run authapi serve, which delivers it")
    elif not given_up:
        yield Finding("outbox", "ok", f"{counts.waiting:,} waiting, none given up")


_LISTS = {"mail": "authapi mail list", "webhook": "authapi webhooks list"}
"""The commands that list the entries of a kind."""


def _check_events(settings: Settings, capacity: Capacity) -> Iterator[Finding]:
    oldest = capacity.oldest_event_at
    if oldest is None:
        return
    late = now() - oldest - settings.events_retention
    if late > _LATE:
        fact = f"events are kept {duration_in_words(timedelta(days=late.days))} too long"
        yield Finding.advising("cleanup", "warning", fact, "run authapi prune, or authapi serve")
    else:
        kept = duration_in_words(settings.events_retention)
        yield Finding("cleanup", "ok", f"no event is older than {kept}")
    if capacity.bytes_of_events is not None:
        yield _examine_size(settings, capacity.bytes_of_events)


def _examine_size(settings: Settings, size: int) -> Finding:
    fact = f"events of {duration_in_words(settings.events_retention)} take {size_in_words(size)}"
    if size <= _LARGE:
        return Finding("events", "ok", fact)
    remedy = "shorten AUTHAPI_EVENTS_RETENTION, and keep older ones by `authapi events export`"
    return Finding.advising("events", "warning", fact, remedy)


def check_disk(
    subject: Subject,
    *,
    free: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
) -> Iterator[Finding]:
    """Whether an embedded database has room, on a file system that it can lock."""
    settings = subject.settings
    if not settings.is_embedded:
        return
    file = Path(parse_url(settings.resolved_database_url).database or "").absolute()
    folder = next((path for path in file.parents if path.is_dir()), None)
    if folder is None:
        return
    kind = file_system_of(folder, _mounts())
    if kind in _NETWORK_FILE_SYSTEMS:
        fact = f"SQLite is on a network file system ({kind}), which does not lock reliably"
        yield Finding.advising("disk", "warning", fact, "use a local disk, or PostgreSQL")
    available = free(folder)
    shown = f"{available / 2**20:,.0f} MiB free in {folder}"
    if available < _MIN_FREE:
        yield Finding.advising("disk", "warning", shown, "make room: a full disk stops logins")
    else:
        yield Finding("disk", "ok", shown)


def file_system_of(folder: Path, mounts: Sequence[tuple[str, str]]) -> str | None:
    """Returns the type of the file system of `folder`, given mount points with their types."""
    found = [(point, kind) for point, kind in mounts if folder.is_relative_to(point)]
    return max(found, key=lambda it: len(it[0]))[1] if found else None


def _mounts() -> Sequence[tuple[str, str]]:
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()  # not Linux
    fields = [line.split() for line in lines]
    return [(it[1].replace("\\040", " "), it[2]) for it in fields if len(it) > 2]
