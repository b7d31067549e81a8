"""Where a test meets a service: at its own port, or at that of a proxy before it."""

from tests.proxies.bed.backends import Backends
from tests.proxies.bed.fronts import NAMES, Fronts
from tests.proxies.bed.wire import Address

PLACES = ("direct", *NAMES)


def place(name: str, kind: str, backends: Backends, fronts: Fronts) -> Address:
    """The address of the service `kind`, or of the proxy `name` before it, as that ships."""
    backend = backends[kind]
    return backend.address if name == "direct" else fronts.address(name, backend, "strict")
