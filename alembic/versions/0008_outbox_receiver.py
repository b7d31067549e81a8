"""add outbox.receiver, by which entries are claimed

Existing entries, and entries of processes of the previous release, have the empty receiver. It
stands for the single receiver of a kind.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "outbox", sa.Column("receiver", sa.String(length=64), server_default="", nullable=False)
    )
    op.drop_index("ix_outbox_kind_failed_at_due_at", "outbox")
    op.create_index(
        "ix_outbox_kind_failed_at_receiver_due_at_id",
        "outbox",
        ["kind", "failed_at", "receiver", "due_at", "id"],
    )


def downgrade() -> None:
    op.drop_index("ix_outbox_kind_failed_at_receiver_due_at_id", "outbox")
    op.create_index("ix_outbox_kind_failed_at_due_at", "outbox", ["kind", "failed_at", "due_at"])
    op.drop_column("outbox", "receiver")
