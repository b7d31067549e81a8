"""Adds the headers that delete an ended cookie to responses that may carry them."""

from collections.abc import Iterable, Sequence

Fields = Sequence[tuple[bytes, bytes]]

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


def _cookie_name(field: bytes) -> bytes:
    return field.partition(b"=")[0].strip()
