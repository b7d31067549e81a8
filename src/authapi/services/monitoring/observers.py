"""What observes the services: the metrics, which are an extra, and the log of committed events."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from authapi.domain.events import Event
from authapi.errors import ConfigurationError
from authapi.services.audit import log_event
from authapi.settings import Settings
from authapi.storage import AsyncEngine

if TYPE_CHECKING:
    from authapi.services.metrics import Metrics


def create_metrics(
    settings: Settings, gauges: Mapping[str, Callable[[], float]]
) -> "Metrics | None":
    """Returns the metrics, or None if the settings disable them.

    Raises ConfigurationError if their extra is not installed.
    """
    if not settings.metrics:
        return None
    try:
        from authapi.services.metrics import Metrics  # noqa: PLC0415  # an extra
    except ImportError:
        raise ConfigurationError(
            "metrics need the extra: pip install 'fastapi-authapi[metrics]'"
        ) from None
    return Metrics(gauges)


def pool_size(settings: Settings, engine: AsyncEngine | None) -> int:
    """Returns the number of connections that the pool of the database may have.

    That of an engine of the application is 0 if its pool has no limit that it tells.
    """
    if engine is None:
        return settings.database_pool_size
    size = getattr(engine.pool, "size", None)
    return int(size()) if callable(size) else 0


def on_commit(metrics: "Metrics | None") -> Callable[[Event], None]:
    """Returns what is called with each committed event: it logs the event, and counts it."""
    if metrics is None:
        return log_event

    def committed(event: Event) -> None:
        log_event(event)
        metrics.count_event(event.type.value)

    return committed
