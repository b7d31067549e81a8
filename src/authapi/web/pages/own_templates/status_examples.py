"""Values for the templates of the status of the console."""

from typing import Any

from authapi.clock import now
from authapi.domain.monitoring.findings import Finding, Report, Verdict
from authapi.domain.monitoring.statistics import (
    HOURS,
    AccountCounts,
    EventCount,
    EventCounts,
    KeyCounts,
    QueueCounts,
    SessionCounts,
    Statistics,
)
from authapi.domain.session import SessionKind
from authapi.services.monitoring.statistics import Versions

_VERDICTS: tuple[Verdict, ...] = ("ok", "warning", "error")


def status(is_full: bool) -> dict[str, Any]:
    """Returns the values of the page; with `is_full`, also those that are optional."""
    at = now()
    findings = [Finding("database", verdict, "reachable") for verdict in _VERDICTS]
    hour = EventCount(3, 2, 1) if is_full else EventCount()
    return {
        "report": Report(findings, at) if is_full else None,
        "versions_of": Versions("0.1.0", "3.13.0", "PostgreSQL 18.0", "0004"),
        "numbers": Statistics(
            at=at,
            accounts=AccountCounts(1, 1, 1, 1, 0),
            sessions=SessionCounts(dict.fromkeys(SessionKind, 1), 1),
            events=EventCounts([hour] * HOURS, is_complete=not is_full),
            queues=[QueueCounts("mail", 1, 0, at)] if is_full else [],
            keys=KeyCounts({}, at if is_full else None),
        ),
        "chart": {"sign_ins": "M0 0", "refused": "", "highest": 2, "width": 240, "height": 60},
        "settings": {"env": "production"} if is_full else {},
        "all_settings": "status?show=settings",
    }
