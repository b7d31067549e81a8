"""The client of a request, and its IP address, network and device.

The address is the peer of the connection, or the client that a trusted proxy names. Each proxy
appends the address of its peer to `X-Forwarded-For`, but a client can send the header too. So the
list is read from the right. Addresses of trusted proxies are skipped, and the next entry is the
client. If that entry is malformed, the client has no address. The address of the proxy would be
wrong: all its clients would share one network.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import TypeAlias

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Peer: TypeAlias = Sequence[str | int]
"""Host and port of the other end of a connection."""


@dataclass(frozen=True, slots=True)
class Client:
    """The origin of a request: address, user agent and request id."""

    ip: str | None = None
    """In the format of `canonical_ip`; None if the address is missing or not valid."""
    user_agent: str | None = None
    """Printable characters, at most 255."""
    request_id: str | None = None
    """Correlates the response, the log lines and the events of one request."""
    parsed_network: str | None = field(default=None, repr=False, compare=False)
    """The network of `ip`, if the address was parsed: a login asks for it several times."""

    @property
    def network(self) -> str:
        """The network of the client, which is the key of rate limits."""
        return network_of(self.ip) if self.parsed_network is None else self.parsed_network


UNKNOWN_NETWORK = "unknown"
"""The result of `network_of` for a text that is not an IP address."""

_MAX_ADDRESS_LENGTH = 45
"""Characters of the longest IPv6 address, one that ends in dotted decimal notation."""


def network_of(ip: str | None) -> str:
    """The network of an address, for rate limits: the address for IPv4, the /64 for IPv6.

    Providers assign a /64 or more to each customer, so a limit for each IPv6 address would not
    limit an attacker. All clients without a valid address share one network, so they are limited
    as well.
    """
    return _network(parse_ip(ip) if ip else None)


def _network(address: IPAddress | None) -> str:
    if address is None:
        return UNKNOWN_NETWORK
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address.packed, 64), strict=False))
    return str(address)


def parse_ip(text: str) -> IPAddress | None:
    """Parses an IP address. Returns None if `text` is not one.

    An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) becomes the IPv4 address, because a
    dual-stack socket reports IPv4 peers in that form. The zone of an IPv6 address (RFC 4007) is
    removed: it has a meaning only on the machine that wrote it, and can contain any text.
    """
    bare, zone, _ = text.partition("%")
    if len(bare) > _MAX_ADDRESS_LENGTH:
        return None
    try:
        if ":" not in bare:
            return None if zone else ipaddress.IPv4Address(bare)
        address = ipaddress.IPv6Address(bare)
    except ValueError:
        return None
    return address if address.ipv4_mapped is None else address.ipv4_mapped


def canonical_ip(text: str) -> str | None:
    """The canonical text of an IP address, or None if `text` is not one.

    IPv4 in dotted decimal notation, IPv6 as in RFC 5952.
    """
    address = parse_ip(text)
    return None if address is None else str(address)


_MAX_AGENT = 255
_BRACKETED = re.compile(r"\[([^\[\]:]*+:[^\[\]]*+)\](?::([0-9]{1,5}))?")
_WITH_PORT = re.compile(r"([0-9.]+):([0-9]{1,5})")
_MAX_PORT = 65535


def read_client(
    headers: Iterable[tuple[bytes, bytes]],
    peer: Peer | None,
    *,
    trusted: Sequence[Network],
    request_id: str,
    on_malformed: Callable[[str], None],
) -> Client:
    """Returns the client of a request. Its user agent is printable and at most 255 characters long.

    `headers` and `peer` are `headers` and `client` of the ASGI scope. `trusted` are the networks of
    the proxies. The address is None if it is missing or malformed; `on_malformed` is called with
    the id of a request whose address is malformed.
    """
    agent = forwarded = None
    for name, value in headers:
        if name == b"user-agent":
            agent = value if agent is None else agent + b", " + value
        elif name == b"x-forwarded-for":
            forwarded = value if forwarded is None else forwarded + b"," + value
    address = None if peer is None else parse_forwarded_address(str(peer[0]))
    if trusted and forwarded is not None and is_trusted(address, trusted):
        address, _ = find_client(forwarded, trusted)
    if address is None and peer is not None:
        on_malformed(request_id)
    return Client(
        ip=None if address is None else str(address),
        user_agent=None if agent is None else _printable(agent[:_MAX_AGENT].decode("latin-1")),
        request_id=request_id,
        parsed_network=_network(address),
    )


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


def find_client(forwarded: bytes, trusted: Sequence[Network]) -> tuple[IPAddress | None, int]:
    """Returns the client that X-Forwarded-For names, and the number of proxies to its right.

    Empty entries of the list are ignored (RFC 9110, section 5.6.1).
    """
    client, proxies = None, 0
    for entry in reversed(forwarded.decode("latin-1").split(",")):
        if text := entry.strip(" \t"):
            client = parse_forwarded_address(text)
            if client is None or not is_trusted(client, trusted):
                break
            proxies += 1
    return client, proxies


def is_trusted(address: IPAddress | None, trusted: Sequence[Network]) -> bool:
    """Whether `address` is one of the proxies."""
    return address is not None and any(address in network for network in trusted)


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in text)


@dataclass(frozen=True, slots=True)
class Device:
    """What a user agent tells of a device, without version numbers: an update changes nothing.

    It is safe to show: the client chooses at most one name of letters, digits, `-` and `_`.
    """

    program: str | None
    """The browser, or the name that another program gives itself. None if there is none."""
    system: str | None
    """The operating system; None if the user agent names none that is known."""


_BROWSERS = {
    "Edg/": "Edge",
    "EdgA/": "Edge",
    "EdgiOS/": "Edge",
    "OPR/": "Opera",
    "SamsungBrowser/": "Samsung Internet",
    "Whale/": "Whale",
    "YaBrowser/": "Yandex Browser",
    "Vivaldi/": "Vivaldi",
    "Firefox/": "Firefox",
    "FxiOS/": "Firefox",
    "CriOS/": "Chrome",
    "Chrome/": "Chrome",
    "Safari/": "Safari",
}
"""Browsers by a part of their user agent. The first match counts, because most browsers also name
the browsers that they are compatible with: these come last."""
_SYSTEMS = {
    "iPhone": "iOS",
    "iPad": "iPadOS",
    "Android": "Android",
    "Windows": "Windows",
    "CrOS": "ChromeOS",
    "Macintosh": "macOS",
    "Linux": "Linux",
}
"""Operating systems, in the same way: Android also names Linux."""
_PRODUCT = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_][A-Za-z][A-Za-z0-9]*)*", re.ASCII)
"""The name of a product (RFC 9110, section 10.1.5). A part that begins with a digit is a version.
There is no dot in it, so that no mail reader makes a link of it."""
_MAX_PRODUCT_LENGTH = 32


def device_of(user_agent: str | None) -> Device:
    """Returns the device that a user agent names. Two versions of a browser are one device."""
    text = user_agent or ""
    system = _first_in(text, _SYSTEMS)
    if text.startswith("Mozilla/"):  # every browser claims to be this one
        return Device(_first_in(text, _BROWSERS), system)
    product = _PRODUCT.match(text)
    return Device(None if product is None else product[0][:_MAX_PRODUCT_LENGTH], system)


def _first_in(text: str, names: Mapping[str, str]) -> str | None:
    return next((name for part, name in names.items() if part in text), None)


_client: ContextVar[Callable[[], Client]] = ContextVar("authapi_client", default=Client)


def current_client() -> Client:
    """The client of the current request; an empty `Client` outside of a request.

    The value is in a context variable, because every audit event contains it, and nearly every
    function would need it as a parameter otherwise.
    """
    return _client.get()()


set_client = _client.set
"""Sets the result of `current_client` to that of a function; returns a token for `reset_client`."""
reset_client = _client.reset
"""Restores the result of `current_client` before `set_client`."""


class on_behalf_of:  # noqa: N801  # a context manager, used like a function
    """Context manager that sets the result of `current_client` for its block.

    `get_client` is called by `current_client` and not before, because most requests do not need
    the client.
    """

    __slots__ = ("_get_client", "_token")

    def __init__(self, get_client: Callable[[], Client]) -> None:
        self._get_client = get_client

    def __enter__(self) -> None:
        self._token: Token[Callable[[], Client]] = _client.set(self._get_client)

    def __exit__(self, *_: object) -> None:
        _client.reset(self._token)
