"""The checks of the settings, and of what they name."""

import asyncio
from collections.abc import Iterator
from urllib.parse import urlsplit

from authapi.diagnostics.subject import Subject, run_check
from authapi.domain.client import parse_ip
from authapi.domain.monitoring.findings import Finding
from authapi.errors import ConfigurationError, PasskeysUnavailable
from authapi.outbound.issuers.metadata import metadata_urls
from authapi.services.factors.webauthn.relying_party import localhost_url, relying_party_of
from authapi.services.rate_limit_storage import describe_redis
from authapi.services.rate_limits import RateLimits
from authapi.services.tokens import read_scanner_keys
from authapi.settings import Settings
from authapi.strategies.registry import Registry
from authapi.web.pages.own_templates.checks import check_site
from authapi.web.pages.site import Site


def check_strategies(subject: Subject) -> Iterator[Finding]:
    """Which strategies there are."""
    settings = subject.settings
    yield run_check("strategies", lambda: ", ".join(Registry.load(subject.build_services()).names))
    if "basic" in settings.strategies:
        fact = "basic sends the password with every request and has no logout"
        remedy = "remove it from AUTHAPI_STRATEGIES, or use it only for scripts"
        yield Finding.advising("strategies", "warning", fact, remedy)


def check_limits(subject: Subject) -> Iterator[Finding]:
    """Whether the rate limits count what they should."""
    settings = subject.settings
    is_behind_proxy = settings.public_url is not None and settings.cookie_secure
    if is_behind_proxy and not settings.trusted_proxies:
        fact = (
            "https ends at a proxy, and AUTHAPI_TRUSTED_PROXIES is empty: all clients have the "
            "address of the proxy and share its rate limits"
        )
        remedy = "name the networks of the proxy, such as 10.0.0.0/8"
        yield Finding.advising("limits", "warning", fact, remedy)
    if settings.redis_url is None and settings.workers > 1:
        fact = f"each of {settings.workers} processes counts separately"
        yield Finding.advising("limits", "warning", fact, "set AUTHAPI_REDIS_URL")
    if settings.redis_url is not None:
        found = run_check("limits", lambda: _check_rate_limit_storage(settings))
        yield found
        if found.verdict == "ok":
            yield from _check_eviction(settings)


def _check_rate_limit_storage(settings: Settings) -> str:
    if not asyncio.run(RateLimits(settings).ping()):
        raise ConfigurationError(
            "the rate limit storage does not respond: limits fall back to memory",
            hint="check AUTHAPI_REDIS_URL, and that the server runs",
        )
    return "the rate limit storage responds"


def _check_eviction(settings: Settings) -> Iterator[Finding]:
    server = asyncio.run(describe_redis(settings))
    if server is None:
        return  # the server does not tell
    if server.policy in ("", "noeviction"):
        yield Finding("limits", "ok", f"{server.version}, which evicts no counters")
        return
    fact = f"{server.version} evicts counters when its memory is full ({server.policy})"
    remedy = "set maxmemory-policy noeviction, in a server of its own"
    yield Finding.advising("limits", "warning", fact, remedy)


def check_transport(subject: Subject) -> Iterator[Finding]:
    """Whether passwords are sent unencrypted."""
    settings = subject.settings
    address = parse_ip(settings.host)
    is_loopback = settings.host == "localhost" if address is None else address.is_loopback
    if not settings.cookie_secure and not is_loopback:
        fact = "plain http on a non-loopback address: passwords and cookies are sent unencrypted"
        remedy = "serve https by a proxy, and set AUTHAPI_PUBLIC_URL"
        yield Finding.advising("transport", "warning", fact, remedy)


def check_http(_: Subject) -> Iterator[Finding]:
    """Which server an application needs."""
    # Which server runs an importing application is not known here; its first request warns.
    message = (
        "authapi serve uses authapi:HTTPProtocol; an application that uvicorn runs needs "
        "--http authapi:HTTPProtocol"
    )
    yield Finding("http", "ok", message)


def check_routes(subject: Subject) -> Iterator[Finding]:
    """Where clients find the metadata below a prefix."""
    settings = subject.settings
    # Without a prefix, the public URL says it all.
    if settings.prefix:
        metadata, _ = metadata_urls(settings.issuer)
        message = f"{settings.issuer}; clients find it by {metadata}, which a proxy must pass on"
        yield Finding("routes", "ok", message)


def check_docs(subject: Subject) -> Iterator[Finding]:
    """Whether the docs page is public."""
    settings = subject.settings
    if settings.env == "production" and settings.docs_enabled:
        fact = f"{settings.prefix}/docs, /openapi.json and the password grant are public"
        yield Finding.advising("docs", "warning", fact, "set AUTHAPI_DOCS=false")


def check_leaks(subject: Subject) -> Iterator[Finding]:
    """Which scanners may report leaked tokens."""
    settings = subject.settings
    path = settings.leak_report_keys
    if path is not None:
        yield run_check(
            "leak reports", lambda: f"accepted from: {', '.join(read_scanner_keys(path))}"
        )


def check_mail(subject: Subject) -> Iterator[Finding]:
    """Whether mail can be sent."""
    settings = subject.settings
    if settings.env == "production" and not settings.sends_mail:
        fact = "off: no address can be confirmed, and no password reset"
        yield Finding.advising("mail", "warning", fact, "set AUTHAPI_MAIL_URL")
        return
    yield run_check("mail", lambda: asyncio.run(_check_mail(subject)))


async def _check_mail(subject: Subject) -> str:
    services = subject.build_services()
    try:
        return await services.mail.check()
    finally:
        await services.stop()


def check_pages(subject: Subject) -> Iterator[Finding]:
    """Whether the pages can be rendered."""
    settings = subject.settings
    if settings.pages != "none":
        yield run_check("pages", lambda: _check_pages(settings))


def _check_pages(settings: Settings) -> str:
    site = Site(settings)
    check_site(site)
    return f"in {', '.join(site.languages.offered)}"


def check_passkeys(subject: Subject) -> Iterator[Finding]:
    """Which domain the passkeys belong to."""
    settings = subject.settings
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
