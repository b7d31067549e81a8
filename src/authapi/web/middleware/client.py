"""The client behind proxies: which proxies are trusted, and whether the client used plain HTTP.

`domain/client.py` reads its address.
"""

import ipaddress
import logging
import time
from collections.abc import Sequence

from starlette.types import Scope

from authapi.domain.client import Network, find_client, is_trusted, parse_forwarded_address
from authapi.settings import EdgeSettings

_log = logging.getLogger("authapi")

_SECURE = frozenset({b"https", b"wss"})


class _MalformedAddressWarning:
    """Logs a warning about malformed addresses, at most once a minute in each process."""

    _INTERVAL = 60.0

    def __init__(self) -> None:
        self._next = float("-inf")

    def log(self, request_id: str) -> None:
        at = time.monotonic()
        if at >= self._next:
            self._next = at + self._INTERVAL
            # The address is not logged: it is a text from outside.
            _log.warning(
                "malformed client address: check the X-Forwarded-For header that the reverse "
                "proxy sends; all clients without an address share one rate limit",
                extra={"request_id": request_id},
            )


log_malformed_address = _MalformedAddressWarning().log
"""Logs that the request with this id has a malformed address, at most once a minute."""


def trusted_networks(settings: EdgeSettings) -> tuple[Network, ...]:
    """Returns the networks of the proxies that the settings trust."""
    return tuple(ipaddress.ip_network(text) for text in settings.trusted_proxies)


def arrived_over_http(scope: Scope, trusted: Sequence[Network]) -> bool:
    """Whether a trusted proxy reports that the client used plain HTTP.

    Each proxy appends the scheme of its connection to `X-Forwarded-Proto`. So with n trusted
    proxies, the n-th entry from the right is about the client, or the left-most one if there are
    fewer. The client may have written the entries before it.
    """
    values = [value for name, value in scope["headers"] if name == b"x-forwarded-proto"]
    if not trusted or not values or values == [b"https"]:
        return False
    peer = scope.get("client")
    if peer is None or not is_trusted(parse_forwarded_address(str(peer[0])), trusted):
        return False
    schemes = [entry.strip(b" \t").lower() for entry in b",".join(values).split(b",")]
    schemes = [entry for entry in schemes if entry]
    if len(schemes) < 2:
        return not _SECURE.issuperset(schemes or [b""])
    forwarded = b",".join(v for name, v in scope["headers"] if name == b"x-forwarded-for")
    proxies = 1 + find_client(forwarded, trusted)[1]
    return schemes[-min(proxies, len(schemes))] not in _SECURE
