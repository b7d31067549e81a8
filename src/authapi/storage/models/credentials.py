"""The tables of second factors, of logins that wait for one, and of identities at providers."""

import sqlalchemy as sa

from authapi.storage.column_types import SecretHashType, UTCDateTime
from authapi.storage.models.accounts import user_id
from authapi.storage.names import TableNames


def identity_table(names: TableNames, metadata: sa.MetaData, users: sa.Table) -> sa.Table:
    """Returns the table of the people at providers who may log in to accounts."""
    return sa.Table(
        names.table("identities"),
        metadata,
        sa.Column("id", sa.Uuid, primary_key=True),
        user_id(users),
        sa.Column("provider", sa.String(40), nullable=False),
        # Both together identify a person. The unique constraint decides which account has them.
        sa.Column("issuer", sa.String(255), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        # What the provider sent last. It never changes the account.
        sa.Column("email", sa.String(254)),
        sa.Column("email_verified", sa.Boolean, nullable=False),
        sa.Column("name", sa.String(200)),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("last_login_at", UTCDateTime),
        # How the person authenticated there at the last login, as far as the provider says it.
        sa.Column("auth_context", sa.JSON(none_as_null=True)),
        sa.UniqueConstraint("issuer", "subject"),
    )


def factor_tables(names: TableNames, metadata: sa.MetaData, users: sa.Table) -> dict[str, sa.Table]:
    """Returns the tables of second factors, and of logins that wait for one."""
    # A login whose first factor was proved, and whose second one is due. It is never a session.
    login_tickets = sa.Table(
        names.table("login_tickets"),
        metadata,
        sa.Column("id", sa.Uuid, primary_key=True),
        user_id(users),
        sa.Column("secret_hash", SecretHashType, nullable=False, unique=True),
        sa.Column("purpose", sa.String(13), nullable=False),
        # What the login asked for.
        sa.Column("strategy", sa.String(64), nullable=False),
        sa.Column("remember", sa.Boolean, nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        # What the first factor proved, and the state of the account at that time.
        sa.Column("amr", sa.JSON, nullable=False),
        sa.Column("credentials_version", sa.Integer, nullable=False),
        # Counted before a code is compared.
        sa.Column("attempts", sa.Integer, nullable=False),
        # The hash of the cookie of the browser that began; null for logins without a cookie.
        sa.Column("browser_hash", SecretHashType, index=True),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("expires_at", UTCDateTime, nullable=False, index=True),
        # What a provider has proved, and whom to link once the login is complete; null for other
        # logins. Unlinking ends the tickets of the account.
        sa.Column("federated", sa.JSON(none_as_null=True)),
    )

    # The authenticator app of an account. A row that is not confirmed gates nothing.
    totp_factors = sa.Table(
        names.table("totp_factors"),
        metadata,
        sa.Column("id", sa.Uuid, primary_key=True),
        user_id(users),
        # Encrypted under the configured secret.
        sa.Column("secret", sa.LargeBinary, nullable=False),
        # The time step of the last accepted code. A step is accepted once, in increasing order.
        sa.Column("last_step", sa.BigInteger, nullable=False),
        # The session and the state of the account that the enrolment began with.
        sa.Column("session_id", sa.Uuid),
        sa.Column("credentials_version", sa.Integer, nullable=False),
        # Wrong codes since the last right one.
        sa.Column("failures", sa.Integer, nullable=False),
        # When the owner was last told of wrong codes.
        sa.Column("owner_told_at", UTCDateTime),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("confirmed_at", UTCDateTime),
        sa.Column("last_used_at", UTCDateTime),
        # When an enrolment that is not confirmed ends; null once it is confirmed.
        sa.Column("expires_at", UTCDateTime, index=True),
    )
    # One authenticator app for each account. Both databases have partial indexes.
    is_confirmed = totp_factors.c.confirmed_at.is_not(None)
    sa.Index(
        f"ix_{totp_factors.name}_confirmed",
        totp_factors.c.user_id,
        unique=True,
        postgresql_where=is_confirmed,
        sqlite_where=is_confirmed,
    )

    recovery_codes = sa.Table(
        names.table("recovery_codes"),
        metadata,
        user_id(users, index=False, primary_key=True),
        sa.Column("code_hash", SecretHashType, primary_key=True),
        sa.Column("created_at", UTCDateTime, nullable=False),
        # Null until the code is used.
        sa.Column("used_at", UTCDateTime),
    )
    passkeys = sa.Table(
        names.table("passkeys"),
        metadata,
        sa.Column("id", sa.Uuid, primary_key=True),
        user_id(users),
        sa.Column("credential_id", sa.LargeBinary(1023), nullable=False),
        # The SHA-256 of `credential_id`, which is too long for an index. It decides which account
        # has the passkey.
        sa.Column("credential_hash", sa.LargeBinary(32), nullable=False, unique=True),
        # A COSE key.
        sa.Column("public_key", sa.LargeBinary, nullable=False),
        sa.Column("algorithm", sa.Integer, nullable=False),
        # The signature counter of the authenticator at the last use.
        sa.Column("sign_count", sa.BigInteger, nullable=False),
        sa.Column("transports", sa.JSON, nullable=False),
        sa.Column("aaguid", sa.Uuid, nullable=False),
        # Whether the authenticator may copy the passkey to other devices: it never changes.
        sa.Column("backup_eligible", sa.Boolean, nullable=False),
        sa.Column("backed_up", sa.Boolean, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("last_used_at", UTCDateTime),
    )

    # Challenges are not stored when they are issued, only when they are used. The primary key
    # decides which request uses one.
    used_challenges = sa.Table(
        names.table("used_challenges"),
        metadata,
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("expires_at", UTCDateTime, nullable=False, index=True),
    )
    return {
        "login_tickets": login_tickets,
        "totp_factors": totp_factors,
        "recovery_codes": recovery_codes,
        "passkeys": passkeys,
        "used_challenges": used_challenges,
    }
