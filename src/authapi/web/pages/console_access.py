"""From which addresses the console can be opened, and who sees a link to it.

With `console_networks`, the address of the client decides. A proxy that `trusted_proxies` does not
name makes all clients seem to have its own address. So a forwarded request of such a proxy is
refused, and also one of a trusted proxy that does not say for whom it was sent.
"""

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Final

from starlette.requests import HTTPConnection

from authapi.domain.client import IPAddress, current_client, parse_ip
from authapi.web.context import context_of

_FORWARDED_FOR: Final = b"x-forwarded-for"
_OF_PROXIES = frozenset(
    {
        *(b"forwarded", b"via", b"x-forwarded", b"x-forwarded-by", b"x-forwarded-host"),
        *(b"x-forwarded-port", b"x-forwarded-proto", b"x-forwarded-scheme"),
        *(b"x-forwarded-server", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip"),
        *(b"x-original-forwarded-for", b"x-originating-ip", b"x-remote-addr", b"x-remote-ip"),
        *(b"x-proxyuser-ip", b"x-envoy-external-address", b"x-azure-clientip"),
        *(b"cf-connecting-ip", b"true-client-ip", b"fastly-client-ip", b"fly-client-ip"),
        _FORWARDED_FOR,
    }
)
"""The header fields by which proxies show that they have forwarded a request."""


def is_admitted(connection: HTTPConnection) -> bool:
    """Whether the client of a request may open the console, by its address."""
    runtime = context_of(connection).runtime
    networks = runtime.services.settings.console_networks
    if not networks:
        return True
    names = {name for name, _ in connection.scope["headers"]}
    peer = connection.scope.get("client")
    address = None if peer is None else parse_ip(str(peer[0]))
    is_proxy = _is_in(address, runtime.settings.trusted_proxies)
    if is_proxy and _FORWARDED_FOR not in names:
        return False
    if not is_proxy and not names.isdisjoint(_OF_PROXIES):
        return False
    return _is_in(parse_ip(current_client().ip or ""), networks)


def opens_console(connection: HTTPConnection) -> bool:
    """Whether the person whom a gate has found sees a link to the console."""
    context = context_of(connection)
    identity = context.identity
    if identity is None or "console" not in context.runtime.units:
        return False
    return identity.user.is_superuser and is_admitted(connection)


def _is_in(address: IPAddress | None, networks: Iterable[str]) -> bool:
    return address is not None and any(address in ip_network(text) for text in networks)
