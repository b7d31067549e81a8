"""add user names

Existing accounts have none. `usernames` has the names that are not free: those of accounts, without
`expires_at`, and those that an account has released recently.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

from authapi.storage.schema.indexes import build_index, is_repeatable

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    names = op.get_context().opts["table_names"]
    schema = names.schema
    users, usernames = map(names.table, ("users", "usernames"))
    op.add_column(
        users,
        sa.Column("username", sa.String(length=40)),
        schema=schema,
        if_not_exists=is_repeatable(),
    )
    build_index(f"ix_{users}_username", users, ["username"], unique=True)
    op.add_column(users, sa.Column("username_given", sa.String(length=40)), schema=schema)
    op.create_table(
        usernames,
        sa.Column("username", sa.String(length=40), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("username", name=f"pk_{usernames}"),
        schema=schema,
    )
    op.create_index(f"ix_{usernames}_expires_at", usernames, ["expires_at"], schema=schema)


def downgrade() -> None:
    names = op.get_context().opts["table_names"]
    schema = names.schema
    users, usernames = map(names.table, ("users", "usernames"))
    op.drop_table(usernames, schema=schema)
    op.drop_index(f"ix_{users}_username", users, schema=schema)
    op.drop_column(users, "username_given", schema=schema)
    op.drop_column(users, "username", schema=schema)
