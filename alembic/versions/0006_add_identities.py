"""add identities

No account has one at first. Sessions and logins under way keep working.

Revision ID: 0006_beside_0005
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

from authapi.storage.schema.indexes import build_index, is_repeatable

revision = "0006_beside_0005"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    names = op.get_context().opts["table_names"]
    schema = names.schema
    sessions, identities = names.table("sessions"), names.table("identities")
    tickets, once = names.table("login_tickets"), is_repeatable()
    op.add_column(tickets, sa.Column("federated", sa.JSON()), schema=schema, if_not_exists=once)
    op.add_column(sessions, sa.Column("identity_id", sa.Uuid()), schema=schema, if_not_exists=once)
    build_index(f"ix_{sessions}_identity_id", sessions, ["identity_id"])
    op.create_table(
        identities,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.String(length=40), nullable=False),
        sa.Column("issuer", sa.String(length=255), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("email", sa.String(length=254)),
        sa.Column("email_verified", sa.Boolean(), nullable=False),
        sa.Column("name", sa.String(length=200)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_login_at", sa.DateTime(timezone=True)),
        sa.Column("auth_context", sa.JSON()),
        sa.ForeignKeyConstraint(
            ["user_id"],
            [names.column("users", "id")],
            name=f"fk_{identities}_user_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=f"pk_{identities}"),
        sa.UniqueConstraint("issuer", "subject", name=f"uq_{identities}_issuer_subject"),
        schema=schema,
    )
    op.create_index(f"ix_{identities}_user_id", identities, ["user_id"], schema=schema)


def downgrade() -> None:
    names = op.get_context().opts["table_names"]
    schema = names.schema
    sessions = names.table("sessions")
    op.drop_column(names.table("login_tickets"), "federated", schema=schema)
    op.drop_index(f"ix_{sessions}_identity_id", sessions, schema=schema)
    op.drop_column(sessions, "identity_id", schema=schema)
    op.drop_table(names.table("identities"), schema=schema)
