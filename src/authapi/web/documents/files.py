"""Files that browsers keep: compressed once, and at an address that names their content.

The version in the address (`?v=...`) is a hash of the content, so a browser keeps the file for
good. Without it, or with that of another content, it must ask before each use.

Starlette's StaticFiles does not compress, and WhiteNoise serves a folder: the style sheet of the
brand and the OpenAPI document are no files.
"""

import gzip
import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from starlette.requests import Request
from starlette.responses import Response

from authapi.strategies.base import read_header
from authapi.web.answers.conditional import Representation, conditional_response

IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"
VERSION = "v"
"""The parameter of an address that has the version."""

_HASH_LENGTH = 12
_IDENTITY = "identity"
_CODINGS = ("br", "gzip")
"""The content codings, the smallest result first."""
_ALIASES = {"x-gzip": "gzip"}
_SMALLEST = 512
"""Bytes. A smaller file fits into the first packet as it is."""
_COMPRESSIBLE = ("text/", "image/svg+xml", "application/json")
_ELEMENT = re.compile(
    r"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*"
    r"(?:;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?"
)
"""A coding and its weight, which is 1 by default."""


@dataclass(frozen=True)
class Asset:
    """A file with its media type, and its compressed forms."""

    body: bytes
    media_type: str
    brotli: bytes | None = None
    """The content compressed with Brotli, if the package has it: Python has no Brotli."""

    @classmethod
    def of(cls, body: bytes, media_type: str) -> "Asset":
        """Returns the file with this content."""
        return cls(body, media_type)

    @cached_property
    def version(self) -> str:
        """A hash of the content."""
        return hashlib.sha256(self.body).hexdigest()[:_HASH_LENGTH]

    @cached_property
    def representations(self) -> Mapping[str, Representation]:
        """The file by its content codings. Each has an entity tag of its own."""
        forms = {_IDENTITY: self.body}
        if self.brotli is not None:
            forms["br"] = self.brotli
        if self.media_type.startswith(_COMPRESSIBLE) and len(self.body) >= _SMALLEST:
            forms["gzip"] = gzip.compress(self.body, 9, mtime=0)
        return {
            coding: Representation.of(body, media_type=self.media_type)
            for coding, body in forms.items()
            if coding == _IDENTITY or len(body) < len(self.body)
        }


def file_response(request: Request, file: Asset) -> Response:
    """Returns the file in the coding that the client prefers, or 304 if it has that one."""
    forms = file.representations
    coding = preferred_coding(read_header(request, b"accept-encoding"), forms)
    is_current = request.query_params.get(VERSION) == file.version
    response = conditional_response(
        request, forms[coding], cache_control=IMMUTABLE if is_current else REVALIDATE
    )
    if len(forms) > 1:
        response.headers["vary"] = "Accept-Encoding"
    if coding != _IDENTITY and response.status_code != 304:
        response.headers["content-encoding"] = coding
    return response


def preferred_coding(header: str | None, offered: Collection[str]) -> str:
    """Returns the coding of `offered` that Accept-Encoding prefers (RFC 9110, section 12.5.3).

    Of equal ones, it is the smallest. It is `identity` without the header, and if no offered coding
    is acceptable.
    """
    weights = _weights(header or "")
    others = weights.get("*", 0.0)
    best, highest = _IDENTITY, weights.get(_IDENTITY, 0.0)
    for coding in reversed(_CODINGS):
        weight = weights.get(coding, others)
        if coding in offered and weight > 0 and weight >= highest:
            best, highest = coding, weight
    return best


def _weights(header: str) -> Mapping[str, float]:
    """Returns the weight of each coding. Elements that are not valid are ignored."""
    weights: dict[str, float] = {}
    for element in header.split(","):
        if found := _ELEMENT.fullmatch(element):
            name = found[1].lower()
            weights[_ALIASES.get(name, name)] = float(found[2] or 1)
    return weights
