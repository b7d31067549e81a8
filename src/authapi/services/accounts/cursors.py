"""Where a list of accounts goes on: a text for clients, who hand it back and need not read it.

It says in which order the list is and behind what it goes on, by the values of that account and not
by its number: accounts come and go between two pages, and none is left out or told twice. It is no
secret and proves nothing. What comes back is read as strictly as if it were a stranger's, for it is
one's; all that it can do is to say where to begin.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from authapi.crypto import base64url
from authapi.errors import InputError, InvalidInput
from authapi.identity import User
from authapi.services.addresses import parse_email
from authapi.storage.tables.users import UserOrder, UserPosition

MAX_LENGTH = 512
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LONGEST = 17
"""Digits of a time in microseconds: until the year 5138."""


def cursor_behind(user: User, order: UserOrder) -> str:
    """The text that goes on behind `user`."""
    text = "\n".join((order, user.id.hex, *_value(user, order)))
    return base64url.encode(text.encode())


def _value(user: User, order: UserOrder) -> tuple[str]:
    if order in (UserOrder.OLDEST, UserOrder.NEWEST):
        return (str((user.created_at - _EPOCH) // _MICROSECOND),)
    return (parse_email(user.email).canonical,)


def position_of(cursor: str, order: UserOrder) -> UserPosition:
    """Where `cursor` goes on. Raises InvalidInput for one that is not of a list in this order."""
    try:
        written, user_id, value = _lines(cursor)
        if written != order or UUID(user_id).hex != user_id:
            raise ValueError
        if order in (UserOrder.OLDEST, UserOrder.NEWEST):
            return UserPosition(UUID(user_id), created_at=_time(value))
        if parse_email(value).canonical != value:
            raise ValueError
        return UserPosition(UUID(user_id), email=value)
    except (ValueError, InvalidInput):
        message = "is no `next` of a list in this order"
        raise InvalidInput(InputError(("query", "after"), "cursor_invalid", message)) from None


def _lines(cursor: str) -> list[str]:
    if len(cursor) > MAX_LENGTH:
        raise ValueError
    return base64url.decode(cursor).decode("ascii").split("\n")


def _time(text: str) -> datetime:
    # Only what `cursor_behind` writes: `int` reads signs, spaces and digits of any script as well.
    if not 0 < len(text) <= _LONGEST or str(int(text)) != text or text.startswith("-"):
        raise ValueError
    return _EPOCH + int(text) * _MICROSECOND
