"""`authapi doctor`: checks the effective configuration and reports errors and warnings."""

import asyncio
import stat
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import typer

from authapi.app import AuthAPI
from authapi.cli.application import build_services, settings_of
from authapi.cli.checks.findings import Finding
from authapi.cli.checks.second_factors import check_accounts, check_policy
from authapi.cli.terminal import JSONOption, pluralize, print_rows
from authapi.clock import now
from authapi.domain.client import parse_ip
from authapi.errors import (
    AuthAPIError,
    ConfigurationError,
    PasskeysUnavailable,
    StorageUnavailable,
)
from authapi.services.factors.webauthn.relying_party import localhost_url, relying_party_of
from authapi.services.rate_limits import RateLimits
from authapi.services.tokens import read_scanner_keys
from authapi.settings import (
    Settings,
    other_readers,
    secret_files,
    secrets_in_dotenv,
    unknown_settings,
)
from authapi.storage import migrations
from authapi.storage.names import TableNames
from authapi.storage.postgres import privileges
from authapi.verify.metadata import metadata_urls
from authapi.web.pages.own_templates.checks import check_site
from authapi.web.pages.site import Site

_EVENT_WINDOW = timedelta(days=1)
"""How far back events are counted."""


def doctor(as_json: JSONOption = False) -> None:
    """Check the configuration. Exit with 1 if a check fails; warnings do not count."""
    findings = list(examine())
    rows: list[dict[str, object]] = [
        {"check": item.check, "verdict": item.verdict, "message": item.message} for item in findings
    ]
    print_rows(rows, as_json=as_json)
    if any(item.verdict == "error" for item in findings):
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """Yields the findings in order. If the settings are invalid, no other check runs."""
    try:
        settings = settings_of()
    except AuthAPIError as error:
        yield Finding("settings", "error", str(error))
        yield from _unknown_settings()
        return
    yield Finding("settings", "ok", f"profile {settings.env}")
    yield from _unknown_settings()
    for check in (
        *(_strategies, _database, _privileges, _secret_file, _signing_keys),
        *(_data_dir, _limits, _addresses, _transport, _http, _routes, _docs, _leaks, _mail),
        *(check_policy, _second_factors, _passkeys, _pages),
    ):
        yield from check(settings)


def _unknown_settings() -> Iterator[Finding]:
    for line in unknown_settings(Settings).values():
        yield Finding("settings", "warning", line)


def _strategies(settings: Settings) -> Iterator[Finding]:
    yield _run_check("strategies", lambda: ", ".join(AuthAPI(settings).runtime.registry.names))
    if "basic" in settings.strategies:
        message = "basic sends the password with every request and has no logout"
        yield Finding("strategies", "warning", message)


def _database(settings: Settings) -> Iterator[Finding]:
    def check() -> str:
        url = settings.resolved_database_url
        if settings.database_url is None and not settings.data_dir.exists():
            return "SQLite, not created yet: authapi serve creates it"
        migrations.require_current(url, names=TableNames.of(settings))
        return f"reachable, schema at {migrations.head()}"

    finding = _run_check("database", check)
    if settings.migrates and finding.verdict == "error" and _is_reachable(settings):
        finding = Finding(
            "database", "warning", f"{finding.message}, or start authapi serve, which does it"
        )
    if finding.verdict == "ok" and _database_exists(settings):
        changes = _run_check("database", lambda: _check_writable(settings))
        finding = finding if changes.verdict == "ok" else changes
    yield finding
    url = settings.resolved_database_url
    if finding.verdict == "ok" and _is_pooled(url):
        message = (
            "connected through a connection pooler: statements are not prepared, and the identity"
            " cache is disabled; connect to PostgreSQL directly for better performance"
        )
        yield Finding("database", "warning", message)
    if settings.env == "production" and url.startswith("postgres") and "sslmode=verify" not in url:
        message = "the server is not verified: add ?sslmode=verify-full unless it is local"
        yield Finding("database", "warning", message)


def _check_writable(settings: Settings) -> str:
    migrations.require_writable(settings.resolved_database_url, names=TableNames.of(settings))
    return "writable"


def _privileges(settings: Settings) -> Iterator[Finding]:
    erases, url = settings.deleted_events == "erase", settings.resolved_database_url
    if not url.startswith("postgres"):
        return  # SQLite has no roles
    try:
        with migrations.connect(url) as connection:
            found = privileges.missing_privileges(
                connection, names=TableNames.of(settings), erases=erases
            )
    except AuthAPIError:
        return  # the finding on the database says so
    for lack in found:
        message = f"{lack.message}: {lack.grant}"
        if lack.fails_requests:
            yield Finding("privileges", "error", message)
        else:
            yield Finding("privileges", "warning", f"{message}, or old events are never removed")
    if not found:
        yield Finding("privileges", "ok", "the database role has all required privileges")


def _database_exists(settings: Settings) -> bool:
    return settings.database_url is not None or settings.data_dir.exists()


def _is_reachable(settings: Settings) -> bool:
    try:
        migrations.current(settings.resolved_database_url, names=TableNames.of(settings))
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
        migrations.require_current(settings.resolved_database_url, names=TableNames.of(settings))
    except AuthAPIError:
        return False
    return True


def _secret_file(settings: Settings) -> Iterator[Finding]:
    given = secret_files()
    for path in (*given.values(), *secrets_in_dotenv()):
        yield _check_secret_file(path)
    own = settings.data_dir / "secret"
    if "AUTHAPI_SECRET_FILE" not in given and own.exists():
        yield _check_secret_file(own)


def _signing_keys(settings: Settings) -> Iterator[Finding]:
    # Read-only: without a secret there are no keys yet, and a check must not create them.
    has_secret = settings.secret is not None or (settings.data_dir / "secret").exists()
    if not has_secret or not _is_current(settings):
        return
    yield _run_check("signing keys", lambda: asyncio.run(_check_keys(settings)))


async def _check_keys(settings: Settings) -> str:
    services = build_services(settings)
    try:
        services.keys.load_secret()
        keys = await services.keys.lifecycle.check()
    finally:
        await services.stop()
    if not keys:
        return "none yet: authapi serve creates them"
    return f"{pluralize(len(keys), 'key')}; AUTHAPI_SECRET decrypts those that sign"


def _data_dir(settings: Settings) -> Iterator[Finding]:
    if settings.is_embedded and settings.data_dir.exists():
        yield _check_mode(settings.data_dir, "data folder")


def _limits(settings: Settings) -> Iterator[Finding]:
    is_behind_proxy = settings.public_url is not None and settings.cookie_secure
    if is_behind_proxy and not settings.trusted_proxies:
        message = (
            "https ends at a proxy, and AUTHAPI_TRUSTED_PROXIES is empty: all clients have the "
            "address of the proxy and share its rate limits"
        )
        yield Finding("limits", "warning", message)
    if settings.redis_url is None and settings.workers > 1:
        message = f"each of {settings.workers} processes counts separately: set AUTHAPI_REDIS_URL"
        yield Finding("limits", "warning", message)
    if settings.redis_url is not None:
        yield _run_check("limits", lambda: _check_rate_limit_storage(settings))


def _check_rate_limit_storage(settings: Settings) -> str:
    if not asyncio.run(RateLimits(settings).ping()):
        raise ConfigurationError(
            "the rate limit storage does not respond: limits fall back to memory"
        )
    return "the rate limit storage responds"


def _addresses(settings: Settings) -> Iterator[Finding]:
    if not _database_exists(settings) or not _is_current(settings):
        return
    try:
        count = asyncio.run(_count_without_address(settings))
    except AuthAPIError:
        return  # the finding on the database says so
    if count:
        message = (
            f"{count} event(s) of the last day have no valid client address; such requests share "
            "one rate limit: check the X-Forwarded-For that the proxy sends"
        )
        yield Finding("addresses", "warning", message)


async def _count_without_address(settings: Settings) -> int:
    services = build_services(settings)
    try:
        return await services.audit.count_without_address(since=now() - _EVENT_WINDOW)
    finally:
        await services.stop()


def _transport(settings: Settings) -> Iterator[Finding]:
    address = parse_ip(settings.host)
    is_loopback = settings.host == "localhost" if address is None else address.is_loopback
    if not settings.cookie_secure and not is_loopback:
        message = "plain http on a non-loopback address: passwords and cookies are sent unencrypted"
        yield Finding("transport", "warning", message)


def _http(_: Settings) -> Iterator[Finding]:
    # Which server runs an importing application is not known here; its first request warns.
    message = (
        "authapi serve uses authapi:HTTPProtocol; an application that uvicorn runs needs "
        "--http authapi:HTTPProtocol"
    )
    yield Finding("http", "ok", message)


def _routes(settings: Settings) -> Iterator[Finding]:
    # Without a prefix, the public URL says it all.
    if settings.prefix:
        metadata, _ = metadata_urls(settings.issuer)
        message = f"{settings.issuer}; clients find it by {metadata}, which a proxy must pass on"
        yield Finding("routes", "ok", message)


def _docs(settings: Settings) -> Iterator[Finding]:
    if settings.env == "production" and settings.docs_enabled:
        message = f"{settings.prefix}/docs, /openapi.json and the password grant are public"
        yield Finding("docs", "warning", message)


def _leaks(settings: Settings) -> Iterator[Finding]:
    path = settings.leak_report_keys
    if path is not None:
        yield _run_check(
            "leak reports", lambda: f"accepted from: {', '.join(read_scanner_keys(path))}"
        )


def _mail(settings: Settings) -> Iterator[Finding]:
    yield _run_check("mail", lambda: asyncio.run(_check_mail(settings)))


async def _check_mail(settings: Settings) -> str:
    services = build_services(settings)
    try:
        return await services.mail.check()
    finally:
        await services.stop()


def _pages(settings: Settings) -> Iterator[Finding]:
    if settings.pages != "none":
        yield _run_check("pages", lambda: _check_pages(settings))


def _check_pages(settings: Settings) -> str:
    site = Site(settings)
    check_site(site)
    return f"in {', '.join(site.languages.offered)}"


def _passkeys(settings: Settings) -> Iterator[Finding]:
    if settings.passkeys == "off":
        return
    try:
        party = relying_party_of(settings)
    except PasskeysUnavailable as error:
        reason = error.detail or error.title
        yield Finding("passkeys", "warning", f"{reason}; or set AUTHAPI_PASSKEYS=off")
        return
    host = urlsplit(settings.base_url).hostname or ""
    if not party.origins and not party.allows_localhost:
        message = (
            f"AUTHAPI_PASSKEY_RP_ID={party.id} is neither {host}, the host of AUTHAPI_PUBLIC_URL, "
            "nor a parent domain of it: browsers refuse it"
        )
        yield Finding("passkeys", "error", message)
        return
    message = f"they belong to {party.id}"
    if party.allows_localhost and host != party.id:
        message += f": open {localhost_url(settings)}, because browsers refuse them at {host}"
    yield Finding("passkeys", "ok", message)


def _second_factors(settings: Settings) -> Iterator[Finding]:
    if not _database_exists(settings) or not _is_current(settings):
        return
    try:
        yield from asyncio.run(_check_second_factors(settings))
    except AuthAPIError:
        return  # the finding on the database says so


async def _check_second_factors(settings: Settings) -> list[Finding]:
    services = build_services(settings)
    try:
        return await check_accounts(services)
    finally:
        await services.stop()


def _check_secret_file(path: Path) -> Finding:
    finding = _check_mode(path, "secret")
    if finding.verdict == "ok" and other_readers(path) is not None:
        return Finding("secret", "error", f"{path} is readable by its group: chmod g-r")
    return finding


def _check_mode(path: Path, what: str) -> Finding:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o007:
        return Finding(what, "error", f"{path} is accessible to all users (mode {mode:04o})")
    return Finding(what, "ok", f"{path} has mode {mode:04o}")


def _run_check(check: str, run: Callable[[], str]) -> Finding:
    try:
        return Finding(check, "ok", run())
    except StorageUnavailable as error:
        return Finding(check, "error", error.title)
    except AuthAPIError as error:
        return Finding(check, "error", str(error))
