"""The address of the client: the peer of the connection, or the client that a trusted proxy names.

Each proxy appends the address of its peer to `X-Forwarded-For`, but a client can send the header
too. So the list is read from the right. Addresses of trusted proxies are skipped, and the next
entry is the client. If that entry is malformed, the client has no address. The address of the proxy
would be wrong: all its clients would share one network.
"""

import ipaddress
import logging
import re
import time
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from starlette.types import Scope

from authapi.domain.client import Client, IPAddress, Peer, parse_ip
from authapi.settings import EdgeSettings

_log = logging.getLogger("authapi")

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAX_AGENT = 255
_SECURE = frozenset({b"https", b"wss"})
_BRACKETED = re.compile(r"\[([^\[\]:]*+:[^\[\]]*+)\](?::([0-9]{1,5}))?")
_WITH_PORT = re.compile(r"([0-9.]+):([0-9]{1,5})")
_MAX_PORT = 65535


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


_malformed_address = _MalformedAddressWarning()


def read_client(
    headers: Iterable[tuple[bytes, bytes]],
    peer: Peer | None,
    *,
    trusted: Sequence[Network],
    request_id: str,
) -> Client:
    """Returns the client of a request. Its user agent is printable and at most 255 characters long.

    `headers` and `peer` are `headers` and `client` of the ASGI scope. `trusted` are the networks of
    the proxies. The address is None if it is missing or malformed.
    """
    agent = forwarded = None
    for name, value in headers:
        if name == b"user-agent":
            agent = value if agent is None else agent + b", " + value
        elif name == b"x-forwarded-for":
            forwarded = value if forwarded is None else forwarded + b"," + value
    address = None if peer is None else parse_forwarded_address(str(peer[0]))
    if trusted and forwarded is not None and _is_trusted(address, trusted):
        address, _ = _find_client(forwarded, trusted)
    if address is None and peer is not None:
        _malformed_address.log(request_id)
    return Client(
        ip=None if address is None else str(address),
        user_agent=None if agent is None else _printable(agent[:_MAX_AGENT].decode("latin-1")),
        request_id=request_id,
    )


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
    if peer is None or not _is_trusted(parse_forwarded_address(str(peer[0])), trusted):
        return False
    schemes = [entry.strip(b" \t").lower() for entry in b",".join(values).split(b",")]
    schemes = [entry for entry in schemes if entry]
    if len(schemes) < 2:
        return not _SECURE.issuperset(schemes or [b""])
    forwarded = b",".join(v for name, v in scope["headers"] if name == b"x-forwarded-for")
    proxies = 1 + _find_client(forwarded, trusted)[1]
    return schemes[-min(proxies, len(schemes))] not in _SECURE


def parse_forwarded_address(text: str) -> IPAddress | None:
    """Returns the address in an entry of `X-Forwarded-For` or of a peer, or None if malformed.

    Proxies write it bare, in brackets or in quotes, some with a port, as in RFC 7239, section 6.
    """
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    found = _BRACKETED.fullmatch(text) or _WITH_PORT.fullmatch(text)
    if found is None:
        return parse_ip(text)
    bare, port = found.groups()
    return parse_ip(bare) if port is None or int(port) <= _MAX_PORT else None


def _find_client(forwarded: bytes, trusted: Sequence[Network]) -> tuple[IPAddress | None, int]:
    """Returns the client that X-Forwarded-For names, and the number of proxies to its right.

    Empty entries of the list are ignored (RFC 9110, section 5.6.1).
    """
    client, proxies = None, 0
    for entry in reversed(forwarded.decode("latin-1").split(",")):
        if text := entry.strip(" \t"):
            client = parse_forwarded_address(text)
            if client is None or not _is_trusted(client, trusted):
                break
            proxies += 1
    return client, proxies


def _is_trusted(address: IPAddress | None, trusted: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in trusted)


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in text)
