"""add passkeys

Accounts have none at first. A challenge is a row only once it was used.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

from authapi.storage.schema.indexes import build_index, is_repeatable

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    names = op.get_context().opts["table_names"]
    schema = names.schema
    users, passkeys, challenges = map(names.table, ("users", "passkeys", "used_challenges"))
    op.add_column(
        users,
        sa.Column("webauthn_handle", sa.LargeBinary(length=32)),
        schema=schema,
        if_not_exists=is_repeatable(),
    )
    build_index(f"ix_{users}_webauthn_handle", users, ["webauthn_handle"], unique=True)
    op.create_table(
        passkeys,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("credential_id", sa.LargeBinary(length=1023), nullable=False),
        sa.Column("credential_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("algorithm", sa.Integer(), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("transports", sa.JSON(), nullable=False),
        sa.Column("aaguid", sa.Uuid(), nullable=False),
        sa.Column("backup_eligible", sa.Boolean(), nullable=False),
        sa.Column("backed_up", sa.Boolean(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(
            ["user_id"],
            [names.column("users", "id")],
            name=f"fk_{passkeys}_user_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=f"pk_{passkeys}"),
        sa.UniqueConstraint("credential_hash", name=f"uq_{passkeys}_credential_hash"),
        schema=schema,
    )
    op.create_index(f"ix_{passkeys}_user_id", passkeys, ["user_id"], schema=schema)
    op.create_table(
        challenges,
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=f"pk_{challenges}"),
        schema=schema,
    )
    op.create_index(f"ix_{challenges}_expires_at", challenges, ["expires_at"], schema=schema)


def downgrade() -> None:
    names = op.get_context().opts["table_names"]
    schema = names.schema
    users = names.table("users")
    for table in ("used_challenges", "passkeys"):
        op.drop_table(names.table(table), schema=schema)
    op.drop_index(f"ix_{users}_webauthn_handle", users, schema=schema)
    op.drop_column(users, "webauthn_handle", schema=schema)
