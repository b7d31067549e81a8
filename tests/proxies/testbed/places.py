"""Addresses of a service: its own port, or the port of a proxy in front of it."""

from tests.proxies.testbed.backends import Backends
from tests.proxies.testbed.proxies import NAMES, Proxies
from tests.proxies.testbed.wire import Address

PLACES = ("direct", *NAMES)


def place(name: str, kind: str, backends: Backends, proxies: Proxies) -> Address:
    """Returns the address of the service `kind`, or of the shipped proxy `name` in front of it."""
    backend = backends[kind]
    return backend.address if name == "direct" else proxies.address(name, backend, "strict")
