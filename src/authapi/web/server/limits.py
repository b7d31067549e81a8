"""What the protocol bounds while it reads, and how it answers a request that it does not read.

The edge middleware hands `ReadingLimits` to the protocol in the state of the ASGI lifespan, the one
channel from an application to its server that needs no configuration.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from authapi.crypto.ids import RequestIds
from authapi.errors import Refusal
from authapi.identity import Client
from authapi.settings import EdgeSettings
from authapi.web.errors import problem, status_of, understood_by

LIMITS_KEY: Final = "authapi.limits"
"""Where `ReadingLimits` lie in the lifespan state."""
PROTOCOL_KEY: Final = "authapi.protocol"
"""The ASGI extension by which the scope of a request says that `HTTPProtocol` has read it."""
MAX_FIELDS: Final = 1024
"""Header fields of one request."""


@dataclass(frozen=True, slots=True)
class Sender(Client):
    """Who sent a request that is refused unread, and for which target."""

    target: bytes = b""
    """As far as it was read."""


@dataclass(frozen=True, slots=True)
class ReadingLimits:
    """The bounds of one installation.

    `max_header_bytes` bounds the names and values of all fields, the request target, and the
    trailers and chunk framing of a body, each on its own. `timeout` is the time in seconds for a
    head to arrive. `answer` makes the response to a request that is refused unread.
    """

    max_header_bytes: int
    timeout: float
    answer: Callable[[Refusal, Sender], Response]


def default_limits() -> ReadingLimits:
    """The defaults of the settings, for an application whose lifespan has not said otherwise."""
    fields = EdgeSettings.model_fields
    return ReadingLimits(
        max_header_bytes=fields["max_header_bytes"].default,
        timeout=fields["body_timeout"].default,
        answer=_plain_answer,
    )


_new_id = RequestIds()


def _plain_answer(refusal: Refusal, _: Sender) -> Response:
    return problem(
        status_of(refusal),
        refusal.code,
        refusal.title,
        request_id=_new_id(),
        detail=refusal.detail,
        headers=[
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            *understood_by(refusal),
        ],
    )
