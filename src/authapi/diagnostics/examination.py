"""All checks, in the order of their findings."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

from authapi.diagnostics import configuration, database, files, operation
from authapi.diagnostics.background import Checks
from authapi.diagnostics.second_factors import check_policy
from authapi.diagnostics.subject import Subject
from authapi.domain.monitoring.findings import Finding
from authapi.settings import Settings, unknown_settings

Check = Callable[[Subject], Iterable[Finding]]


def check_settings(subject: Subject) -> Iterator[Finding]:
    """Which profile applies, and which variables have no effect."""
    yield Finding("settings", "ok", f"profile {subject.settings.env}")
    yield from find_unknown_settings()


def find_unknown_settings() -> Iterator[Finding]:
    """Yields a warning for each variable that is not a setting."""
    for line in unknown_settings(Settings).values():
        yield Finding("settings", "warning", line)


CHECKS: Mapping[str, Check] = {
    "settings": check_settings,
    "strategies": configuration.check_strategies,
    "database": database.check_database,
    "privileges": database.check_privileges,
    "restore": database.check_restore,
    "secret": files.check_secret_file,
    "signing keys": database.check_signing_keys,
    "data folder": files.check_data_dir,
    "limits": configuration.check_limits,
    "addresses": database.check_addresses,
    "transport": configuration.check_transport,
    "http": configuration.check_http,
    "routes": configuration.check_routes,
    "docs": configuration.check_docs,
    "leak reports": configuration.check_leaks,
    "mail": configuration.check_mail,
    "policy": lambda subject: check_policy(subject.settings),
    "second factors": database.check_second_factors,
    "passkeys": configuration.check_passkeys,
    "pages": configuration.check_pages,
    "operation": operation.check_operation,
    "disk": operation.check_disk,
}
"""By what they check. Each blocks, and opens and closes what it needs."""

GROUPS: Mapping[str, Collection[str]] = {
    "Settings": ("settings", "strategies", "docs", "leak reports", "pages"),
    "Database": ("database", "privileges", "connections", "clock", "disk"),
    "Keys": ("secret", "signing keys", "key rotation", "data folder"),
    "Limits": ("limits", "addresses"),
    "Mail": ("mail", "outbox"),
    "Second factors": ("second factors", "passkeys"),
    "Network": ("transport", "http", "routes", "public url"),
    "Housekeeping": ("cleanup", "events"),
}
"""The checks of each group of a report, by the `check` of their findings."""


def grouped(findings: Iterable[Finding]) -> Mapping[str, Sequence[Finding]]:
    """Returns the findings by group; one that no group names is of the first."""
    groups = {check: group for group, checks in GROUPS.items() for check in checks}
    first = next(iter(GROUPS))
    found: dict[str, list[Finding]] = {group: [] for group in GROUPS}
    for item in findings:
        found[groups.get(item.check, first)].append(item)
    return {group: items for group, items in found.items() if items}


def checks_of(subject: Subject) -> Checks:
    """Returns the checks of an installation, for `BackgroundChecks`."""
    return {name: partial(check, subject) for name, check in CHECKS.items()}
