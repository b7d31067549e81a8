"""Response headers that remove a dead cookie, on the answers that may carry them."""

from collections.abc import Iterable, Sequence

Fields = Sequence[tuple[bytes, bytes]]

_OF_ONE_CLIENT = (b"no-store", b"private")


def discarding(headers: Fields, discards: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """`headers` of an answer with those of `discards` that it may carry.

    A cookie that the answer sets is left alone: it is newer than the one that was presented. So is
    every answer that a shared cache may store, since it would repeat the header to other clients
    (RFC 9111, section 7.3).
    """
    caching = b",".join(value for name, value in headers if name.lower() == b"cache-control")
    if not any(directive in caching.lower() for directive in _OF_ONE_CLIENT):
        return list(headers)
    set_here = {_cookie(value) for name, value in headers if name.lower() == b"set-cookie"}
    found = [(name.encode(), value.encode()) for name, value in discards]
    return [*headers, *(pair for pair in found if _cookie(pair[1]) not in set_here)]


def _cookie(field: bytes) -> bytes:
    return field.partition(b"=")[0].strip()
