"""Identifiers: they find a row, and prove nothing."""

import itertools
import os
import re
import time
import uuid
from datetime import datetime

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class RequestIds:
    """32 hexadecimal digits for each request, which no other request has, of any process.

    Half is random, once for each object, half is counted: asking the system for randomness each
    time would cost more than anything else at the edge.
    """

    def __init__(self) -> None:
        self._prefix = os.urandom(8).hex()
        self._numbers = itertools.count(int.from_bytes(os.urandom(6)))

    def __call__(self) -> str:
        return f"{self._prefix}{next(self._numbers):016x}"


def read_uuid(value: object) -> uuid.UUID | None:
    """The UUID that `value` spells in lower case with hyphens (RFC 9562, section 4), or None.

    Other spellings are None, so that two texts are never one id.
    """
    return uuid.UUID(value) if isinstance(value, str) and _UUID.fullmatch(value) else None


def new_id() -> uuid.UUID:
    """A UUIDv7: 48 bits of Unix time in milliseconds, then 74 random bits (RFC 9562, 5.7).

    Ids made later sort later, to the millisecond, which keeps index pages warm and lets lists be
    paged by id.
    """
    milliseconds = time.time_ns() // 1_000_000
    return _version_7(milliseconds, int.from_bytes(os.urandom(10)))


def first_id_at(moment: datetime) -> uuid.UUID:
    """The least id that could have been made at `moment`: all made before it are less."""
    return _version_7(max(0, int(moment.timestamp() * 1000)), 0)


def _version_7(milliseconds: int, rest: int) -> uuid.UUID:
    value = (milliseconds & (1 << 48) - 1) << 80 | rest
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)
