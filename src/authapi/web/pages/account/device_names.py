"""The names of devices and clients on pages, in the language of the reader.

The names of `device_of` come first, because mails about new devices have them, and because no
release of other data changes them. ua-parser names the browsers and systems that these lack.
"""

import re

from authapi.domain.client import Client, Device, device_of
from authapi.web.pages.site import Site

BOTH = "%(program)s on %(system)s"
"""The name of a device whose browser and operating system are known."""
UNKNOWN = "Unknown device"
"""The name of a device whose user agent names neither. The user agent itself is never a name: the
client chooses it."""
_BROWSER = "Mozilla/"
"""How the user agent of every browser begins. Of other programs, `device_of` has the own name."""
_FAMILY = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[ +_-][A-Za-z0-9]+)*", re.ASCII)
"""The names that ua-parser may add. Some of its rules return a part of the user agent as it is; a
name without dots and slashes is no address."""
_MAX_FAMILY_LENGTH = 32


def device_name(site: Site, language: str, user_agent: str | None) -> str:
    """Returns the name of the device that a user agent tells of, such as `Chrome on Windows`."""
    device = _device(user_agent)
    if device.program is not None and device.system is not None:
        return site.text(BOTH, language, program=device.program, system=device.system)
    return device.program or device.system or site.text(UNKNOWN, language)


def _device(user_agent: str | None) -> Device:
    device = device_of(user_agent)
    if user_agent is None or not user_agent.startswith(_BROWSER):
        return device
    if device.program is not None and device.system is not None:
        return device
    import ua_parser  # noqa: PLC0415  # most processes never render such a page

    found = ua_parser.parse(user_agent)
    program = None if found.user_agent is None else _safe(found.user_agent.family)
    system = None if found.os is None else _safe(found.os.family)
    return Device(device.program or program, device.system or system)


def _safe(family: str) -> str | None:
    is_safe = len(family) <= _MAX_FAMILY_LENGTH and _FAMILY.fullmatch(family)
    return family if is_safe else None


def client_name(site: Site, language: str, client: Client) -> str:
    """Returns the device and the address of a client; an empty text if neither is known."""
    if client.user_agent is None:
        return client.ip or ""
    name = device_name(site, language, client.user_agent)
    return name if client.ip is None else f"{name}, {client.ip}"


def sentences() -> frozenset[str]:
    """Returns all ids of this module, for the catalogues."""
    return frozenset({BOTH, UNKNOWN})
