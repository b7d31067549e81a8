"""The checks that read the database."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

from authapi.clock import now
from authapi.diagnostics.second_factors import check_accounts
from authapi.diagnostics.subject import (
    Subject,
    database_exists,
    is_current,
    run_check,
)
from authapi.domain.monitoring.findings import Finding
from authapi.domain.monitoring.wording import pluralize
from authapi.errors import AuthAPIError
from authapi.services.restores import describe_restore
from authapi.services.schema import check_direct_url
from authapi.settings import Settings
from authapi.storage import migrations
from authapi.storage.names import TableNames
from authapi.storage.postgres import privileges
from authapi.storage.schema.revisions import is_newer, require_usable

_EVENT_WINDOW = timedelta(days=1)
"""How far back events are counted."""


def check_database(subject: Subject) -> Iterator[Finding]:
    """Whether the database is reachable, and has a schema that this release can use."""
    settings = subject.settings

    def check() -> str:
        if settings.database_url is None and not settings.data_dir.exists():
            return "SQLite, not created yet: authapi serve creates it"
        revision = migrations.current(settings.resolved_direct_url, names=TableNames.of(settings))
        require_usable(revision)
        if settings.direct_url is not None:
            _check_both_urls(subject)
        newer = f", newer than {migrations.head()} and usable" if is_newer(revision) else ""
        return f"reachable, schema at {revision}{newer}"

    finding = run_check("database", check)
    if settings.migrates and finding.verdict == "error" and _is_old(settings):
        start = "start authapi serve, which does it"
        remedy = start if finding.remedy is None else f"{finding.remedy}, or {start}"
        finding = Finding.advising("database", "warning", finding.fact, remedy)
    if finding.verdict == "ok" and database_exists(settings):
        changes = run_check("database", lambda: _check_writable(settings))
        finding = finding if changes.verdict == "ok" else changes
    yield finding
    url = settings.resolved_database_url
    if finding.verdict == "ok" and settings.database_pooler is not None:
        fact = (
            f"connected through a connection pooler in {settings.database_pooler} mode; migrations"
            " and notifications go to AUTHAPI_DATABASE_DIRECT_URL"
        )
        yield Finding("database", "ok", fact)
    elif finding.verdict == "ok" and _is_pooled(url):
        fact = "connected through a connection pooler: statements are not prepared"
        remedy = "connect to PostgreSQL directly for better performance"
        yield Finding.advising("database", "warning", fact, remedy)
    if settings.env == "production" and url.startswith("postgres") and "sslmode=verify" not in url:
        remedy = "add ?sslmode=verify-full unless it is local"
        yield Finding.advising("database", "warning", "the server is not verified", remedy)


def _check_both_urls(subject: Subject) -> None:
    settings = subject.settings
    if settings.database_pooler is None:
        migrations.is_pooled(settings.resolved_database_url)  # raises if sessions are shared
    asyncio.run(_check_direct_url(subject))


async def _check_direct_url(subject: Subject) -> None:
    services = subject.build_services()
    try:
        await check_direct_url(services.database, services.settings)
    finally:
        await services.stop()


def _check_writable(settings: Settings) -> str:
    migrations.require_writable(settings.resolved_direct_url, names=TableNames.of(settings))
    return "writable"


def check_privileges(subject: Subject) -> Iterator[Finding]:
    """Whether the role of the database has what the service needs."""
    settings = subject.settings
    erases, url = settings.deleted_events == "erase", settings.resolved_direct_url
    if not url.startswith("postgres"):
        return  # SQLite has no roles
    try:
        with migrations.connect(url) as connection:
            names = TableNames.of(settings)
            found = privileges.missing_privileges(connection, names=names, erases=erases)
            may_change_schema = privileges.may_change_schema(connection, names=names)
    except AuthAPIError:
        return  # the finding on the database says so
    for lack in found:
        if lack.fails_requests:
            yield Finding.advising("privileges", "error", lack.message, lack.grant)
        else:
            remedy = f"{lack.grant}, or old events are never removed"
            yield Finding.advising("privileges", "warning", lack.message, remedy)
    changes = _check_schema_changes(settings, may=may_change_schema)
    if changes is not None:
        yield changes
    elif not found:
        yield Finding("privileges", "ok", "the database role has all required privileges")


def _check_schema_changes(settings: Settings, *, may: bool) -> Finding | None:
    if settings.migrates and not may:
        fact = "AUTHAPI_MIGRATE is on, and the database role may not change the schema"
        remedy = (
            "set AUTHAPI_MIGRATE=false, and run `authapi db upgrade` as the owner of the tables"
        )
        return Finding.advising("privileges", "warning", fact, remedy)
    if may and settings.env == "production":
        fact = "the database role may alter and drop the tables, which requests never need"
        remedy = "serve with a role that owns none, and run `authapi db upgrade` as another"
        if settings.migrates:
            remedy += ", with AUTHAPI_MIGRATE=false"
        return Finding.advising("privileges", "warning", fact, remedy)
    return None


def _is_old(settings: Settings) -> bool:
    try:
        found = migrations.current(settings.resolved_direct_url, names=TableNames.of(settings))
    except AuthAPIError:
        return False
    return found is None or found in migrations.earlier()


def _is_pooled(url: str) -> bool:
    try:
        return migrations.is_pooled(url)
    except AuthAPIError:
        return False


def check_signing_keys(subject: Subject) -> Iterator[Finding]:
    """Whether the secret decrypts the signing keys."""
    settings = subject.settings
    # Read-only: without a secret there are no keys yet, and a check must not create them.
    has_secret = settings.secret is not None or (settings.data_dir / "secret").exists()
    if not has_secret or not is_current(settings):
        return
    yield run_check("signing keys", lambda: asyncio.run(_check_keys(subject)))
    if settings.secret_previous is not None:
        message = (
            "a change of the secret is under way: run `authapi keys rewrap` until it encrypts 0"
            " rows, then remove AUTHAPI_SECRET_PREVIOUS from every process"
        )
        yield Finding("signing keys", "warning", message)


async def _check_keys(subject: Subject) -> str:
    services = subject.build_services()
    try:
        services.keys.load_secret()
        keys = await services.keys.lifecycle.check()
    finally:
        await services.stop()
    if not keys:
        return "none yet: authapi serve creates them"
    return f"{pluralize(len(keys), 'key')}; AUTHAPI_SECRET decrypts those that sign"


def check_addresses(subject: Subject) -> Iterator[Finding]:
    """Whether recent requests had an address of a client."""
    settings = subject.settings
    if not database_exists(settings) or not is_current(settings):
        return
    try:
        count = asyncio.run(_count_without_address(subject))
    except AuthAPIError:
        return  # the finding on the database says so
    if count:
        fact = (
            f"{count} event(s) of the last day have no valid client address; such requests share "
            "one rate limit"
        )
        remedy = "check the X-Forwarded-For that the proxy sends"
        yield Finding.advising("addresses", "warning", fact, remedy)


async def _count_without_address(subject: Subject) -> int:
    services = subject.build_services()
    try:
        return await services.audit.count_without_address(since=now() - _EVENT_WINDOW)
    finally:
        await services.stop()


def check_second_factors(subject: Subject) -> Iterator[Finding]:
    """Whether the stored second factors match the accounts, and the clock that of the database."""
    settings = subject.settings
    if not database_exists(settings) or not is_current(settings):
        return
    try:
        yield from asyncio.run(_check_second_factors(subject))
    except AuthAPIError:
        return  # the finding on the database says so


async def _check_second_factors(subject: Subject) -> list[Finding]:
    services = subject.build_services()
    try:
        return await check_accounts(services)
    finally:
        await services.stop()


def check_restore(subject: Subject) -> Iterator[Finding]:
    """Whether the database is older than this host has seen it."""
    settings = subject.settings
    if not database_exists(settings) or not is_current(settings):
        return
    try:
        found = asyncio.run(_describe_restore(subject))
    except AuthAPIError:
        return  # the finding on the database says so
    if found is not None:
        yield Finding("restore", "warning", found)


async def _describe_restore(subject: Subject) -> str | None:
    services = subject.build_services()
    try:
        return await describe_restore(services.database, services.settings)
    finally:
        await services.stop()
