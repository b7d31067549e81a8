"""create the tables

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    names = op.get_context().opts["table_names"]
    schema = names.schema
    users, sessions, events = map(names.table, ("users", "sessions", "events"))
    signing_keys, refresh_families = map(names.table, ("signing_keys", "refresh_families"))
    email_tokens, outbox = map(names.table, ("email_tokens", "outbox"))
    op.create_table(
        events,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("strategy", sa.String(length=64), nullable=True),
        sa.Column("request_id", sa.String(length=32), nullable=True),
        sa.Column("ip", sa.String(length=45), nullable=True),
        sa.Column("user_agent", sa.String(length=255), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("network", sa.String(length=45), nullable=True),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=f"pk_{events}"),
        schema=schema,
    )
    op.create_index(f"ix_{events}_user_id_id", events, ["user_id", "id"], schema=schema)
    op.create_index(
        f"ix_{events}_user_id_type_network_id",
        events,
        ["user_id", "type", "network", "id"],
        schema=schema,
    )

    op.create_table(
        signing_keys,
        sa.Column("kid", sa.String(length=43), nullable=False),
        sa.Column("algorithm", sa.String(length=10), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("public_jwk", sa.JSON(), nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("activated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("published_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("kid", name=f"pk_{signing_keys}"),
        schema=schema,
    )
    op.create_table(
        users,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("email_given", sa.String(length=254), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("password_hash", sa.String(length=255), nullable=True),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("is_superuser", sa.Boolean(), nullable=False),
        sa.Column("email_confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("locale", sa.String(length=35), nullable=True),
        sa.Column("roles", sa.String(length=1024), server_default="", nullable=False),
        sa.Column("password_version", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=f"pk_{users}"),
        sa.UniqueConstraint("email", name=f"uq_{users}_email"),
        schema=schema,
    )
    op.create_index(f"ix_{users}_created_at_id", users, ["created_at", "id"], schema=schema)

    op.create_table(
        email_tokens,
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
            [names.column("users", "id")],
            name=f"fk_{email_tokens}_user_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=f"pk_{email_tokens}"),
        sa.UniqueConstraint("secret_hash", name=f"uq_{email_tokens}_secret_hash"),
        schema=schema,
    )
    op.create_index(f"ix_{email_tokens}_email", email_tokens, ["email"], schema=schema)
    op.create_index(f"ix_{email_tokens}_expires_at", email_tokens, ["expires_at"], schema=schema)
    op.create_index(f"ix_{email_tokens}_user_id", email_tokens, ["user_id"], schema=schema)

    op.create_table(
        outbox,
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
        sa.Column("receiver", sa.String(length=64), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            [names.column("users", "id")],
            name=f"fk_{outbox}_user_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=f"pk_{outbox}"),
        schema=schema,
    )
    op.create_index(
        f"ix_{outbox}_kind_failed_at_receiver_due_at_id",
        outbox,
        ["kind", "failed_at", "receiver", "due_at", "id"],
        schema=schema,
    )
    op.create_index(f"ix_{outbox}_user_id", outbox, ["user_id"], schema=schema)

    op.create_table(
        sessions,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("name", sa.String(length=100), nullable=True),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("idle_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("auth_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("amr", sa.JSON(), nullable=False),
        sa.Column("ip", sa.String(length=45), nullable=True),
        sa.Column("user_agent", sa.String(length=255), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("remembered", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("previous_secret_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("revoked_jwts", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"],
            [names.column("users", "id")],
            name=f"fk_{sessions}_user_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=f"pk_{sessions}"),
        sa.UniqueConstraint("secret_hash", name=f"uq_{sessions}_secret_hash"),
        schema=schema,
    )
    op.create_index(f"ix_{sessions}_expires_at", sessions, ["expires_at"], schema=schema)
    op.create_index(
        f"ix_{sessions}_previous_secret_hash", sessions, ["previous_secret_hash"], schema=schema
    )
    op.create_index(f"ix_{sessions}_user_id", sessions, ["user_id"], schema=schema)

    op.create_table(
        refresh_families,
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("family_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("current_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("previous_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("nonce", sa.LargeBinary(length=32), nullable=True),
        sa.Column("rotated_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["session_id"],
            [names.column("sessions", "id")],
            name=f"fk_{refresh_families}_session_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("session_id", name=f"pk_{refresh_families}"),
        sa.UniqueConstraint("family_hash", name=f"uq_{refresh_families}_family_hash"),
        schema=schema,
    )


def downgrade() -> None:
    names = op.get_context().opts["table_names"]
    tables = ("outbox", "email_tokens", "refresh_families", "signing_keys", "events", "sessions")
    for name in (*tables, "users"):
        op.drop_table(names.table(name), schema=names.schema)
