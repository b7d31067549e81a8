"""add events.network

Existing logins from IPv4 addresses get their address as network. Networks of IPv6 addresses are not
computed in SQL, so a user has to log in once more before an IPv6 network counts as known.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("events", sa.Column("network", sa.String(45)))
    op.execute("UPDATE events SET network = ip WHERE type = 'login' AND ip NOT LIKE '%:%'")
    op.create_index(
        "ix_events_user_id_type_network_id", "events", ["user_id", "type", "network", "id"]
    )
    op.drop_index("ix_events_user_id_type_id", table_name="events")


def downgrade() -> None:
    op.create_index("ix_events_user_id_type_id", "events", ["user_id", "type", "id"])
    op.drop_index("ix_events_user_id_type_network_id", table_name="events")
    op.drop_column("events", "network")
