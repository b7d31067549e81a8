"""The tables of passkeys, and of challenges that were used."""

import sqlalchemy as sa

from authapi.storage.column_types import UTCDateTime
from authapi.storage.names import TableNames


def passkey_tables(
    names: TableNames, metadata: sa.MetaData, users: sa.Table
) -> dict[str, sa.Table]:
    """Returns the tables, by their fields of `Tables`."""
    passkeys = sa.Table(
        names.table("passkeys"),
        metadata,
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column(
            "user_id",
            sa.Uuid,
            sa.ForeignKey(users.c.id, ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("credential_id", sa.LargeBinary(1023), nullable=False),
        # The SHA-256 of `credential_id`, which is too long for an index. It decides which account
        # has the passkey.
        sa.Column("credential_hash", sa.LargeBinary(32), nullable=False, unique=True),
        # A COSE key.
        sa.Column("public_key", sa.LargeBinary, nullable=False),
        sa.Column("algorithm", sa.Integer, nullable=False),
        # The signature counter of the authenticator at the last use.
        sa.Column("sign_count", sa.BigInteger, nullable=False),
        sa.Column("transports", sa.JSON, nullable=False),
        sa.Column("aaguid", sa.Uuid, nullable=False),
        # Whether the authenticator may copy the passkey to other devices: it never changes.
        sa.Column("backup_eligible", sa.Boolean, nullable=False),
        sa.Column("backed_up", sa.Boolean, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("last_used_at", UTCDateTime),
    )

    # Challenges are not stored when they are issued, only when they are used. The primary key
    # decides which request uses one.
    used_challenges = sa.Table(
        names.table("used_challenges"),
        metadata,
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("expires_at", UTCDateTime, nullable=False, index=True),
    )
    return {"passkeys": passkeys, "used_challenges": used_challenges}
