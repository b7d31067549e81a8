"""Refusals of a request that is not read as HTTP, or not as what the route takes."""

from authapi.errors.refusals import Refusal


class MalformedRequest(Refusal):
    """The request is ambiguous or cannot be parsed."""

    code = "malformed_request"
    title = "The request is malformed"

    def __init__(self, detail: str | None = None, *, websocket_version: str | None = None) -> None:
        super().__init__(detail)
        self.websocket_version = websocket_version
        """The supported WebSocket version, if the request has another (RFC 6455, section 4.4)."""


class MalformedJSON(MalformedRequest):
    """The body is not valid, unambiguous JSON (RFC 8259, RFC 7493)."""

    code = "malformed_json"
    title = "The body is not valid JSON"


class DuplicateHeader(MalformedRequest):
    """The request repeats a header that may occur only once."""

    code = "duplicate_header"
    title = "A header was sent more than once"


class PreflightRefused(Refusal):
    """A CORS preflight request has an origin, method or header that is not allowed (Fetch)."""

    code = "preflight_refused"
    title = "The origin, method or headers are not allowed"


class UnsupportedMediaType(Refusal):
    """The route does not support the media type, charset or content coding of the body."""

    code = "unsupported_media_type"
    title = "The content type is not supported"

    def __init__(self, detail: str | None = None, *, accept_encoding: str | None = None) -> None:
        super().__init__(detail)
        self.accept_encoding = accept_encoding
        """Value of the header `Accept-Encoding`; set only if the content coding was the reason."""


class BodyTooLarge(Refusal):
    """The body is longer than `max_body_bytes`."""

    code = "body_too_large"
    title = "The body is too large"


class RequestTimeout(Refusal):
    """The header or the body of the request did not arrive in time."""

    code = "request_timeout"
    title = "The request took too long to arrive"


class HeadersTooLarge(Refusal):
    """The request headers are longer than `max_header_bytes` or `max_credential_bytes`."""

    code = "headers_too_large"
    title = "The request headers are too large"


class TargetTooLong(Refusal):
    """The request target is longer than `max_header_bytes` (RFC 9110, section 15.5.15)."""

    code = "target_too_long"
    title = "The request target is too long"


class HTTPVersionNotSupported(Refusal):
    """The HTTP version is neither 1.0 nor 1.1 (RFC 9110, section 15.6.6)."""

    code = "http_version_not_supported"
    title = "The HTTP version is not supported"
