"""The security headers of the responses of authapi."""

from collections.abc import Sequence

from authapi.web.middleware.cookie_removal import Fields, add_cookie_removal

CSP = (
    "default-src 'none'; base-uri 'none'; object-src 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox"
)
"""A response of the API is not a document: no part of it may run, load or be framed."""

VARY = "Authorization, Cookie, Origin"

_NO_STORE = (b"cache-control", b"no-store")
_VARY = (b"vary", VARY.encode())


def security_headers(*, https: bool) -> list[tuple[bytes, bytes]]:
    """Returns the headers of every response; with `https`, also Strict-Transport-Security."""
    headers = [
        # The default. Routes whose responses may be stored set `Cache-Control` themselves.
        _NO_STORE,
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


def with_headers_of_gate(
    headers: Fields, *, is_private: bool, discards: Sequence[tuple[str, str]] = ()
) -> list[tuple[bytes, bytes]]:
    """Returns the headers of a response of the application that depends on a credential.

    No cache may store a private one, unless its route says so. `discards` make the client delete a
    credential that has ended.
    """
    result = [*headers, _VARY]
    if is_private and all(name.lower() != b"cache-control" for name, _ in result):
        result.append(_NO_STORE)
    return add_cookie_removal(result, discards) if discards else result
