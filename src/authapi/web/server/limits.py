"""The limits of the protocol, and the response to a request that it refuses.

`RequestMiddleware` passes `ReadingLimits` to the protocol in the state of the ASGI lifespan. No
other channel from an application to its server works without configuration.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Scope

from authapi.crypto.ids import RequestIds
from authapi.domain.client import Client
from authapi.errors import (
    HeadersTooLarge,
    HTTPVersionNotSupported,
    MalformedRequest,
    Refusal,
    TargetTooLong,
)
from authapi.settings import EdgeSettings
from authapi.web.problems import problem, status_of, websocket_version_header

LIMITS_KEY: Final = "authapi.limits"
"""The key of `ReadingLimits` in the lifespan state."""
PROTOCOL_KEY: Final = "authapi.protocol"
"""The ASGI extension in the scope of every request that `HTTPProtocol` has read."""
MAX_DISCARDED: Final = 65536
"""The bytes that are read and discarded after a response, by default."""
MAX_FIELDS: Final = 1024
"""The maximum number of header fields in a request."""


_DISCARDED_KEY: Final = "discarded"


def discard_body(scope: Scope, max_bytes: int) -> None:
    """Has `HTTPProtocol` read and discard up to `max_bytes` of a body after the response."""
    extension = (scope.get("extensions") or {}).get(PROTOCOL_KEY)
    if extension is not None:
        extension[_DISCARDED_KEY] = max_bytes


def max_discarded_bytes(scope: Mapping[str, Any]) -> int:
    """Returns the bytes of a body that are discarded after the response, before a close."""
    max_bytes: int = scope["extensions"][PROTOCOL_KEY].get(_DISCARDED_KEY, MAX_DISCARDED)
    return max_bytes


@dataclass(frozen=True, slots=True)
class RefusedClient(Client):
    """The client and target of a request that the protocol refuses."""

    target: bytes = b""
    """The request target, or the part of it that was read."""


@dataclass(frozen=True, slots=True)
class ReadingLimits:
    """The limits of one installation.

    `max_header_bytes` limits the names and values of all fields, the request target, and the
    trailer section with the chunk framing of a body, each separately. `timeout` is the time in
    seconds to receive the header section. `answer` returns the response to a refused request.
    """

    max_header_bytes: int
    timeout: float
    answer: Callable[[Refusal, RefusedClient], Response]


def default_limits() -> ReadingLimits:
    """Returns the defaults of the settings, for an application whose lifespan does not run."""
    fields = EdgeSettings.model_fields
    return ReadingLimits(
        max_header_bytes=fields["max_header_bytes"].default,
        timeout=fields["body_timeout"].default,
        answer=_plain_answer,
    )


def refusal_of_head(
    version: str,
    method: bytes,
    target: bytes,
    fields: Sequence[tuple[bytes, bytes]],
    max_bytes: int,
) -> Refusal | None:
    """Returns the refusal of a request line and a header section; None if they are accepted.

    `max_bytes` limits the target.
    """
    if version not in ("1.0", "1.1"):
        return HTTPVersionNotSupported()
    if method == b"CONNECT":
        return MalformedRequest("CONNECT is not supported")
    if len(target) > max_bytes:
        return TargetTooLong()
    if len(fields) > MAX_FIELDS:
        return HeadersTooLarge()
    if version == "1.0" and any(name == b"transfer-encoding" for name, _ in fields):
        return MalformedRequest("Transfer-Encoding needs HTTP/1.1")  # RFC 9112, section 6.1
    return None


_new_id = RequestIds()


def _plain_answer(refusal: Refusal, _: RefusedClient) -> Response:
    return problem(
        status_of(refusal),
        refusal.code,
        refusal.title,
        request_id=_new_id(),
        detail=refusal.detail,
        headers=[
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            *websocket_version_header(refusal),
        ],
    )
