"""Fills the tables of authapi with COPY, because that many logins would take days."""

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg

from authapi.crypto.secrets import hash_secret

_BLOCK = 5_000
_USERS = (
    "COPY authapi_users (id, email, email_given, is_active, is_superuser, created_at, updated_at)"
)
_SESSIONS = (
    "COPY authapi_sessions (id, user_id, kind, secret_hash, scopes, created_at, last_seen_at,"
    " idle_expires_at, expires_at, auth_time, amr, data)"
)


def secret(number: int) -> str:
    """Returns the secret of a session, in the format of authapi."""
    digest = hashlib.sha256(b"benchmark %d" % number).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def email(number: int) -> str:
    """Returns the e-mail address of an account."""
    return f"user{number}@example.com"


def users(connection: psycopg.Connection, first: int, end: int) -> None:
    """Inserts the accounts from `first` up to, but not including, `end`."""
    now = datetime.now(UTC).isoformat()

    def line(number: int) -> str:
        address = email(number)
        return f"{_user_id(number)}\t{address}\t{address}\tt\tf\t{now}\t{now}\n"

    _copy(connection, _USERS, line, first, end)


def sessions(connection: psycopg.Connection, first: int, end: int, *, of_users: int) -> None:
    """Inserts cookie sessions from `first` up to, but not including, `end`."""
    moment = datetime.now(UTC)
    now, later = moment.isoformat(), (moment + timedelta(days=1)).isoformat()
    times = f"{now}\t{now}\t{later}\t{later}\t{now}"

    def line(number: int) -> str:
        digest = hash_secret(secret(number)).digest.hex()
        key, owner = f"01900000-0000-7001-8000-{number:012x}", _user_id(number % of_users)
        return f'{key}\t{owner}\tsession\t\\\\x{digest}\t[]\t{times}\t["pwd"]\t{{}}\n'

    _copy(connection, _SESSIONS, line, first, end)


def _user_id(number: int) -> str:
    # Ascending like UUIDv7, so that the index grows as in production.
    return f"01900000-0000-7000-8000-{number:012x}"


def _copy(
    connection: psycopg.Connection, copy: str, line: Callable[[int], str], first: int, end: int
) -> None:
    with connection.transaction(), connection.cursor().copy(f"{copy} FROM STDIN") as sink:
        for start in range(first, end, _BLOCK):
            sink.write("".join(map(line, range(start, min(start + _BLOCK, end)))))
