"""Cursors of the lists of accounts.

A cursor is an opaque text for clients. It holds the order of the list and the sort value and id of
the last account of a page, not an offset: accounts that are added or deleted between two requests
neither hide nor repeat others. A cursor is not secret and grants nothing. It is decoded strictly,
because clients can send any text; a forged cursor can only start the list elsewhere.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from authapi.crypto import base64url
from authapi.domain.email_address import stored_email
from authapi.domain.user import User, UserOrder, UserPosition
from authapi.errors import InputError, InvalidInput

MAX_LENGTH = 512
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_DIGITS = 17
"""Of a time in microseconds: enough until the year 5138."""


def encode_cursor(user: User, order: UserOrder) -> str:
    """Returns the cursor of the page that follows `user` in this order."""
    text = "\n".join((order, user.id.hex, _sort_value(user, order)))
    return base64url.encode(text.encode())


def _sort_value(user: User, order: UserOrder) -> str:
    if order in (UserOrder.OLDEST, UserOrder.NEWEST):
        return str((user.created_at - _EPOCH) // _MICROSECOND)
    return stored_email(user.email).canonical


def decode_cursor(cursor: str, order: UserOrder) -> UserPosition:
    """Returns the position of `cursor`. Raises InvalidInput if it is not one of this order."""
    try:
        cursor_order, user_id, value = _lines(cursor)
        if cursor_order != order or UUID(user_id).hex != user_id:
            raise ValueError
        if order in (UserOrder.OLDEST, UserOrder.NEWEST):
            return UserPosition(UUID(user_id), created_at=_time(value))
        if stored_email(value).canonical != value:
            raise ValueError
        return UserPosition(UUID(user_id), email=value)
    except (ValueError, InvalidInput):
        message = "is not the `next` of a list in this order"
        raise InvalidInput(InputError(("query", "after"), "cursor_invalid", message)) from None


def _lines(cursor: str) -> list[str]:
    if len(cursor) > MAX_LENGTH:
        raise ValueError
    return base64url.decode(cursor).decode("ascii").split("\n")


def _time(text: str) -> datetime:
    # `int` alone would also accept signs, spaces, underscores and digits of other scripts.
    if not 0 < len(text) <= _MAX_DIGITS or str(int(text)) != text or text.startswith("-"):
        raise ValueError
    return _EPOCH + int(text) * _MICROSECOND
