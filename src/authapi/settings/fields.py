"""How settings are written: lengths of time, names, rates, networks, origins, URLs."""

import ipaddress
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from authapi.settings import texts
from authapi.settings.durations import as_duration, as_seconds

_ORIGIN = re.compile(
    r"(http(?!.*:80$)|https(?!.*:443$))://([a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(:[1-9][0-9]{0,4})?"
)
MIN_SECRET_LENGTH = 32
_MAPPED_BITS = 96
"""The length of the prefix that IPv4-mapped IPv6 addresses share (RFC 4291, section 2.5.5.2)."""


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part for part in value.replace(",", " ").split() if part)
    return value


def _scope_catalogue(value: object) -> object:
    if not isinstance(value, str):
        return value
    entries = (entry.partition("=") for entry in value.split(";") if entry.strip())
    return {name.strip(): meaning.strip() for name, _, meaning in entries}


def _scope_names(value: dict[str, str]) -> dict[str, str]:
    for name in value:
        # RFC 6749, section 3.3: what may stand in a scope token.
        if not name or not all(c == "!" or "#" <= c <= "[" or "]" <= c <= "~" for c in name):
            raise ValueError("a scope name may hold printable ASCII except space, quote, backslash")
    return value


def _public_url(value: str) -> str:
    # It becomes the issuer of tokens and part of headers, compared there letter by letter.
    if not value.isascii() or not value.isprintable() or " " in value or len(value) > 255:
        raise ValueError("must be ASCII without spaces, 255 characters at most")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:  # whose text repeats the value
        raise ValueError("must be an absolute http or https URL") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError("must be an absolute http or https URL")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must have no query, fragment or user")
    # In the spelling of an Origin (RFC 6454, section 6.2), where a port is named unless it is the
    # scheme's own.
    netloc = parts.netloc.lower().rstrip(":")
    if port is not None:
        netloc = netloc.rpartition(":")[0]
        if port != {"http": 80, "https": 443}[parts.scheme]:
            netloc = f"{netloc}:{port}"
    return parts._replace(netloc=netloc).geturl().rstrip("/")


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(_unmapped(text) for text in value)
    except ValueError:
        raise ValueError("each must be a network such as 10.0.0.0/8") from None


def _unmapped(text: str) -> str:
    # Addresses are compared as IPv4 where they are IPv4-mapped IPv6, so such networks are as well.
    network = ipaddress.ip_network(text)
    if not isinstance(network, ipaddress.IPv6Network):
        return text
    first = network.network_address.ipv4_mapped
    if first is None or network.prefixlen < _MAPPED_BITS:
        return text
    return f"{first}/{network.prefixlen - _MAPPED_BITS}"


def _origins(value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        # In the spelling that browsers send (RFC 6454, section 6.2): another would never match.
        if not _ORIGIN.fullmatch(text):
            raise ValueError("each must be scheme://host or scheme://host:port, in lower case")
    return value


def _long_secret(value: SecretStr | None) -> SecretStr | None:
    if value is not None and len(value.get_secret_value()) < MIN_SECRET_LENGTH:
        raise ValueError(f"must have at least {MIN_SECRET_LENGTH} characters")
    return value


_LONGEST = timedelta(days=36525)
"""A century: a time that far from now can still be written down."""

Lifetime = Annotated[timedelta, BeforeValidator(as_duration), Field(gt=timedelta(0), le=_LONGEST)]
"""A length of time: a number of seconds, words such as `90s` and `1h 30m`, or ISO 8601 (`P14D`)."""
Grace = Annotated[
    timedelta, BeforeValidator(as_duration), Field(ge=timedelta(0), le=timedelta(hours=1))
]
"""The same, and zero, for what is to be short."""
Seconds = Annotated[float, BeforeValidator(as_seconds)]
"""A number of seconds, written in the same ways."""
WholeSeconds = Annotated[int, BeforeValidator(as_seconds)]
"""The same, without a fraction."""
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Names separated by commas or spaces."""
Scopes = Annotated[
    dict[str, str],
    NoDecode,
    BeforeValidator(_scope_catalogue),
    AfterValidator(_scope_names),
]
"""`name=meaning; name=meaning`."""
_RATE = r"[1-9][0-9]{0,8}/([1-9][0-9]{0,4} ?)?(second|minute|hour|day)s?"
Rate = Annotated[str, Field(pattern=f"^{_RATE}$")]
"""How many in how long: `10/minute`, `100/2 hours`."""
Rates = Annotated[str, Field(pattern=f"^{_RATE}(;{_RATE})*$")]
"""Several rates at once, separated by semicolons."""
Origins = Annotated[Names, AfterValidator(_origins)]
"""Origins (RFC 6454) separated by commas or spaces."""
PublicURL = Annotated[str, AfterValidator(_public_url)]
Networks = Annotated[Names, AfterValidator(_networks)]
"""CIDR networks separated by commas or spaces. `::ffff:10.0.0.0/104` becomes `10.0.0.0/8`."""
Secret = Annotated[
    SecretStr | None, AfterValidator(texts.secret_text), AfterValidator(_long_secret)
]
SecretURL = Annotated[SecretStr | None, AfterValidator(texts.url_text)]
"""A URL that may hold a password."""
FilePath = Annotated[Path, AfterValidator(texts.expanded)]
"""A file or folder; `~` is the home folder."""
