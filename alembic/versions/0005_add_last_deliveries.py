"""add last_deliveries

When each receiver last accepted an entry of the outbox. Empty at first.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    names = op.get_context().opts["table_names"]
    table = names.table("last_deliveries")
    op.create_table(
        table,
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("receiver", sa.String(length=64), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kind", "receiver", name=f"pk_{table}"),
        schema=names.schema,
    )


def downgrade() -> None:
    names = op.get_context().opts["table_names"]
    op.drop_table(names.table("last_deliveries"), schema=names.schema)
