"""add second factors

Accounts have none at first. `credentials_version` counts the changes of everything that a login
proves, so a login that began before a change cannot complete after it.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    names = op.get_context().opts["table_names"]
    schema = names.schema
    users, sessions = map(names.table, ("users", "sessions"))
    op.add_column(users, sa.Column("mfa_since", sa.DateTime(timezone=True)), schema=schema)
    op.add_column(
        users,
        sa.Column("credentials_version", sa.Integer(), server_default="0", nullable=False),
        schema=schema,
    )
    op.add_column(sessions, sa.Column("mfa_at", sa.DateTime(timezone=True)), schema=schema)
    tickets, totp, codes = map(names.table, ("login_tickets", "totp_factors", "recovery_codes"))

    def belongs_to_user(table: str) -> sa.ForeignKeyConstraint:
        return sa.ForeignKeyConstraint(
            ["user_id"],
            [names.column("users", "id")],
            name=f"fk_{table}_user_id",
            ondelete="CASCADE",
        )

    op.create_table(
        tickets,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("purpose", sa.String(length=13), nullable=False),
        sa.Column("strategy", sa.String(length=64), nullable=False),
        sa.Column("remember", sa.Boolean(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("amr", sa.JSON(), nullable=False),
        sa.Column("credentials_version", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("browser_hash", sa.LargeBinary(length=32)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        belongs_to_user(tickets),
        sa.PrimaryKeyConstraint("id", name=f"pk_{tickets}"),
        sa.UniqueConstraint("secret_hash", name=f"uq_{tickets}_secret_hash"),
        schema=schema,
    )
    for column in ("user_id", "browser_hash", "expires_at"):
        op.create_index(f"ix_{tickets}_{column}", tickets, [column], schema=schema)
    op.create_table(
        totp,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("session_id", sa.Uuid()),
        sa.Column("credentials_version", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("owner_told_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True)),
        sa.Column("last_used_at", sa.DateTime(timezone=True)),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        belongs_to_user(totp),
        sa.PrimaryKeyConstraint("id", name=f"pk_{totp}"),
        schema=schema,
    )
    op.create_index(f"ix_{totp}_user_id", totp, ["user_id"], schema=schema)
    op.create_index(f"ix_{totp}_expires_at", totp, ["expires_at"], schema=schema)
    is_confirmed = sa.text("confirmed_at IS NOT NULL")
    op.create_index(
        f"ix_{totp}_confirmed",
        totp,
        ["user_id"],
        unique=True,
        schema=schema,
        postgresql_where=is_confirmed,
        sqlite_where=is_confirmed,
    )
    op.create_table(
        codes,
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True)),
        belongs_to_user(codes),
        sa.PrimaryKeyConstraint("user_id", "code_hash", name=f"pk_{codes}"),
        schema=schema,
    )


def downgrade() -> None:
    names = op.get_context().opts["table_names"]
    schema = names.schema
    users, sessions = map(names.table, ("users", "sessions"))
    for table in ("recovery_codes", "totp_factors", "login_tickets"):
        op.drop_table(names.table(table), schema=schema)
    op.drop_column(sessions, "mfa_at", schema=schema)
    op.drop_column(users, "credentials_version", schema=schema)
    op.drop_column(users, "mfa_since", schema=schema)
