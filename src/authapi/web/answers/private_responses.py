"""The headers of responses that depend on a credential, or end one."""

from collections.abc import Iterable, Sequence

Fields = Sequence[tuple[bytes, bytes]]

VARY = "Authorization, Cookie, Origin"
"""The headers of a request that decide about its response."""
NO_STORE = (b"cache-control", b"no-store")
_VARY = (b"vary", VARY.encode())
_NOT_SHARED = (b"no-store", b"private")


def add_cookie_removal(
    headers: Fields, discards: Iterable[tuple[str, str]]
) -> list[tuple[bytes, bytes]]:
    """Returns the response `headers` with the headers of `discards` that the response may carry.

    A cookie that the response sets is not deleted: it is newer than the one in the request. A
    response that a shared cache may store gets none of them: the cache would send them to other
    clients (RFC 9111, section 7.3).
    """
    caching = b",".join(value for name, value in headers if name.lower() == b"cache-control")
    if not any(directive in caching.lower() for directive in _NOT_SHARED):
        return list(headers)
    already_set = {_cookie_name(value) for name, value in headers if name.lower() == b"set-cookie"}
    removals = [(name.encode(), value.encode()) for name, value in discards]
    return [*headers, *(pair for pair in removals if _cookie_name(pair[1]) not in already_set)]


def with_headers_of_gate(
    headers: Fields, *, is_private: bool, discards: Sequence[tuple[str, str]] = ()
) -> list[tuple[bytes, bytes]]:
    """Returns the headers of a response of the application that depends on a credential.

    No cache may store a private one, unless its route says so. `discards` make the client delete a
    credential that has ended.
    """
    result = [*headers, _VARY]
    if is_private and all(name.lower() != b"cache-control" for name, _ in result):
        result.append(NO_STORE)
    return add_cookie_removal(result, discards) if discards else result


def _cookie_name(field: bytes) -> bytes:
    return field.partition(b"=")[0].strip()
