"""add user names

Existing accounts have none. `usernames` has the names that are not free: those of accounts, without
`expires_at`, and those that an account has released recently.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("username", sa.String(length=40)))
    op.add_column("users", sa.Column("username_given", sa.String(length=40)))
    op.create_index("ix_users_username", "users", ["username"], unique=True)
    op.create_table(
        "usernames",
        sa.Column("username", sa.String(length=40), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("username", name="pk_usernames"),
    )
    op.create_index("ix_usernames_expires_at", "usernames", ["expires_at"])


def downgrade() -> None:
    op.drop_table("usernames")
    op.drop_index("ix_users_username", "users")
    op.drop_column("users", "username_given")
    op.drop_column("users", "username")
