"""The names of devices and clients on pages, in the language of the reader."""

from authapi.domain.client import Client, device_of
from authapi.web.pages.site import Site

BOTH = "%(program)s on %(system)s"
"""The name of a device whose browser and operating system are known."""
UNKNOWN = "Unknown device"
"""The name of a device whose user agent names neither. The user agent itself is never a name: the
client chooses it."""


def device_name(site: Site, language: str, user_agent: str | None) -> str:
    """Returns the name of the device that a user agent tells of, such as `Chrome on Windows`."""
    device = device_of(user_agent)
    if device.program is not None and device.system is not None:
        return site.text(BOTH, language, program=device.program, system=device.system)
    return device.program or device.system or site.text(UNKNOWN, language)


def client_name(site: Site, language: str, client: Client) -> str:
    """Returns the device and the address of a client; an empty text if neither is known."""
    if client.user_agent is None:
        return client.ip or ""
    name = device_name(site, language, client.user_agent)
    return name if client.ip is None else f"{name}, {client.ip}"


def sentences() -> frozenset[str]:
    """Returns all ids of this module, for the catalogues."""
    return frozenset({BOTH, UNKNOWN})
