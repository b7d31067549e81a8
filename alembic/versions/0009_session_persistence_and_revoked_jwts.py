"""add persistence and previous secret of session cookies, and revoked JWTs

Existing cookies count as not persistent, because this was not stored before.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "sessions",
        sa.Column("remembered", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column("sessions", sa.Column("previous_secret_hash", sa.LargeBinary(length=32)))
    op.add_column("sessions", sa.Column("revoked_jwts", sa.JSON()))
    op.create_index("ix_sessions_previous_secret_hash", "sessions", ["previous_secret_hash"])


def downgrade() -> None:
    op.drop_index("ix_sessions_previous_secret_hash", "sessions")
    op.drop_column("sessions", "revoked_jwts")
    op.drop_column("sessions", "previous_secret_hash")
    op.drop_column("sessions", "remembered")
