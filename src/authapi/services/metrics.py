"""What an operator watches, in the text format of Prometheus.

Counted where it happens; levels (how many wait, how many are known) are looked at when somebody
asks. Several workers count into files of one folder, and whoever is asked adds them up. Labels are
never anything that a stranger can choose: patterns of routes, names of strategies, status codes.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from authapi.errors import ConfigurationError
from authapi.services.background.task import BackgroundTask

MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names where workers count together; prometheus_client reads it when
it is imported."""

_LOOK_EVERY = 5.0
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LEVELS = {
    "authapi_hashes_running": "Password hashes that are being computed.",
    "authapi_hashes_waiting": "Password hashes that wait for their turn.",
    "authapi_known_callers": "Callers that are remembered between their requests.",
    "authapi_database_connections": "Connections to the database that are in use.",
}


class Metrics:
    """Counters of one process. `levels` gives the present value of each of its levels."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, levels: Mapping[str, Callable[[], float]]) -> None:
        own = self._registry = CollectorRegistry()
        self._levels = levels
        self._requests = Counter(
            "authapi_requests", "Requests answered.", ["method", "route", "status"], registry=own
        )
        self._seconds = Histogram(
            "authapi_request_seconds", "Until an answer began.", ["method", "route"], registry=own
        )
        self._authentications = Counter(
            "authapi_authentications",
            "Credentials looked at: known from memory, recognised by the database, or refused.",
            ["strategy", "outcome"],
            registry=own,
        )
        self._events = Counter(
            "authapi_events", "Security events written down.", ["type"], registry=own
        )
        self._dropped = Counter(
            "authapi_events_dropped",
            "Security events that were beyond the number written down in a minute.",
            ["type"],
            registry=own,
        )
        self._gauges = {
            name: Gauge(name, meaning, registry=own, multiprocess_mode="livesum")
            for name, meaning in _LEVELS.items()
        }
        self._together = MULTIPROCESS_FOLDER in os.environ
        self._task = BackgroundTask("metrics", self._keep_looking)

    @property
    def registry(self) -> CollectorRegistry:
        """What to scrape: this process, or all workers where there are several."""
        return registry_of_workers() if self._together else self._registry

    def request(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """A request was answered; `route` is the pattern of its path, if it has one."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route or "none", str(status)).inc()
        self._seconds.labels(method, route or "none").observe(seconds)

    def authentication(self, strategy: str, outcome: str) -> None:
        """A credential was looked at: `known`, `recognised` or `refused`."""
        self._authentications.labels(strategy, outcome).inc()

    def event(self, kind: str) -> None:
        """A security event was written down."""
        self._events.labels(kind).inc()

    def event_dropped(self, kind: str) -> None:
        """A security event was not written down, as there were too many of its type."""
        self._dropped.labels(kind).inc()

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self.registry)

    def start(self) -> None:
        """Begin to look at the levels: when asked or, for others to add up, now and then."""
        if self._together:
            self._task.start()
            return
        for name, level in self._levels.items():
            self._gauges[name].set_function(level)

    async def stop(self) -> None:
        """Stop looking; this process has no levels any more."""
        try:
            await self._task.stop()
        finally:
            if self._together:
                _remove_levels(os.getpid())

    async def _keep_looking(self) -> None:
        while True:
            for name, level in self._levels.items():
                self._gauges[name].set(level())
            await asyncio.sleep(_LOOK_EVERY)


def serve_metrics(registry: CollectorRegistry, *, host: str, port: int) -> Callable[[], None]:
    """Serve `registry` to Prometheus from a thread of its own; what is returned ends that.

    Raises ConfigurationError if the port is taken.
    """
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host} port {port} for metrics: {error.strerror or error}"
        ) from None

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end


def registry_of_workers() -> CollectorRegistry:
    """What all workers have counted together."""
    registry = CollectorRegistry()
    registry.register(_Dead())
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


class _Dead(Collector):
    """Takes the levels of workers away that were killed: they would stand for ever."""

    def collect(self) -> Iterable[Metric]:
        for path in _folder().glob("gauge_live*_*.db"):
            pid = int(path.stem.rpartition("_")[2])
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                _remove_levels(pid)
            except PermissionError:
                continue
        return ()


def _remove_levels(pid: int) -> None:
    # As `prometheus_client.multiprocess.mark_process_dead`, which fails where another scrape
    # removes the same files at the same time.
    for path in _folder().glob(f"gauge_live*_{pid}.db"):
        path.unlink(missing_ok=True)


def _folder() -> Path:
    return Path(os.environ[MULTIPROCESS_FOLDER])
