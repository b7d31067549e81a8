"""Identifiers. They identify a row or a request; they are not secret."""

import itertools
import os
import re
import time
import uuid
from datetime import datetime

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class RequestIds:
    """Generates request ids of 32 hexadecimal digits, unique across processes.

    The first half is random, chosen once for each object; the second half is a counter. Reading the
    system's random source for each request would be the slowest step of the middleware.
    """

    def __init__(self) -> None:
        self._prefix = os.urandom(8).hex()
        self._numbers = itertools.count(int.from_bytes(os.urandom(6)))

    def __call__(self) -> str:
        return f"{self._prefix}{next(self._numbers):016x}"


def read_uuid(value: object) -> uuid.UUID | None:
    """Returns the UUID of a string in lower case with hyphens (RFC 9562, section 4).

    Returns None for every other value, so that an id has a single textual form.
    """
    return uuid.UUID(value) if isinstance(value, str) and _UUID.fullmatch(value) else None


def new_id() -> uuid.UUID:
    """Returns a new UUIDv7: 48 bits of Unix time in milliseconds, 74 random bits (RFC 9562, 5.7).

    Ids sort by the millisecond of their creation, which keeps index pages in the cache and allows
    pagination by id.

    `uuid.uuid7` of Python 3.14 replaces this when that is the oldest supported version.
    """
    milliseconds = time.time_ns() // 1_000_000
    return _version_7(milliseconds, int.from_bytes(os.urandom(10)))


def new_ids(count: int) -> list[uuid.UUID]:
    """Returns `count` ids, each as of `new_id`, with a single call of the random source."""
    milliseconds, size = time.time_ns() // 1_000_000, 10
    data = os.urandom(size * count)
    return [
        _version_7(milliseconds, int.from_bytes(data[start : start + size]))
        for start in range(0, len(data), size)
    ]


def id_at(moment: datetime) -> uuid.UUID:
    """Returns a UUIDv7 that sorts as one that was created at `moment`."""
    return _version_7(int(moment.timestamp() * 1000), int.from_bytes(os.urandom(10)))


def first_id_at(moment: datetime) -> uuid.UUID:
    """Returns the lowest id of a UUIDv7 that is created at `moment`."""
    return _version_7(max(0, int(moment.timestamp() * 1000)), 0)


def _version_7(milliseconds: int, random_bits: int) -> uuid.UUID:
    value = (milliseconds & (1 << 48) - 1) << 80 | random_bits
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)
