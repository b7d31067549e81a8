"""What is checked, and how a check reports an error."""

from collections.abc import Callable
from dataclasses import dataclass

from authapi.domain.monitoring.findings import Finding
from authapi.errors import AuthAPIError, ConfigurationError, StorageUnavailable
from authapi.services import Services
from authapi.settings import Settings
from authapi.storage import migrations
from authapi.storage.names import TableNames


@dataclass(frozen=True, slots=True)
class Subject:
    """The installation that is checked."""

    settings: Settings
    build_services: Callable[[], Services]
    """Creates services for one check, with a pool of their own. The check stops them."""


def run_check(check: str, run: Callable[[], str]) -> Finding:
    """Returns the finding of a check that returns its message, or raises."""
    try:
        return Finding(check, "ok", run())
    except StorageUnavailable as error:
        return Finding(check, "error", str(error) or error.title)
    except ConfigurationError as error:
        return Finding(check, "error", str(error), error.hint)
    except AuthAPIError as error:
        return Finding(check, "error", str(error))


def database_exists(settings: Settings) -> bool:
    """Returns whether there is a database to look at: a check must not create it."""
    return settings.database_url is not None or settings.data_dir.exists()


def is_current(settings: Settings) -> bool:
    """Returns whether the database answers and has a schema that this release can use."""
    try:
        migrations.require_current(settings.resolved_direct_url, names=TableNames.of(settings))
    except AuthAPIError:
        return False
    return True
