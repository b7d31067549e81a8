"""The tables. A change here needs a migration; `authapi db check` tells when one is missing."""

import sqlalchemy as sa

from authapi.storage.types import PasswordHashType, RolesType, SecretHashType, UTCDateTime

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    # The one spelling by which an address is found and kept unique, computed in Python: databases
    # disagree about lower().
    sa.Column("email", sa.String(254), nullable=False, unique=True),
    sa.Column("email_given", sa.String(254), nullable=False),
    sa.Column("name", sa.String(200)),
    sa.Column("password_hash", PasswordHashType),
    sa.Column("is_active", sa.Boolean, nullable=False),
    sa.Column("is_superuser", sa.Boolean, nullable=False),
    sa.Column("email_confirmed_at", UTCDateTime),
    sa.Column("created_at", UTCDateTime, nullable=False),
    sa.Column("updated_at", UTCDateTime, nullable=False),
    # Null for an account that has chosen none: the service's own.
    sa.Column("locale", sa.String(35)),
    sa.Column("roles", RolesType, nullable=False, server_default=""),
    # How often the password was changed: what was sent by mail before is of no use after.
    sa.Column("password_version", sa.Integer, nullable=False, server_default="0"),
    # How accounts are listed, page by page.
    sa.Index(None, "created_at", "id"),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column(
        "user_id",
        sa.Uuid,
        sa.ForeignKey("users.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("kind", sa.String(16), nullable=False),
    # Null where the credential is signed and names the id, as a JWT does.
    sa.Column("secret_hash", SecretHashType, unique=True),
    sa.Column("name", sa.String(100)),
    # What it was given, or JSON's null for all that its user may do at the time of use.
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
    # Whether the cookie outlives the browser.
    sa.Column("remembered", sa.Boolean, nullable=False, server_default=sa.false()),
    # Of the secret that the browser had before this one: it may still be in a request under way.
    sa.Column("replaced_hash", SecretHashType, index=True),
    # JWTs for other services that were ended before their time: when that is, by `jti`.
    sa.Column("ended_jwts", sa.JSON(none_as_null=True)),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("at", UTCDateTime, nullable=False),
    sa.Column("type", sa.String(40), nullable=False),
    sa.Column("outcome", sa.String(10), nullable=False),
    # No foreign key: what happened stays true when the account or the session is gone.
    sa.Column("user_id", sa.Uuid),
    sa.Column("session_id", sa.Uuid),
    sa.Column("strategy", sa.String(64)),
    sa.Column("request_id", sa.String(32)),
    sa.Column("ip", sa.String(45)),
    sa.Column("user_agent", sa.String(255)),
    sa.Column("detail", sa.JSON, nullable=False),
    sa.Column("network", sa.String(45)),
    # Which superuser did it, where it was not the owner; no foreign key either.
    sa.Column("actor_id", sa.Uuid),
    sa.Index(None, "user_id", "id"),
    # Where an account was logged in from is asked while others guess at it, so at their rate.
    sa.Index(None, "user_id", "type", "network", "id"),
)

signing_keys = sa.Table(
    "signing_keys",
    metadata,
    # The RFC 7638 thumbprint of the public half.
    sa.Column("kid", sa.String(43), primary_key=True),
    sa.Column("algorithm", sa.String(10), nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("public_jwk", sa.JSON, nullable=False),
    # Sealed under the configured secret; null once it signs no more.
    sa.Column("private_key", sa.LargeBinary),
    sa.Column("created_at", UTCDateTime, nullable=False),
    sa.Column("activated_at", UTCDateTime),
    sa.Column("retired_at", UTCDateTime),
    sa.Column("published_until", UTCDateTime),
)

# What a session behind a JWT is renewed by. It ends with the session, whatever ends that.
refresh_families = sa.Table(
    "refresh_families",
    metadata,
    sa.Column(
        "session_id",
        sa.Uuid,
        sa.ForeignKey("sessions.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    # Of the part that all tokens of the family share: whoever knows it has held one of them.
    sa.Column("family_hash", SecretHashType, nullable=False, unique=True),
    sa.Column("current_hash", SecretHashType, nullable=False),
    # The token before, whose holder is given the current one again for a moment: derived from what
    # they present and `nonce`, so that no token can be read here.
    sa.Column("previous_hash", SecretHashType),
    sa.Column("nonce", sa.LargeBinary(32)),
    sa.Column("rotated_at", UTCDateTime),
)

# What was sent by mail, once, to prove that its reader has the mailbox. Bound to what was true of
# the account then, so that what has changed since makes it worthless.
one_time_secrets = sa.Table(
    "one_time_secrets",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column(
        "user_id",
        sa.Uuid,
        sa.ForeignKey("users.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("purpose", sa.String(20), nullable=False),
    sa.Column("secret_hash", SecretHashType, nullable=False, unique=True),
    # The address that it is about, as it is found by and as it was written.
    sa.Column("email", sa.String(254), nullable=False, index=True),
    sa.Column("email_given", sa.String(254), nullable=False),
    sa.Column("password_version", sa.Integer, nullable=False),
    sa.Column("created_at", UTCDateTime, nullable=False),
    sa.Column("expires_at", UTCDateTime, nullable=False, index=True),
)

# What is to be done once the transaction that asks for it is committed: mail, webhooks.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("purpose", sa.String(40), nullable=False),
    # What is about an account goes with it.
    sa.Column("user_id", sa.Uuid, sa.ForeignKey("users.id", ondelete="CASCADE"), index=True),
    # Sealed: it holds addresses, and secrets that are kept nowhere else.
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("created_at", UTCDateTime, nullable=False),
    # When it may be tried; whoever tries puts this off, so that nobody else does meanwhile.
    sa.Column("due_at", UTCDateTime, nullable=False),
    sa.Column("expires_at", UTCDateTime, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("error", sa.String(200)),
    # Set when it is given up: kept for a while, for somebody to look at.
    sa.Column("failed_at", UTCDateTime),
    # Of entries of one kind, those with the same receiver are claimed and counted together.
    sa.Column("receiver", sa.String(64), nullable=False, server_default=""),
    # In the order in which entries are claimed. Queries sort by `failed_at` too: PostgreSQL does
    # not know that all nulls are equal, and would sort all entries that are due.
    sa.Index(None, "kind", "failed_at", "receiver", "due_at", "id"),
)
