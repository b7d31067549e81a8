"""`authapi doctor`: what is wrong, or will be, with the configuration as it is in force."""

import asyncio
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

import typer

from authapi.app import AuthAPI
from authapi.cli.running import JSONOption, print_rows
from authapi.clock import now
from authapi.crypto.ids import first_id_at
from authapi.errors import AuthAPIError, ConfigurationError, StorageUnavailable
from authapi.identity import read_address
from authapi.services import Services
from authapi.services.throttle import Throttle
from authapi.services.tokens import read_scanners
from authapi.settings import (
    Settings,
    load_settings,
    readers_of,
    secret_files,
    secrets_in_dotenv,
    unknown_settings,
)
from authapi.storage import migrations
from authapi.storage.postgres import privileges

Verdict = Literal["ok", "warning", "error"]
_LATELY = timedelta(days=1)
"""How far back events are looked at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says."""

    check: str
    verdict: Verdict
    message: str


def doctor(as_json: JSONOption = False) -> None:
    """Check the configuration. Exits with 1 if anything is in error; warnings are advice."""
    findings = list(examine())
    rows: list[dict[str, object]] = [
        {"check": item.check, "verdict": item.verdict, "message": item.message} for item in findings
    ]
    print_rows(rows, as_json=as_json)
    if any(item.verdict == "error" for item in findings):
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """Every finding, in order; nothing else is tried once the settings cannot be read."""
    try:
        settings = load_settings()
    except AuthAPIError as error:
        yield Finding("settings", "error", str(error))
        yield from _unknown_settings()
        return
    yield Finding("settings", "ok", f"profile {settings.env}")
    yield from _unknown_settings()
    for check in (
        *(_strategies, _database, _privileges, _secret_file, _signing_keys),
        *(_data_dir, _limits, _addresses, _transport, _http, _docs, _leaks, _mail),
    ):
        yield from check(settings)


def _unknown_settings() -> Iterator[Finding]:
    for line in unknown_settings(Settings).values():
        yield Finding("settings", "warning", line)


def _strategies(settings: Settings) -> Iterator[Finding]:
    yield _tried("strategies", lambda: ", ".join(AuthAPI(settings).runtime.registry.names))
    if "basic" in settings.strategies:
        message = "basic sends the password with every request and cannot be logged out"
        yield Finding("strategies", "warning", message)


def _database(settings: Settings) -> Iterator[Finding]:
    def check() -> str:
        url = settings.resolved_database_url
        if settings.database_url is None and not settings.data_dir.exists():
            return "SQLite, not there yet: serve will make it"
        migrations.require_current(url)
        return f"reachable, schema at {migrations.head()}"

    finding = _tried("database", check)
    if settings.migrates and finding.verdict == "error" and _is_reachable(settings):
        finding = Finding("database", "warning", f"{finding.message}, or serve, which does it")
    if finding.verdict == "ok" and _is_made(settings):
        changes = _tried("database", lambda: _ask_for_changes(settings))
        finding = finding if changes.verdict == "ok" else changes
    yield finding
    url = settings.resolved_database_url
    if finding.verdict == "ok" and _is_pooled(url):
        message = (
            "a connection pooler is in front of it: no statement is prepared, and each request of"
            " a caller asks the database; connect to PostgreSQL directly for speed"
        )
        yield Finding("database", "warning", message)
    if settings.env == "production" and url.startswith("postgres") and "sslmode=verify" not in url:
        message = "the connection is not verified: add ?sslmode=verify-full unless it is local"
        yield Finding("database", "warning", message)


def _ask_for_changes(settings: Settings) -> str:
    migrations.require_changes(settings.resolved_database_url)
    return "takes changes"


def _privileges(settings: Settings) -> Iterator[Finding]:
    erases = settings.deleted_events == "erase"
    try:
        found = privileges.lacking(settings.resolved_database_url, erases=erases)
    except AuthAPIError:
        return  # the finding on the database says so
    if found is None:
        return
    for lack in found:
        message = f"{lack.what}: {lack.remedy}"
        if lack.fails_requests:
            yield Finding("privileges", "error", message)
        else:
            yield Finding("privileges", "warning", f"{message}, or old events are never removed")
    if not found:
        yield Finding("privileges", "ok", "the role of the database may do what the service does")


def _is_made(settings: Settings) -> bool:
    return settings.database_url is not None or settings.data_dir.exists()


def _is_reachable(settings: Settings) -> bool:
    try:
        migrations.current(settings.resolved_database_url)
    except AuthAPIError:
        return False
    return True


def _is_pooled(url: str) -> bool:
    try:
        return migrations.is_pooled(url)
    except AuthAPIError:
        return False


def _is_current(settings: Settings) -> bool:
    try:
        migrations.require_current(settings.resolved_database_url)
    except AuthAPIError:
        return False
    return True


def _secret_file(settings: Settings) -> Iterator[Finding]:
    given = secret_files()
    for path in (*given.values(), *secrets_in_dotenv()):
        yield _secret(path)
    own = settings.data_dir / "secret"
    if "AUTHAPI_SECRET_FILE" not in given and own.exists():
        yield _secret(own)


def _signing_keys(settings: Settings) -> Iterator[Finding]:
    # Only looks: without a secret there are no keys yet, and nothing is made for a check.
    has_secret = settings.secret is not None or (settings.data_dir / "secret").exists()
    if not has_secret or not _is_current(settings):
        return
    yield _tried("signing keys", lambda: asyncio.run(_ask_for_keys(settings)))


async def _ask_for_keys(settings: Settings) -> str:
    services = Services.build(settings)
    try:
        services.keys.unlock()
        keys = await services.keys.lifecycle.check()
    finally:
        await services.stop()
    if not keys:
        return "none yet: serve will make them"
    count = len(keys)
    return f"{count} {'is' if count == 1 else 'are'} there, and the secret opens those that sign"


def _data_dir(settings: Settings) -> Iterator[Finding]:
    if settings.is_embedded and settings.data_dir.exists():
        yield _mode(settings.data_dir, "data folder")


def _limits(settings: Settings) -> Iterator[Finding]:
    behind_proxy = settings.public_url is not None and settings.cookie_secure
    if behind_proxy and not settings.trusted_proxies:
        message = (
            "https ends at a proxy, and AUTHAPI_TRUSTED_PROXIES names none: all callers would "
            "share the proxy's address, and one bucket of each limit"
        )
        yield Finding("limits", "warning", message)
    if settings.redis_url is None and settings.workers > 1:
        message = f"each of {settings.workers} processes counts on its own: set AUTHAPI_REDIS_URL"
        yield Finding("limits", "warning", message)
    if settings.redis_url is not None:
        yield _tried("limits", lambda: _ask_shared_store(settings))


def _ask_shared_store(settings: Settings) -> str:
    if not asyncio.run(Throttle(settings).ping()):
        raise ConfigurationError("the shared store does not answer: limits fall back to memory")
    return "the shared store answers"


def _addresses(settings: Settings) -> Iterator[Finding]:
    if not _is_made(settings) or not _is_current(settings):
        return
    try:
        count = asyncio.run(_count_without_address(settings))
    except AuthAPIError:
        return  # the finding on the database says so
    if count:
        message = (
            f"{count} event(s) of the last day came from requests without a readable address, "
            "which share one bucket of each limit: check what the proxy writes into X-Forwarded-For"
        )
        yield Finding("addresses", "warning", message)


async def _count_without_address(settings: Settings) -> int:
    services = Services.build(settings)
    try:
        async with services.database.read() as store:
            return await store.events.without_address(since=first_id_at(now() - _LATELY))
    finally:
        await services.stop()


def _transport(settings: Settings) -> Iterator[Finding]:
    address = read_address(settings.host)
    loopback = settings.host == "localhost" if address is None else address.is_loopback
    if not settings.cookie_secure and not loopback:
        message = "plain http beyond this machine: passwords and cookies travel in the clear"
        yield Finding("transport", "warning", message)


def _http(_: Settings) -> Iterator[Finding]:
    # What runs an importing application cannot be seen from here; its first request warns.
    message = (
        "serve reads requests by authapi:HTTPProtocol; an application that uvicorn runs needs "
        "--http authapi:HTTPProtocol for that"
    )
    yield Finding("http", "ok", message)


def _docs(settings: Settings) -> Iterator[Finding]:
    if settings.env == "production" and settings.docs_enabled:
        message = "/docs, /openapi.json and the password grant are public"
        yield Finding("docs", "warning", message)


def _leaks(settings: Settings) -> Iterator[Finding]:
    path = settings.leak_report_keys
    if path is not None:
        yield _tried("leak reports", lambda: f"believed from: {', '.join(read_scanners(path))}")


def _mail(settings: Settings) -> Iterator[Finding]:
    yield _tried("mail", lambda: asyncio.run(_ask_for_mail(settings)))


async def _ask_for_mail(settings: Settings) -> str:
    services = Services.build(settings)
    try:
        return await services.mail.check()
    finally:
        await services.stop()


def _secret(path: Path) -> Finding:
    finding = _mode(path, "secret")
    if finding.verdict == "ok" and readers_of(path) is not None:
        return Finding("secret", "error", f"{path} can be read by its group: chmod g-r")
    return finding


def _mode(path: Path, what: str) -> Finding:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o007:
        return Finding(what, "error", f"{path} is open to everybody (mode {mode:04o})")
    return Finding(what, "ok", f"{path} has mode {mode:04o}")


def _tried(check: str, attempt: Callable[[], str]) -> Finding:
    try:
        return Finding(check, "ok", attempt())
    except StorageUnavailable as error:
        return Finding(check, "error", error.title)
    except AuthAPIError as error:
        return Finding(check, "error", str(error))
