"""The table of accounts, the columns that refer to it, and those for the ORM of an application.

Table and ORM change with every column. Each change of the table needs a migration.
"""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped

from authapi.storage.column_types import PasswordHashType, RolesType, UTCDateTime
from authapi.storage.names import TableNames

OWNER_CHANGES = {"owner_changes": True}
"""The `info` of a column that the owner of the account changes with `UserTable.set_profile`."""


def users_table(names: TableNames, metadata: sa.MetaData) -> sa.Table:
    """Returns the table of accounts, added to `metadata`."""
    return sa.Table(
        names.table("users"),
        metadata,
        sa.Column("id", sa.Uuid, primary_key=True),
        # The canonical form, by which addresses are looked up and unique. It is computed in Python,
        # because lower() differs between databases.
        sa.Column("email", sa.String(254), nullable=False, unique=True),
        # The address as the user entered it.
        sa.Column("email_given", sa.String(254), nullable=False),
        sa.Column("name", sa.String(200), info=OWNER_CHANGES),
        sa.Column("password_hash", PasswordHashType),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("is_superuser", sa.Boolean, nullable=False),
        sa.Column("email_confirmed_at", UTCDateTime),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("updated_at", UTCDateTime, nullable=False),
        # Null if the user has not chosen one: the default of the service applies.
        sa.Column("locale", sa.String(35), info=OWNER_CHANGES),
        sa.Column("roles", RolesType, nullable=False, server_default=""),
        # The number of password changes. A change invalidates the tokens that were mailed before.
        sa.Column("password_version", sa.Integer, nullable=False, server_default="0"),
        # The canonical form of the user name, and the name in the case that the owner chose. Each
        # name also has a row in `usernames`.
        sa.Column("username", sa.String(40)),
        sa.Column("username_given", sa.String(40)),
        # Since when the account has a second factor; null if it has none.
        sa.Column("mfa_since", UTCDateTime),
        # The number of changes of what a login proves: the password and the second factors.
        sa.Column("credentials_version", sa.Integer, nullable=False, server_default="0"),
        # What authenticators know the account by: random, so it tells nothing about the account.
        # Null until the first passkey is registered.
        sa.Column("webauthn_handle", sa.LargeBinary(32)),
        sa.Index(None, "username", unique=True),
        sa.Index(None, "webauthn_handle", unique=True),
        # For the paginated list of accounts.
        sa.Index(None, "created_at", "id"),
    )


def user_id(
    users: sa.Table, *, nullable: bool = False, index: bool = True, primary_key: bool = False
) -> sa.Column[UUID]:
    """Returns the column of another table for the account that its rows belong to.

    The rows are deleted with the account. Without `index`, the primary key must begin with it.
    """
    return sa.Column(
        "user_id",
        sa.Uuid,
        sa.ForeignKey(users.c.id, ondelete="CASCADE"),
        nullable=nullable,
        index=index,
        primary_key=primary_key,
    )


class UserRow:
    """An account, with the fields of `User`, for queries, joins and relationships.

    The rows are read-only: flushing a new, changed or deleted one raises ReadOnlyRow. Accounts
    change through authapi, which also records the event and invalidates cached identities. There is
    no attribute for the hash of the password.
    """

    id: Mapped[UUID]
    email: Mapped[str]
    """The address as the user entered it, as in `User.email`."""
    canonical_email: Mapped[str]
    """The form of the address that is unique and by which authapi looks it up."""
    name: Mapped[str | None]
    is_active: Mapped[bool]
    is_superuser: Mapped[bool]
    email_confirmed_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    locale: Mapped[str | None]
    roles: Mapped[frozenset[str]]
    username: Mapped[str | None]
    """The user name in the case that its owner chose, as in `User.username`."""
    mfa_since: Mapped[datetime | None]
    """Since when the account has a second factor, as in `User.mfa_since`."""
    canonical_username: Mapped[str | None]
    """The form of the user name that is unique and by which authapi looks it up."""
