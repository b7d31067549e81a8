"""add locale, roles and password version of users; create email_tokens and outbox

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("locale", sa.String(length=35), nullable=True))
    op.add_column(
        "users", sa.Column("roles", sa.String(length=1024), server_default="", nullable=False)
    )
    op.add_column(
        "users", sa.Column("password_version", sa.Integer(), server_default="0", nullable=False)
    )
    op.create_index("ix_users_created_at_id", "users", ["created_at", "id"])
    op.add_column("events", sa.Column("actor_id", sa.Uuid(), nullable=True))
    op.create_table(
        "email_tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("email_given", sa.String(length=254), nullable=False),
        sa.Column("password_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name="fk_email_tokens_user_id_users",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_email_tokens"),
        sa.UniqueConstraint("secret_hash", name="uq_email_tokens_secret_hash"),
    )
    for column in ("user_id", "email", "expires_at"):
        op.create_index(f"ix_email_tokens_{column}", "email_tokens", [column])
    op.create_table(
        "outbox",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("purpose", sa.String(length=40), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(length=200), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_outbox_user_id_users", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_index("ix_outbox_user_id", "outbox", ["user_id"])
    op.create_index("ix_outbox_kind_failed_at_due_at", "outbox", ["kind", "failed_at", "due_at"])


def downgrade() -> None:
    op.drop_table("outbox")
    op.drop_table("email_tokens")
    op.drop_column("events", "actor_id")
    op.drop_index("ix_users_created_at_id", "users")
    op.drop_column("users", "password_version")
    op.drop_column("users", "roles")
    op.drop_column("users", "locale")
