"""What a page shows once: the key of an authenticator app, and recovery codes."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from authapi.services.factors.totp import NewEnrolment
from authapi.settings import Settings
from authapi.web.answers.qr_codes import qr_svg

if TYPE_CHECKING:
    from markupsafe import Markup

_GROUPS = re.compile("(.{4})(?=.)")
_SIZE = re.compile('width="([0-9]+)" height="([0-9]+)"')
_SPACE = re.compile("[^a-z0-9]+")


async def app_values(enrolment: NewEnrolment) -> Mapping[str, Any]:
    """Returns the values of the template with a new key: its QR code, and its text in groups."""
    return {"qr": await _qr(enrolment.uri), "key": _GROUPS.sub(r"\1 ", enrolment.secret)}


def codes_values(codes: Sequence[str], settings: Settings) -> Mapping[str, Any]:
    """Returns the values of the template with recovery codes, and of the file to download."""
    name = _SPACE.sub("-", settings.service_name.lower()).strip("-")
    text = "\r\n".join((settings.service_name, *codes, ""))
    return {
        "codes": codes,
        # A link with the content needs neither a script nor another request for the codes.
        "download": f"data:text/plain;charset=utf-8,{quote(text)}",
        "file_name": f"{name or 'account'}-recovery-codes.txt",
    }


async def _qr(uri: str) -> "Markup | None":
    from markupsafe import Markup  # noqa: PLC0415  # as jinja2

    svg = await qr_svg(uri)
    if svg is None:
        return None
    # The stylesheet decides the size: without a view box, another one would cut the code off.
    scalable = _SIZE.sub(r'viewBox="0 0 \1 \2"', svg, count=1)
    # The code is made here; nothing in it is text of another person.
    return Markup(scalable)  # noqa: S704
