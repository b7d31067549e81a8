"""The tables of the application while it used fastapi-users."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# As fastapi-users stores ids: UUIDs on PostgreSQL, texts with hyphens on SQLite.
GUID = sa.CHAR(36).with_variant(sa.Uuid(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "user",
        sa.Column("id", GUID, primary_key=True),
        sa.Column("email", sa.String(320), nullable=False),
        sa.Column("hashed_password", sa.String(1024), nullable=False),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("is_superuser", sa.Boolean, nullable=False),
        sa.Column("is_verified", sa.Boolean, nullable=False),
    )
    op.create_index("ix_user_email", "user", ["email"], unique=True)
    op.create_table(
        "item",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("title", sa.String(255), nullable=False),
        sa.Column("owner_id", GUID, sa.ForeignKey("user.id", name="fk_item_owner"), nullable=False),
        sa.UniqueConstraint("owner_id", "title", name="uq_item_owner_title"),
    )


def downgrade() -> None:
    op.drop_table("item")
    op.drop_table("user")
