"""Column types whose Python side is stricter than their SQL side.

Migrations use the underlying SQLAlchemy types instead (`alembic/env.py`), so that they do not
import this module.
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from authapi.crypto.passwords import PasswordHash
from authapi.crypto.secrets import SecretHash


class UTCDateTime(TypeDecorator[datetime]):
    """A time in UTC. Times from SQLite, which has no time zones, get UTC here.

    Binding a time without a time zone raises ValueError.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a stored time must have a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class SecretHashType(TypeDecorator[SecretHash]):
    """The SHA-256 of a secret. A string, such as the secret itself, cannot be bound to it."""

    impl = sa.LargeBinary(32)
    cache_ok = True

    def process_bind_param(self, value: SecretHash | None, dialect: Dialect) -> bytes | None:
        return None if value is None else value.digest

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> SecretHash | None:
        return None if value is None else SecretHash(bytes(value))


class PasswordHashType(TypeDecorator[PasswordHash]):
    """A password hash, own or imported. A string, such as a password, cannot be bound to it."""

    impl = sa.String(255)
    cache_ok = True

    def process_bind_param(self, value: PasswordHash | None, dialect: Dialect) -> str | None:
        return None if value is None else value.text

    def process_result_value(self, value: str | None, dialect: Dialect) -> PasswordHash | None:
        return None if value is None else PasswordHash(value)


class RolesType(TypeDecorator[frozenset[str]]):
    """Role names, each between two commas, so that a query can search for one: `,editor,`."""

    impl = sa.String(1024)
    cache_ok = True

    def process_bind_param(self, value: frozenset[str] | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        return f",{','.join(sorted(value))}," if value else ""

    def process_result_value(self, value: str | None, dialect: Dialect) -> frozenset[str] | None:
        return None if value is None else frozenset(filter(None, value.split(",")))
