"""Who is at the other end: the peer of the connection, or the client that a trusted proxy names.

`X-Forwarded-For` is a list that the client may begin itself; each proxy appends the address it saw.
So it is read from the right as long as the addresses are trusted proxies, and the first other one
is the client. An entry that cannot be read ends the walk, and the client has no address then: the
address of the proxy would make one network of all its clients.
"""

import ipaddress
import logging
import re
import time
from collections.abc import Sequence
from typing import TypeAlias

from starlette.types import Scope

from authapi.identity import Client, IPAddress, read_address

_log = logging.getLogger("authapi")

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAX_AGENT = 255
_SECURE = frozenset({b"https", b"wss"})
_BRACKETED = re.compile(r"\[([^\[\]:]*+:[^\[\]]*+)\](?::([0-9]{1,5}))?")
_WITH_PORT = re.compile(r"([0-9.]+):([0-9]{1,5})")
_MAX_PORT = 65535


class _Unreadable:
    """Writes the warning about unreadable addresses, at most once a minute in one process."""

    _PAUSE = 60.0

    def __init__(self) -> None:
        self._next = float("-inf")

    def warn(self, request_id: str) -> None:
        at = time.monotonic()
        if at >= self._next:
            self._next = at + self._PAUSE
            # Without the text: it comes from outside and may hold anything.
            _log.warning(
                "the address of a client cannot be read: check what the proxy in front writes into "
                "X-Forwarded-For; clients without an address share one limit",
                extra={"request_id": request_id},
            )


_unreadable = _Unreadable()


def client_of(scope: Scope, trusted: Sequence[Network], request_id: str) -> Client:
    """Where a request comes from. The user agent is cut and made printable.

    The address is None where there is none, and where it cannot be read.
    """
    agent = forwarded = None
    for name, value in scope["headers"]:
        if name == b"user-agent":
            agent = value if agent is None else agent + b", " + value
        elif name == b"x-forwarded-for":
            forwarded = value if forwarded is None else forwarded + b"," + value
    peer = scope.get("client")
    address = None if peer is None else read_hop(str(peer[0]))
    if trusted and forwarded is not None and _is_trusted(address, trusted):
        address, _ = _walk(forwarded, trusted)
    if address is None and peer is not None:
        _unreadable.warn(request_id)
    return Client(
        ip=None if address is None else str(address),
        user_agent=None if agent is None else _printable(agent[:_MAX_AGENT].decode("latin-1")),
        request_id=request_id,
    )


def came_in_the_clear(scope: Scope, trusted: Sequence[Network]) -> bool:
    """Whether a trusted proxy says that the client spoke plain http.

    Each proxy appends to `X-Forwarded-Proto` what it was spoken to in, so the entry about the
    client is as far from the right as there are trusted proxies, or the left-most one if there are
    fewer. What stands before it was written by the client.
    """
    values = [value for name, value in scope["headers"] if name == b"x-forwarded-proto"]
    if not trusted or not values or values == [b"https"]:
        return False
    peer = scope.get("client")
    if peer is None or not _is_trusted(read_hop(str(peer[0])), trusted):
        return False
    told = [entry.strip(b" \t").lower() for entry in b",".join(values).split(b",")]
    told = [entry for entry in told if entry]
    if len(told) < 2:
        return not _SECURE.issuperset(told or [b""])
    forwarded = b",".join(v for name, v in scope["headers"] if name == b"x-forwarded-for")
    proxies = 1 + _walk(forwarded, trusted)[1]
    return told[-min(proxies, len(told))] not in _SECURE


def read_hop(text: str) -> IPAddress | None:
    """The address in one entry of `X-Forwarded-For`, or of a peer, or None.

    Proxies write it bare, in brackets or in quotes, and some with the port (RFC 7239, section 6,
    has the same forms). Never raises.
    """
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    found = _BRACKETED.fullmatch(text) or _WITH_PORT.fullmatch(text)
    if found is None:
        return read_address(text)
    bare, port = found.groups()
    return read_address(bare) if port is None or int(port) <= _MAX_PORT else None


def _walk(forwarded: bytes, trusted: Sequence[Network]) -> tuple[IPAddress | None, int]:
    """The client that X-Forwarded-For names, and how many entries from the right are proxies.

    Empty entries of the list are ignored (RFC 9110, section 5.6.1).
    """
    client, proxies = None, 0
    for entry in reversed(forwarded.decode("latin-1").split(",")):
        if text := entry.strip(" \t"):
            client = read_hop(text)
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
