"""Who is at the other end: the peer of the connection, or whom a trusted proxy names.

`X-Forwarded-For` is a list that anybody can begin; each proxy appends the address it saw. So it is
read from the right, as long as the addresses are proxies that we trust, and the first other one is
the client. Whatever is not an address ends the walk.
"""

import ipaddress
from collections.abc import Sequence
from typing import TypeAlias

from starlette.types import Scope

from authapi.identity import Client

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAX_AGENT = 255


def client_of(scope: Scope, trusted: Sequence[Network], request_id: str) -> Client:
    """Where a request comes from, with its text cut and made printable."""
    peer = scope.get("client")
    ip = None if peer is None else _without_zone(str(peer[0]))
    agent = forwarded = None
    for name, value in scope["headers"]:
        if name == b"user-agent":
            agent = value[:_MAX_AGENT].decode("latin-1")
        elif name == b"x-forwarded-for":
            text = value.decode("latin-1")
            forwarded = text if forwarded is None else f"{forwarded},{text}"
    if trusted and forwarded is not None and _is_trusted(ip, trusted):
        ip = _walk(ip, forwarded, trusted)
    if agent is not None and not agent.isprintable():
        agent = "".join(char if char.isprintable() else "?" for char in agent)
    return Client(ip=ip, user_agent=agent, request_id=request_id)


def came_in_the_clear(scope: Scope, trusted: Sequence[Network]) -> bool:
    """Whether a trusted proxy says that the client spoke plain http."""
    peer = scope.get("client")
    if not trusted or not _is_trusted(None if peer is None else str(peer[0]), trusted):
        return False
    protocols = [value for name, value in scope["headers"] if name == b"x-forwarded-proto"]
    return bool(protocols) and protocols[-1].strip().lower() not in (b"https", b"wss")


def _walk(peer: str | None, forwarded: str, trusted: Sequence[Network]) -> str | None:
    nearest = peer
    for entry in reversed(forwarded.split(",")):
        try:
            nearest = str(ipaddress.ip_address(_without_zone(entry.strip())))
        except ValueError:
            return nearest
        if not _is_trusted(nearest, trusted):
            return nearest
    return nearest


def _without_zone(text: str) -> str:
    # What follows % names an interface of the machine that wrote it, and may be any text at all.
    return text.partition("%")[0]


def _is_trusted(ip: str | None, trusted: Sequence[Network]) -> bool:
    try:
        address = ipaddress.ip_address(ip or "")
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in trusted)
