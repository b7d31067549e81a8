"""Settings of credentials: sessions, tokens, signing keys, passwords and second factors."""

import os
from datetime import timedelta
from typing import Literal

from pydantic import Field

from authapi.settings.field_types import (
    Duration,
    FilePath,
    Names,
    PasskeyOrigins,
    RangeAPI,
    Rates,
    ShortDuration,
)
from authapi.settings.issuer import IssuerSettings


class CredentialSettings(IssuerSettings):
    """Settings of credentials, and of the cache of their identities."""

    session_idle: Duration = timedelta(days=1)
    """A cookie session ends if it is unused for this time."""
    session_absolute: Duration = timedelta(days=7)
    """A cookie session ends this long after the login, even if it is in use."""
    remember_idle: Duration = timedelta(days=14)
    """`session_idle` for logins with `remember`."""
    remember_absolute: Duration = timedelta(days=90)
    """`session_absolute` for logins with `remember`, and the Max-Age of their cookie."""
    session_data_bytes: int = Field(default=4096, ge=2, le=65536)
    """Maximum size of the data of a session, in bytes of JSON."""
    last_seen_interval: Duration = timedelta(seconds=30)
    """Interval at which the last use of sessions is written to the database, in batches."""
    identity_cache_size: int = Field(default=20_000, ge=0, le=10_000_000)
    """Identities that each process caches; a cached caller costs no query. 0 disables the cache."""
    identity_cache_ttl: Duration = timedelta(minutes=1)
    """Maximum age of a cached identity, also after changes that authapi did not make."""
    identity_cache_max_staleness: Duration = timedelta(seconds=2)
    """On PostgreSQL, the cache is disabled after this time without contact to other processes."""
    token_lifetime: Duration = timedelta(days=30)
    """Lifetime of an opaque token of `POST /login`."""
    personal_token_lifetime: Duration = timedelta(days=90)
    """Lifetime of a personal access token if the request has no `expires_in`."""
    personal_token_max_lifetime: Duration = timedelta(days=366)
    """Maximum `expires_in` of a personal access token."""
    jwt_lifetime: Duration = timedelta(minutes=10)
    """Lifetime of a JWT."""
    jwt_audience: str = Field(default="authapi", min_length=1, max_length=255)
    """The `aud` of JWTs for this service itself."""
    jwt_audiences: Names = ()
    """The `aud` values of other services for which `POST /me/tokens` may issue JWTs."""
    jwt_algorithm: Literal["ES256", "RS256"] = "ES256"
    """Algorithm of new signing keys. RS256 is for verifiers that do not support ES256."""
    key_rotation: Duration = timedelta(days=90)
    """A signing key is replaced by the next after this time."""
    refresh_idle: Duration = timedelta(days=14)
    """A refresh token ends if it is unused for this time, and its login with it."""
    refresh_absolute: Duration = timedelta(days=90)
    """A login with `jwt` ends after this time, even if it is refreshed."""
    refresh_grace: ShortDuration = timedelta(seconds=30)
    """A refresh token that is used again within this time returns the same successor. A later use
    counts as theft and ends the login."""
    password_grant: Literal["docs", "on", "off"] = "docs"
    """The password grant of `POST /token`, which OAuth 2.1 removes. `docs`: only while the docs
    page, whose dialog uses it, is served. `on`: always. `off`: never."""
    max_sessions: int = Field(default=100, ge=1, le=100_000)
    """Maximum logins of one account. A further login ends the one that was unused for longest."""
    max_personal_tokens: int = Field(default=100, ge=1, le=100_000)
    """Maximum personal access tokens of one account. Creating a further one fails."""
    leak_report_keys: FilePath | None = None
    """File with the public keys of secret scanners that may report leaked tokens, in the format of
    GitHub. Without it, `POST /tokens/leaked` does not exist."""

    password_min_length: int = Field(default=15, ge=8, le=1024)
    """Characters. NIST SP 800-63B-4 requires 15 if the password is the only factor, and 8 with
    `mfa=required`."""
    password_max_length: int = Field(default=1024, ge=64, le=1024)
    """Characters."""
    password_context_words: Names = ("authapi",)
    """Words that do not count towards the strength of a new password: product, company, host."""
    breached_passwords_url: RangeAPI = None
    """A k-anonymity range API for breached passwords; five digits of a SHA-1 are appended."""
    cheap_hashes: bool = False
    """Hash passwords at the lowest cost that argon2id has, instead of the `argon2_` settings. For
    tests; refused in production."""
    argon2_memory: int = Field(default=19456, ge=19456, le=1 << 20)
    """Memory for one hash in KiB. The default and lower bound is the minimum of OWASP."""
    argon2_passes: int = Field(default=2, ge=2, le=64)
    """Iterations of argon2id."""
    argon2_lanes: int = Field(default=1, ge=1, le=16)
    """Degree of parallelism of argon2id."""
    hash_concurrency: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=64)
    """Hashes computed concurrently; each takes `argon2_memory`. Default: the number of CPUs."""
    hash_queue: int = Field(default=64, ge=0, le=10_000)
    """Hashes that may wait; further requests get 503. If the queue is full, the network with the
    most hashes in it loses one to a network with fewer."""

    @property
    def allows_password_grant(self) -> bool:
        """Whether `POST /token` accepts the password grant."""
        return self.password_grant == "on" or (self.password_grant == "docs" and self.docs_enabled)


class FactorSettings(CredentialSettings):
    """Settings of second factors, and of logins that wait for one."""

    mfa: Literal["off", "optional", "required"] = "optional"
    """Second factors. `optional`: an account may add one, and its logins must prove it then.
    `required`: every account must have one; a login without one goes on with adding it. `off`: no
    account can add one; accounts that have one are still asked for it."""
    mfa_required_roles: Names = ()
    """Roles that count only in logins with a second factor. Accounts with such a role must have
    one, and personal access tokens never have the scopes of the role."""
    mfa_required_superusers: bool = False
    """Superusers must have a second factor, and are superusers only in logins with it."""
    totp_issuer: str | None = Field(default=None, min_length=1, max_length=64, pattern="^[^:]+$")
    """The name of this service in authenticator apps. Default: the name in `mail_from`, or the
    host of `public_url`."""
    login_ticket_lifetime: ShortDuration = timedelta(minutes=5)
    """How long a login waits for its second factor."""
    passkeys: Literal["on", "second_factor", "off"] = "on"
    """Passkeys. `second_factor`: a login needs the password too. `off`: they prove nothing, and no
    account can add one."""
    passkey_rp_id: str | None = Field(
        default=None, max_length=253, pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)*$"
    )
    """The domain that passkeys belong to (RP ID): the host of `public_url`, which is the default,
    or a parent domain of it. A change makes all passkeys useless."""
    passkey_origins: PasskeyOrigins = ()
    """Further origins whose pages may use the passkeys, and apps for Android as
    `android:apk-key-hash:...`."""
    max_passkeys: int = Field(default=20, ge=1, le=100)
    """Passkeys of one account. Adding a further one fails."""
    recovery_codes: int = Field(default=10, ge=8, le=16)
    """Recovery codes that an account gets with its first second factor."""
    limit_second_factor: Rates = "5/5 minutes;30/day"
    """Wrong codes of authenticator apps for one account, from networks that it does not know."""
    limit_second_factor_known: Rates = "20/5 minutes;60/day"
    """Wrong codes of authenticator apps for one account, from networks that it was logged in to
    recently."""

    def _check_consistency(self) -> None:
        super()._check_consistency()
        if missing := set(self.mfa_required_roles).difference(self.roles):
            raise ValueError(f"mfa_required_roles contains an unknown role: {min(missing)}")
        if self.mfa == "off" and (self.mfa_required_roles or self.mfa_required_superusers):
            raise ValueError(
                "mfa=off contradicts mfa_required_roles and mfa_required_superusers: no account "
                "could add the second factor"
            )
