"""Which domain the passkeys of this service belong to, and which pages may use them."""

import ipaddress
import re
from urllib.parse import urlsplit

from authapi.crypto.factors.webauthn import is_installed
from authapi.domain.factors.passkeys import RelyingParty
from authapi.errors import PasskeysUnavailable
from authapi.settings import Settings

_LOCALHOST = "localhost"
_LOOPBACK_PAGE = re.compile(r"http://(?:127(?:\.[0-9]{1,3}){3}|\[::1\]):([1-9][0-9]{0,4})")


def relying_party_of(settings: Settings) -> RelyingParty:
    """Returns the relying party of an installation.

    In development on a loopback address, that is `localhost`: browsers refuse an address. Raises
    PasskeysUnavailable, which says what to change, if passkeys are off, the extra is not installed,
    or there is no domain.
    """
    if settings.passkeys == "off":
        raise PasskeysUnavailable
    if not is_installed():
        raise PasskeysUnavailable(
            "The operator must install the extra: pip install 'fastapi-authapi[passkeys]'"
        )
    url = urlsplit(settings.base_url)
    host = url.hostname or ""
    is_development = settings.env == "development"
    own = _LOCALHOST if is_development and _is_loopback(host) else host
    rp_id = settings.passkey_rp_id or own
    if _is_address(rp_id):
        raise PasskeysUnavailable(
            _open_localhost(localhost_url(settings))
            if is_development
            else "Passkeys need a domain: AUTHAPI_PUBLIC_URL has an address"
        )
    origins = set(settings.passkey_origins)
    if url.scheme == "https" and is_within(host, rp_id):
        origins.add(f"{url.scheme}://{url.netloc}")
    return RelyingParty(
        id=rp_id,
        name=settings.totp_issuer or settings.service_name,
        origins=frozenset(origins),
        allows_localhost=is_development and rp_id == _LOCALHOST,
    )


def require_origin(settings: Settings, origin: str | None) -> RelyingParty:
    """Returns the relying party for a page of `origin`; None stands for a client without pages.

    Raises PasskeysUnavailable also if the browser of that page would not use the passkeys.
    """
    relying_party = relying_party_of(settings)
    if origin is None or relying_party.accepts(origin):
        return relying_party
    if relying_party.allows_localhost:
        # The page has the port that the browser can open: the service may be behind another one.
        page = _LOOPBACK_PAGE.fullmatch(origin)
        own = f"http://{_LOCALHOST}:{page[1]}" if page else localhost_url(settings)
        raise PasskeysUnavailable(_open_localhost(own))
    raise PasskeysUnavailable("The operator must add the origin of this page to the passkeys")


def other_sites(settings: Settings) -> tuple[str, ...]:
    """Returns the origins of other domains that may use the passkeys (Related Origin Requests).

    Raises PasskeysUnavailable.
    """
    rp_id = relying_party_of(settings).id
    return tuple(
        origin
        for origin in settings.passkey_origins
        if origin.startswith("https://") and not is_within(urlsplit(origin).hostname or "", rp_id)
    )


def names_other_sites(settings: Settings) -> bool:
    """Whether origins of other domains may use the passkeys."""
    try:
        return bool(other_sites(settings))
    except PasskeysUnavailable:
        return False


def is_available(settings: Settings) -> bool:
    """Whether passkeys can be used in this installation."""
    try:
        relying_party_of(settings)
    except PasskeysUnavailable:
        return False
    return True


def can_add_passkeys(settings: Settings) -> bool:
    """Whether accounts of this installation can add passkeys."""
    return settings.mfa != "off" and is_available(settings)


def is_within(host: str, domain: str) -> bool:
    """Whether `host` is `domain`, or a subdomain of it."""
    return host == domain or host.endswith(f".{domain}")


def localhost_url(settings: Settings) -> str:
    """Returns the URL of the service in development at which browsers use passkeys."""
    return f"http://{_LOCALHOST}:{urlsplit(settings.base_url).port or settings.port}"


def _open_localhost(url: str) -> str:
    return f"Browsers refuse passkeys at an address: open {url}"


def _is_address(host: str) -> bool:
    # Browsers read a name whose last label is a number as an IPv4 address.
    return _address(host) is not None or not host or host.rpartition(".")[2].isdigit()


def _is_loopback(host: str) -> bool:
    address = _address(host)
    if address is None:
        return host == _LOCALHOST
    return address.is_loopback or address.is_unspecified


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
