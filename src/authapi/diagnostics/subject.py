"""What is checked, and how a check reports an error."""

from collections.abc import Callable
from dataclasses import dataclass

from authapi.domain.monitoring.findings import Finding
from authapi.errors import AuthAPIError, StorageUnavailable
from authapi.services import Services
from authapi.settings import Settings


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
        return Finding(check, "error", error.title)
    except AuthAPIError as error:
        return Finding(check, "error", str(error))
