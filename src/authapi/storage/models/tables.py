"""The tables. Each change needs a migration; `authapi db check` reports a missing one."""

from dataclasses import dataclass
from functools import cache

import sqlalchemy as sa

from authapi.storage.column_types import SecretHashType, UTCDateTime
from authapi.storage.models.accounts import user_id, users_table
from authapi.storage.models.credentials import factor_tables, identity_table
from authapi.storage.names import TableNames

_CONVENTION = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}
"""With a prefix of 20 characters, no name is longer than the 63 of PostgreSQL."""


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """The tables of one installation, whose names its settings choose."""

    names: TableNames
    metadata: sa.MetaData
    users: sa.Table
    usernames: sa.Table
    sessions: sa.Table
    identities: sa.Table
    events: sa.Table
    signing_keys: sa.Table
    refresh_families: sa.Table
    email_tokens: sa.Table
    outbox: sa.Table
    last_deliveries: sa.Table
    login_tickets: sa.Table
    totp_factors: sa.Table
    recovery_codes: sa.Table
    passkeys: sa.Table
    used_challenges: sa.Table


@cache
def tables_of(names: TableNames) -> Tables:
    """Returns the tables with these names. Equal names give the same object.

    SQLAlchemy caches a compiled statement by its tables, so each installation in a process has its
    own cached statements.
    """
    metadata = sa.MetaData(schema=names.schema, naming_convention=_CONVENTION)

    users = users_table(names, metadata)

    # The user names that are not free. The primary key decides who has a name.
    usernames = sa.Table(
        names.table("usernames"),
        metadata,
        # The canonical form.
        sa.Column("username", sa.String(40), primary_key=True),
        # The account that has the name, or may take it back. No foreign key: a name is reserved
        # before its account is created, and after its account is deleted.
        sa.Column("user_id", sa.Uuid, nullable=False),
        # Null while an account has the name; then the time from which every account can have it.
        sa.Column("expires_at", UTCDateTime, index=True),
    )

    sessions = sa.Table(
        names.table("sessions"),
        metadata,
        sa.Column("id", sa.Uuid, primary_key=True),
        user_id(users),
        sa.Column("kind", sa.String(16), nullable=False),
        # Null if the credential is signed and contains the id of the session, as a JWT does.
        sa.Column("secret_hash", SecretHashType, unique=True),
        sa.Column("name", sa.String(100)),
        # The granted scopes, or JSON's null for all scopes that the user has at the time of use.
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("last_seen_at", UTCDateTime, nullable=False),
        sa.Column("idle_expires_at", UTCDateTime),
        sa.Column("expires_at", UTCDateTime, nullable=False, index=True),
        sa.Column("auth_time", UTCDateTime, nullable=False),
        sa.Column("amr", sa.JSON, nullable=False),
        sa.Column("ip", sa.String(45)),
        sa.Column("user_agent", sa.String(255)),
        sa.Column("data", sa.JSON, nullable=False),
        # Whether the cookie is persistent: it stays when the browser is closed.
        sa.Column("remembered", sa.Boolean, nullable=False, server_default=sa.false()),
        # The hash of the browser's previous secret, which requests in flight may still carry.
        sa.Column("previous_secret_hash", SecretHashType, index=True),
        # JWTs for other services that were revoked before they expired: their `exp`, by `jti`.
        sa.Column("revoked_jwts", sa.JSON(none_as_null=True)),
        # When the user last proved a second factor in this session; null if the user has not.
        sa.Column("mfa_at", UTCDateTime),
        # The identity at a provider that the session began with: unlinking it ends the session, so
        # no foreign key is needed. SQLite could add one by copying the table only.
        sa.Column("identity_id", sa.Uuid, index=True),
    )

    events = sa.Table(
        names.table("events"),
        metadata,
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("at", UTCDateTime, nullable=False),
        sa.Column("type", sa.String(40), nullable=False),
        sa.Column("outcome", sa.String(10), nullable=False),
        # No foreign key: events outlive their account and session.
        sa.Column("user_id", sa.Uuid),
        sa.Column("session_id", sa.Uuid),
        sa.Column("strategy", sa.String(64)),
        sa.Column("request_id", sa.String(32)),
        sa.Column("ip", sa.String(45)),
        sa.Column("user_agent", sa.String(255)),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("network", sa.String(45)),
        # The superuser who acted, if it was not the owner of the account. No foreign key either.
        sa.Column("actor_id", sa.Uuid),
        sa.Index(None, "user_id", "id"),
        # For the check of known networks at a login, which an attacker can trigger at any rate.
        sa.Index(None, "user_id", "type", "network", "id"),
    )

    signing_keys = sa.Table(
        names.table("signing_keys"),
        metadata,
        # The RFC 7638 thumbprint of the public key.
        sa.Column("kid", sa.String(43), primary_key=True),
        sa.Column("algorithm", sa.String(10), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("public_jwk", sa.JSON, nullable=False),
        # Encrypted under the configured secret; null after the key is retired.
        sa.Column("private_key", sa.LargeBinary),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("activated_at", UTCDateTime),
        sa.Column("retired_at", UTCDateTime),
        sa.Column("published_until", UTCDateTime),
    )

    # The refresh tokens of a session with JWTs. A family is deleted with its session.
    refresh_families = sa.Table(
        names.table("refresh_families"),
        metadata,
        sa.Column(
            "session_id",
            sa.Uuid,
            sa.ForeignKey(sessions.c.id, ondelete="CASCADE"),
            primary_key=True,
        ),
        # The hash of the part that all tokens of the family share. Only a holder of one of the
        # tokens knows that part.
        sa.Column("family_hash", SecretHashType, nullable=False, unique=True),
        sa.Column("current_hash", SecretHashType, nullable=False),
        # The previous token. During a grace period, a client that presents it receives the current
        # token again, which is derived from the presented one and `nonce`. No token is stored.
        sa.Column("previous_hash", SecretHashType),
        sa.Column("nonce", sa.LargeBinary(32)),
        sa.Column("rotated_at", UTCDateTime),
    )

    # Tokens that were mailed to prove control of a mailbox. Each is bound to the state of the
    # account at that time, and a change of that state invalidates it.
    email_tokens = sa.Table(
        names.table("email_tokens"),
        metadata,
        sa.Column("id", sa.Uuid, primary_key=True),
        user_id(users),
        sa.Column("purpose", sa.String(20), nullable=False),
        sa.Column("secret_hash", SecretHashType, nullable=False, unique=True),
        # The address, in the canonical form and as the user entered it.
        sa.Column("email", sa.String(254), nullable=False, index=True),
        sa.Column("email_given", sa.String(254), nullable=False),
        sa.Column("password_version", sa.Integer, nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("expires_at", UTCDateTime, nullable=False, index=True),
    )

    # Jobs that run after the transaction that created them is committed: mail, webhooks.
    outbox = sa.Table(
        names.table("outbox"),
        metadata,
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("purpose", sa.String(40), nullable=False),
        # An entry that concerns an account is deleted with it.
        user_id(users, nullable=True),
        # Encrypted, because it contains addresses, and secrets that are not stored elsewhere.
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
        # The time of the next attempt. A worker that claims the entry moves it to the end of its
        # lease, so that no other worker claims it before.
        sa.Column("due_at", UTCDateTime, nullable=False),
        sa.Column("expires_at", UTCDateTime, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("error", sa.String(200)),
        # Set when the last attempt failed. The entry is kept for a while for an operator to
        # inspect.
        sa.Column("failed_at", UTCDateTime),
        # Entries of one kind and one receiver are claimed and counted together.
        sa.Column("receiver", sa.String(64), nullable=False, server_default=""),
        # In the order of claims. Queries sort by `failed_at` too, although it is null in all of
        # them: otherwise PostgreSQL would not use the order of the index, and would sort all due
        # entries.
        sa.Index(None, "kind", "failed_at", "receiver", "due_at", "id"),
    )

    # The outbox deletes what it has delivered: this tells when that last happened.
    last_deliveries = sa.Table(
        names.table("last_deliveries"),
        metadata,
        sa.Column("kind", sa.String(20), primary_key=True),
        sa.Column("receiver", sa.String(64), primary_key=True),
        sa.Column("delivered_at", UTCDateTime, nullable=False),
    )

    return Tables(
        **factor_tables(names, metadata, users),
        identities=identity_table(names, metadata, users),
        names=names,
        metadata=metadata,
        users=users,
        usernames=usernames,
        sessions=sessions,
        events=events,
        signing_keys=signing_keys,
        refresh_families=refresh_families,
        email_tokens=email_tokens,
        outbox=outbox,
        last_deliveries=last_deliveries,
    )
