"""Types of settings: durations, names, rates, networks, origins, URLs."""

import ipaddress
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from authapi.settings.values import normalization
from authapi.settings.values.durations import as_duration, as_seconds
from authapi.settings.values.urls import split_url

_ORIGIN = re.compile(
    r"(http(?!.*:80$)|https(?!.*:443$))://([a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(:[1-9][0-9]{0,4})?"
)
_SECURE_ORIGIN = re.compile(r"https://|http://localhost(:|$)")
_ANDROID_APP = re.compile(r"android:apk-key-hash:[A-Za-z0-9_-]{43}")
MIN_SECRET_LENGTH = 32
_MAPPED_BITS = 96
"""Length of the prefix of IPv4-mapped IPv6 addresses (RFC 4291, section 2.5.5.2)."""


def _split_names(value: object) -> object:
    if isinstance(value, str):
        return tuple(part for part in value.replace(",", " ").split() if part)
    return value


def _parse_scopes(value: object) -> object:
    if not isinstance(value, str):
        return value
    entries = (entry.partition("=") for entry in value.split(";") if entry.strip())
    return {name.strip(): meaning.strip() for name, _, meaning in entries}


def _check_scope_names(value: dict[str, str]) -> dict[str, str]:
    for name in value:
        # RFC 6749, section 3.3: the characters of a scope token.
        if not name or not all(c == "!" or "#" <= c <= "[" or "]" <= c <= "~" for c in name):
            raise ValueError("a scope name is printable ASCII without space, quote and backslash")
    return value


def _normalize_public_url(value: str) -> str:
    # It becomes the issuer of tokens and part of headers, which clients compare exactly.
    if not value.isascii() or not value.isprintable() or " " in value or len(value) > 255:
        raise ValueError("must be ASCII without spaces, 255 characters at most")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:  # its text would repeat the value
        raise ValueError("must be an absolute http or https URL") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError("must be an absolute http or https URL")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must have no query, fragment or user")
    # Serialized like an Origin (RFC 6454, section 6.2): lower case, and without the default port.
    netloc = parts.netloc.lower().rstrip(":")
    if port is not None:
        netloc = netloc.rpartition(":")[0]
        if port != {"http": 80, "https": 443}[parts.scheme]:
            netloc = f"{netloc}:{port}"
    return parts._replace(netloc=netloc).geturl().rstrip("/")


def _normalize_networks(value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(_unmap_ipv4(text) for text in value)
    except ValueError:
        raise ValueError("each must be a network such as 10.0.0.0/8") from None


def _unmap_ipv4(text: str) -> str:
    # IPv4-mapped client addresses are compared as IPv4, so mapped networks become IPv4 too.
    network = ipaddress.ip_network(text)
    if not isinstance(network, ipaddress.IPv6Network):
        return text
    first = network.network_address.ipv4_mapped
    if first is None or network.prefixlen < _MAPPED_BITS:
        return text
    return f"{first}/{network.prefixlen - _MAPPED_BITS}"


def _check_origins(value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        # Serialized as browsers send it (RFC 6454, section 6.2); any other form would never match.
        if not _is_origin(text):
            raise ValueError("each must be scheme://host or scheme://host:port, in lower case")
    return value


def _is_origin(text: str) -> bool:
    return _ORIGIN.fullmatch(text) is not None and split_url(text) is not None


def _check_range_api(value: str | None) -> str | None:
    if value is None:
        return None
    parts = split_url(value)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an http or https URL")
    return value


def _check_passkey_origins(value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        is_app = _ANDROID_APP.fullmatch(text) is not None
        if not is_app and not (_is_origin(text) and _SECURE_ORIGIN.match(text)):
            raise ValueError(
                "each must be https://host, https://host:port or android:apk-key-hash:..., in lower"
                " case; http only for localhost"
            )
    return value


def _check_secret_length(value: SecretStr | None) -> SecretStr | None:
    if value is not None and len(value.get_secret_value()) < MIN_SECRET_LENGTH:
        raise ValueError(f"must have at least {MIN_SECRET_LENGTH} characters")
    return value


_MAX_DURATION = timedelta(days=36525)
"""A century: a date that far in the future is still a valid datetime."""

Duration = Annotated[
    timedelta, BeforeValidator(as_duration), Field(gt=timedelta(0), le=_MAX_DURATION)
]
"""A duration: a number of seconds, words such as `90s` and `1h 30m`, or ISO 8601 (`P14D`)."""
ShortDuration = Annotated[
    timedelta, BeforeValidator(as_duration), Field(ge=timedelta(0), le=timedelta(hours=1))
]
"""A duration from zero to one hour."""
Seconds = Annotated[float, BeforeValidator(as_seconds)]
"""A number of seconds, in the notations of `Duration`."""
WholeSeconds = Annotated[int, BeforeValidator(as_seconds)]
"""Whole seconds, in the notations of `Duration`."""
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_names)]
"""Names separated by commas or spaces."""
Scopes = Annotated[
    dict[str, str],
    NoDecode,
    BeforeValidator(_parse_scopes),
    AfterValidator(_check_scope_names),
]
"""`name=meaning; name=meaning`."""
_RATE = r"[1-9][0-9]{0,8}/([1-9][0-9]{0,4} ?)?(second|minute|hour|day)s?"
Rate = Annotated[str, Field(pattern=f"^{_RATE}$")]
"""A count per period: `10/minute`, `100/2 hours`."""
Rates = Annotated[str, Field(pattern=f"^{_RATE}(;{_RATE})*$")]
"""Rates that apply together, separated by semicolons."""
Origins = Annotated[Names, AfterValidator(_check_origins)]
"""Origins (RFC 6454) separated by commas or spaces."""
PasskeyOrigins = Annotated[Names, AfterValidator(_check_passkey_origins)]
"""Origins and apps that may use passkeys, separated by commas or spaces."""
RangeAPI = Annotated[str | None, AfterValidator(_check_range_api)]
"""The URL of a range API of breached passwords."""
PublicURL = Annotated[str, AfterValidator(_normalize_public_url)]
Networks = Annotated[Names, AfterValidator(_normalize_networks)]
"""CIDR networks separated by commas or spaces. `::ffff:10.0.0.0/104` becomes `10.0.0.0/8`."""
Secret = Annotated[
    SecretStr | None,
    AfterValidator(normalization.clean_secret),
    AfterValidator(_check_secret_length),
]
SecretURL = Annotated[SecretStr | None, AfterValidator(normalization.clean_url)]
"""A URL that may hold a password."""
FilePath = Annotated[Path, AfterValidator(normalization.expand_home)]
"""A file or folder; `~` is the home folder."""
