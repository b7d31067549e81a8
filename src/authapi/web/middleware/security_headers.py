"""The security headers of the responses of authapi."""

from authapi.web.answers.private_responses import NO_STORE, VARY

CSP = (
    "default-src 'none'; base-uri 'none'; object-src 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox"
)
"""A response of the API is not a document: no part of it may run, load or be framed."""

_VARY = (b"vary", VARY.encode())


def security_headers(*, https: bool) -> list[tuple[bytes, bytes]]:
    """Returns the headers of every response; with `https`, also Strict-Transport-Security."""
    headers = [
        # The default. Routes whose responses may be stored set `Cache-Control` themselves.
        NO_STORE,
        (b"content-security-policy", CSP.encode()),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"referrer-policy", b"no-referrer"),
        _VARY,
        (b"x-content-type-options", b"nosniff"),
    ]
    if https:
        headers.append(
            (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
        )
    return headers
