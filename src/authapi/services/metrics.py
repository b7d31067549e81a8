"""Metrics in the text format of Prometheus.

Counters are incremented where the event happens; gauges are read at a scrape. Several workers write
their values to files of one folder, and the process that is scraped adds them up. No label has a
value that a client can choose: labels are route patterns, strategy names and status codes.

Packages that instrument FastAPI count requests alone; those are a tenth of what is counted here.
"""

import fcntl
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    start_http_server,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from authapi.clock import now
from authapi.domain.events import EventType
from authapi.domain.monitoring.signals import Signals
from authapi.errors import ConfigurationError
from authapi.services.jobs.periodic_task import PeriodicTask

_log = logging.getLogger(__name__)

MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder that workers share. prometheus_client reads it at import."""

_GAUGE_INTERVAL = 5.0
"""Seconds between two updates of the gauges of one of several workers."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SUM: Final = "livesum"
"""The mode of a gauge of which each worker has a part."""
_MAX: Final = "livemax"
_LATEST: Final = "livemostrecent"
"""The mode of a gauge that one of the workers sets (`may_count`)."""
_GAUGES: Mapping[str, tuple[str, Literal["livesum", "livemax"]]] = {
    "authapi_hashes_running": ("Password hashes in progress.", _SUM),
    "authapi_hashes_waiting": ("Password hashes waiting for a thread.", _SUM),
    "authapi_identity_cache_entries": ("Entries of the identity cache.", _SUM),
    "authapi_identity_cache_off": (
        "1 while each request asks the database: by the settings, or as no notification arrives.",
        _MAX,
    ),
    "authapi_database_connections": ("Database connections in use.", _SUM),
    "authapi_database_pool_size": ("Database connections that may be in use.", _SUM),
    "authapi_coherence_lag_seconds": (
        "Time that the last notification of a change took; +Inf while none arrives.",
        _MAX,
    ),
}
_ALARMING = (EventType.REFRESH_REUSE, EventType.TOKEN_LEAKED)
"""Types with a counter from the start: Prometheus does not see the first increase of a new one."""
_HASH_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
"""Seconds. A hash takes tens of milliseconds, and longer on a busy machine."""


class Metrics(Signals):
    """The metrics of one process. `gauges` maps the name of each gauge to its present value."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, gauges: Mapping[str, Callable[[], float]]) -> None:
        own = self._registry = CollectorRegistry()
        counter, histogram = partial(Counter, registry=own), partial(Histogram, registry=own)
        gauge = partial(Gauge, registry=own)
        self._readers = gauges
        self._requests = counter("authapi_requests", "Requests.", ["method", "route", "status"])
        self._seconds = histogram(
            "authapi_request_duration_seconds",
            "Time until the response started.",
            ["method", "route"],
        )
        self._authentications = counter(
            "authapi_authentications",
            "Authentications by result: cached (identity cache), authenticated or refused.",
            ["strategy", "outcome"],
        )
        self._events = counter("authapi_events", "Security events recorded.", ["type"])
        for kind in _ALARMING:
            self._events.labels(kind.value)
        self._dropped = counter(
            "authapi_events_dropped",
            "Security events not recorded, beyond the limit of a minute.",
            ["type"],
        )
        self._second_factors = counter(
            "authapi_second_factors",
            "Second factors proved, by method and outcome.",
            ["method", "outcome"],
        )
        self._hash_seconds = histogram(
            "authapi_hash_seconds",
            "Time of a password hash in its thread.",
            buckets=_HASH_BUCKETS,
        )
        self._throttled = counter("authapi_throttled", "Attempts over a rate limit.", ["limit"])
        self._breaches_asked = counter(
            "authapi_breaches_asked",
            "New passwords looked up among breached ones: breached, unknown or failed.",
            ["outcome"],
        )
        self._attempts = counter(
            "authapi_outbox_attempts",
            "Attempts to deliver an entry of the outbox: delivered, failed or given_up.",
            ["kind", "outcome"],
        )
        self._pruned = counter("authapi_pruned", "Expired rows deleted, by the task.", ["chore"])
        self._last_cleanup = gauge(
            "authapi_housekeeping_last_success_timestamp_seconds",
            "Unix time at which a task of the cleanup last succeeded, or else that of the start.",
            ["chore"],
            multiprocess_mode=_MAX,
        )
        self._info = gauge(
            "authapi_info",
            "Always 1. The labels are versions.",
            ["version", "python", "database", "schema"],
            multiprocess_mode=_LATEST,
        )
        self._sessions = gauge(
            "authapi_sessions",
            "Live logins by kind, and personal access tokens; of all processes, once a minute.",
            ["kind"],
            multiprocess_mode=_LATEST,
        )
        self._outbox = gauge(
            "authapi_outbox_entries",
            "Entries of the outbox: waiting or given_up; of all processes, once a minute.",
            ["kind", "state"],
            multiprocess_mode=_LATEST,
        )
        self._oldest = gauge(
            "authapi_outbox_oldest_seconds",
            "Age of the entry of the outbox that waits longest, 0 if none does; once a minute.",
            ["kind"],
            multiprocess_mode=_LATEST,
        )
        self._key_age = gauge(
            "authapi_signing_key_age_seconds",
            "Age of the key that signs, 0 if there is none; once a minute.",
            multiprocess_mode=_LATEST,
        )
        self._gauges = {
            name: gauge(name, meaning, multiprocess_mode=mode)
            for name, (meaning, mode) in _GAUGES.items()
        }
        self._is_multiprocess = MULTIPROCESS_FOLDER in os.environ
        if not self._is_multiprocess:
            # Not the PlatformCollector: `authapi_info` has the version of Python, of all workers.
            ProcessCollector(registry=own)
        self._turn: IO[bytes] | None = None
        self._task = PeriodicTask(
            "metrics",
            self._update_gauges,
            interval=_GAUGE_INTERVAL,
            on_error=self._log_failure,
            at_once=True,
        )

    @property
    def registry(self) -> CollectorRegistry:
        """The registry to scrape: of all workers if there are several, else of this process."""
        return registry_of_workers() if self._is_multiprocess else self._registry

    def record_request(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Records a request. `route` is the pattern of its path, or None if no route matched."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route or "none", str(status)).inc()
        self._seconds.labels(method, route or "none").observe(seconds)

    def count_authentication(self, strategy: str, outcome: str) -> None:
        """Counts a checked credential. `outcome` is `cached`, `authenticated` or `refused`."""
        self._authentications.labels(strategy, outcome).inc()

    def count_event(self, kind: str) -> None:
        """Counts a recorded security event of the type `kind`."""
        self._events.labels(kind).inc()

    def count_dropped_event(self, kind: str) -> None:
        """Counts a security event that exceeded the limit of its type and was not recorded."""
        self._dropped.labels(kind).inc()

    def count_second_factor(self, method: str, is_right: bool) -> None:
        """Counts a second factor that was proved or refused."""
        self._second_factors.labels(method, "proved" if is_right else "refused").inc()

    def hashed(self, seconds: float) -> None:
        self._hash_seconds.observe(seconds)

    def throttled(self, limit: str) -> None:
        self._throttled.labels(limit).inc()

    def breach_asked(self, outcome: str) -> None:
        self._breaches_asked.labels(outcome).inc()

    def attempted(self, kind: str, outcome: str) -> None:
        self._attempts.labels(kind, outcome).inc()

    def cleanup_started(self, chores: Iterable[str]) -> None:
        # A task that never succeeds is late as well.
        for chore in chores:
            self._last_cleanup.labels(chore).set(now().timestamp())

    def cleaned(self, chore: str, rows: int) -> None:
        self._pruned.labels(chore).inc(rows)
        self._last_cleanup.labels(chore).set(now().timestamp())

    def may_count(self) -> bool:
        """Whether this process is the one of several workers that counts rows for all of them.

        It stays so until it ends, however it ends; another worker follows.
        """
        if not self._is_multiprocess or self._turn is not None:
            return True
        file = (_folder() / "counts.lock").open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._turn = file
        return True

    def set_versions(self, *, version: str, python: str, database: str, schema: str) -> None:
        """Sets what this process runs on."""
        self._info.labels(version, python, database, schema).set(1)

    def set_sessions(self, by_kind: Mapping[str, int]) -> None:
        """Sets the numbers of live sessions."""
        for kind, count in by_kind.items():
            self._sessions.labels(kind).set(count)

    def set_outbox(self, kind: str, *, waiting: int, given_up: int, oldest: float) -> None:
        """Sets the numbers of entries of a kind, and the age of the oldest one in seconds."""
        self._outbox.labels(kind, "waiting").set(waiting)
        self._outbox.labels(kind, "given_up").set(given_up)
        self._oldest.labels(kind).set(oldest)

    def set_key_age(self, seconds: float) -> None:
        """Sets the age of the key that signs."""
        self._key_age.set(seconds)

    def render(self) -> bytes:
        """Returns all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)

    def start(self) -> None:
        """Starts to update the gauges: at each scrape, or every 5 seconds with several workers."""
        if self._is_multiprocess:
            self._task.start()
            return
        for name, read in self._readers.items():
            self._gauges[name].set_function(read)

    async def stop(self) -> None:
        """Stops updating the gauges, and removes those of this worker from the shared folder."""
        try:
            await self._task.stop()
        finally:
            if self._is_multiprocess:
                _remove_gauges(os.getpid())
            if self._turn is not None:
                self._turn.close()
                self._turn = None

    async def _update_gauges(self) -> None:
        for name, read in self._readers.items():
            self._gauges[name].set(read())

    @staticmethod
    def _log_failure(error: Exception) -> None:
        _log.warning("gauges not updated, will retry", exc_info=error)


def serve_metrics(registry: CollectorRegistry, *, host: str, port: int) -> Callable[[], None]:
    """Serves `registry` over HTTP in a thread. Returns a function that stops the server.

    Raises ConfigurationError if it cannot listen on the port.
    """
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host} port {port} for metrics: {error.strerror or error}"
        ) from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


def registry_of_workers() -> CollectorRegistry:
    """Returns a registry with the sums of all workers. Needs PROMETHEUS_MULTIPROC_DIR."""
    registry = CollectorRegistry()
    registry.register(_DeadWorkers())
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


class _DeadWorkers(Collector):
    """Removes the gauges of killed workers, which would otherwise stay at their last value.

    prometheus_client leaves this to a server of processes that tells it of each death.
    """

    def collect(self) -> Iterable[Metric]:
        for path in _folder().glob("gauge_live*_*.db"):
            pid = int(path.stem.rpartition("_")[2])
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                _remove_gauges(pid)
            except PermissionError:
                continue
        return ()


def _remove_gauges(pid: int) -> None:
    # Like `prometheus_client.multiprocess.mark_process_dead`, which fails if another scrape removes
    # the same files at the same time.
    for path in _folder().glob(f"gauge_live*_{pid}.db"):
        path.unlink(missing_ok=True)


def _folder() -> Path:
    return Path(os.environ[MULTIPROCESS_FOLDER])
