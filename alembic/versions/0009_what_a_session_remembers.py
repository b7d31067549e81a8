"""what a session knows of its cookie, and of JWTs for other services that were ended

Cookies that are there already count as not remembered: whether they are is kept nowhere.

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
    op.add_column("sessions", sa.Column("replaced_hash", sa.LargeBinary(length=32)))
    op.add_column("sessions", sa.Column("ended_jwts", sa.JSON()))
    op.create_index("ix_sessions_replaced_hash", "sessions", ["replaced_hash"])


def downgrade() -> None:
    op.drop_index("ix_sessions_replaced_hash", "sessions")
    op.drop_column("sessions", "ended_jwts")
    op.drop_column("sessions", "replaced_hash")
    op.drop_column("sessions", "remembered")
