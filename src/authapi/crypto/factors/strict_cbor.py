"""Checks of untrusted CBOR, before a parser that does more than is asked of it.

The parser cbor2 acts on tags: it compiles regular expressions, parses mails, and builds values that
contain each other, which a few hundred bytes let grow to gigabytes when they are encoded again.
Authenticators write none of these: the canonical form of CTAP2 has no tags and no indefinite
lengths (FIDO Client to Authenticator Protocol 2.1, section 8).
"""

_BYTES, _TEXT, _ARRAY, _MAP, _TAG = 2, 3, 4, 5, 6
"""Major types (RFC 8949, section 3.1)."""
_LARGEST_INLINE, _LARGEST_DEFINITE = 23, 27
"""Values of the additional information: below are the value itself, and lengths of the value."""


def check(data: bytes, *, max_depth: int = 8) -> None:
    """Checks that `data` is a sequence of CBOR items (RFC 8742) that a parser can only copy.

    `max_depth` is the maximum nesting of arrays and maps. Raises ValueError if there is a tag or an
    indefinite length, an item is nested deeper, or the last one has no end.
    """
    position, missing = 0, list[int]()  # for each open array or map, its items that are to come
    while position < len(data):
        major, value, position = _head(data, position)
        if missing:
            missing[-1] -= 1
        if major in (_BYTES, _TEXT):
            position += value
        elif major in (_ARRAY, _MAP):
            missing.append(value if major == _ARRAY else 2 * value)
            if len(missing) > max_depth:
                raise ValueError("nested too deep")
        while missing and missing[-1] == 0:
            missing.pop()
    if missing or position > len(data):
        raise ValueError("no end")


def _head(data: bytes, position: int) -> tuple[int, int, int]:
    """The major type and the value of an item, and where its content begins."""
    major, value = data[position] >> 5, data[position] & 31
    if major == _TAG or value > _LARGEST_DEFINITE:
        raise ValueError("a tag, or an indefinite length")
    start = position + 1
    if value <= _LARGEST_INLINE:
        return major, value, start
    end = start + (1 << (value - _LARGEST_INLINE - 1))
    if end > len(data):
        raise ValueError("no end")
    return major, int.from_bytes(data[start:end]), end
