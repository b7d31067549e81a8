"""index events by type

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_events_user_id_type_id", "events", ["user_id", "type", "id"])


def downgrade() -> None:
    op.drop_index("ix_events_user_id_type_id", table_name="events")
