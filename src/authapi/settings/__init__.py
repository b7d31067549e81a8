"""The settings of authapi, with defaults, bounds and units.

A setting `name` is read from the variable `AUTHAPI_NAME` or from a `.env` file; a secret also from
the file that `AUTHAPI_NAME_FILE` names. They are read when `Settings()` is built, not at import.
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar
from urllib.parse import quote, unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsError,
)

from authapi.errors import ConfigurationError
from authapi.settings.accounts import AccountSettings
from authapi.settings.field_types import (
    MIN_SECRET_LENGTH,
    Duration,
    FilePath,
    Names,
    Rate,
    Rates,
    Seconds,
    Secret,
    SecretURL,
    ShortDuration,
    WholeSeconds,
)
from authapi.settings.file_permissions import CHMOD_FIX, other_readers
from authapi.settings.http import DOTENV, EdgeSettings
from authapi.settings.normalization import expand_home, has_unexpanded_home
from authapi.settings.unknown_variables import describe, find_unknown_variables, warn_once

__all__ = [
    "MIN_SECRET_LENGTH",
    "EdgeSettings",
    "Settings",
    "has_unexpanded_home",
    "load_edge_settings",
    "load_settings",
    "other_readers",
    "secret_files",
    "secrets_in_dotenv",
    "unknown_settings",
    "warn_unknown_settings",
]

_SECRETS = (
    "AUTHAPI_SECRET",
    "AUTHAPI_DATABASE_URL",
    "AUTHAPI_REDIS_URL",
    "AUTHAPI_MAIL_URL",
    "AUTHAPI_WEBHOOK_SECRET",
)
"""Variables whose values are secrets, or URLs that may contain a password."""


def _default_data_dir() -> Path:
    # The XDG Base Directory Specification requires ignoring a relative path.
    base = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share")
    return (base if base.is_absolute() else Path("~/.local/share")) / "authapi"


def _is_guessable(secret: str) -> bool:
    # 32 random characters of any alphabet contain far more than ten different ones. Examples in
    # documentation contain one of these words.
    words = ("change", "secret", "example", "password", "default")
    return len(set(secret)) < 10 or any(word in secret.lower() for word in words)


def _has_default_password(url: str) -> bool:
    # Defaults of images and tutorials, or the name of the role as its password (ASVS 13.2.3).
    try:
        parts = urlsplit(url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:  # an invalid URL is reported where it is used
        return False
    defaults = {"admin", "authapi", "postgres", "redis", "root", "test", "valkey"}
    return bool(password) and (
        password.lower() in defaults | {user.lower()}
        or password.startswith("change")
        or password == "password"
    )


class Settings(AccountSettings):
    """All settings of an issuer. The defaults are for development on this machine.

    Raises pydantic.ValidationError for invalid values; `load_settings` raises ConfigurationError.
    """

    _required: ClassVar[tuple[str, ...]] = ("secret", "public_url", "database_url")

    data_dir: FilePath = Field(default_factory=_default_data_dir)
    """Folder of the embedded database and the generated secret, if these are not configured."""
    database_url: SecretURL = None
    """`postgresql://...` (a libpq connection URI) or `sqlite:///path`, both percent-encoded.
    Default: SQLite in the data folder."""
    secret: Secret = None
    """Root of all keys, at least 32 characters. Default: a generated one in the data folder."""
    workers: int = Field(default=1, ge=1, le=64)
    """Number of server processes."""

    strategies: Names = ("session", "token", "jwt")
    """Strategies in the order in which they are tried: built-in names or `module:Class`."""
    default_strategy: str = "session"
    """Strategy of `POST /login` if the request names none."""

    redis_url: SecretURL = None
    """`redis://...` of a Redis or Valkey in which several processes share rate limit counters."""
    limit_account_and_network: Rates = "10/minute;30/hour"
    """Failed logins to one account from one network. The hourly rate is well below `limit_account`,
    so that one network cannot exhaust that and lock the owner out in other networks."""
    limit_account: Rate = "100/hour"
    """Failed logins to one account from all networks together."""
    limit_network: Rate = "100/minute"
    """Failed logins from one network to all accounts together."""
    limit_total: Rate = "3000/minute"
    """Failed logins in total, and separately registrations in total."""
    limit_registrations: Rate = "20/minute"
    """Registrations from one network."""
    limit_writes: Rates = "600/minute;6000/hour"
    """Write requests of one account. Requests that only end logins and tokens do not count."""

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
    max_sessions: int = Field(default=100, ge=1, le=100_000)
    """Maximum logins of one account. A further login ends the one that was unused for longest."""
    max_personal_tokens: int = Field(default=100, ge=1, le=100_000)
    """Maximum personal access tokens of one account. Creating a further one fails."""
    leak_report_keys: FilePath | None = None
    """File with the public keys of secret scanners that may report leaked tokens, in the format of
    GitHub. Without it, `POST /tokens/leaked` does not exist."""

    password_min_length: int = Field(default=15, ge=8, le=1024)
    """Characters. NIST SP 800-63B-4 requires 15 if the password is the only factor."""
    password_max_length: int = Field(default=1024, ge=64, le=1024)
    """Characters."""
    password_context_words: Names = ("authapi",)
    """Words that do not count towards the strength of a new password: product, company, host."""
    breached_passwords_url: str | None = Field(default=None, pattern=r"^(?i:https?)://")
    """A k-anonymity range API for breached passwords; five digits of a SHA-1 are appended."""
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

    prune_interval: Duration = timedelta(minutes=10)
    """Interval at which one process deletes ended sessions and old events."""
    events_retention: Duration = timedelta(days=365)
    """Security events are deleted after this time."""

    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Port of `host` for Prometheus metrics of all workers. Default: none."""
    metrics_path: str | None = Field(default=None, pattern="^/[a-z0-9/_-]+$")
    """Path of the service itself for Prometheus metrics, without authentication. Default: none."""

    migrate: bool | None = None
    """Upgrade the schema at start. Default: only on SQLite."""
    allow_sqlite: bool = False
    """Permit SQLite in production: one machine, one disk, no other host."""
    database_pool_size: int = Field(default=10, ge=1, le=1000)
    """Maximum database connections of each process."""
    database_pool_timeout: Seconds = Field(default=5.0, gt=0, le=300)
    """Seconds that a request waits for a connection; then it gets 503."""
    database_timeout: Seconds = Field(default=5.0, gt=0, le=300)
    """Seconds that one statement may take, or wait for a lock; then it is cancelled."""
    shutdown_delay: Seconds = Field(default=0.0, ge=0, le=300)
    """Seconds between SIGTERM, after which the service is not ready, and the shutdown."""
    shutdown_timeout: WholeSeconds = Field(default=30, ge=1, le=3600)
    """Seconds in which requests in progress must finish, after SIGTERM and `shutdown_delay`."""

    def _check_consistency(self) -> None:
        super()._check_consistency()
        if self.password_min_length > self.password_max_length:
            raise ValueError("password_min_length is greater than password_max_length")
        for name in ("session", "remember", "refresh"):
            if getattr(self, f"{name}_idle") > getattr(self, f"{name}_absolute"):
                raise ValueError(f"{name}_idle is longer than {name}_absolute")
        if self.personal_token_lifetime > self.personal_token_max_lifetime:
            raise ValueError("personal_token_lifetime is longer than personal_token_max_lifetime")
        if self.jwt_audience in self.jwt_audiences:
            raise ValueError(
                "jwt_audiences must not contain jwt_audience: a JWT for this service is a login"
            )
        if not self.strategies:
            raise ValueError("strategies must not be empty")

    def _check_production(self) -> None:
        super()._check_production()
        if self.is_embedded and not self.allow_sqlite:
            raise ValueError("production on SQLite needs AUTHAPI_ALLOW_SQLITE=true")
        if self.secret is not None and _is_guessable(self.secret.get_secret_value()):
            raise ValueError("AUTHAPI_SECRET is not random: create one with `openssl rand -hex 32`")
        for name in ("database_url", "redis_url"):
            url: SecretStr | None = getattr(self, name)
            if url is not None and _has_default_password(url.get_secret_value()):
                raise ValueError(f"AUTHAPI_{name.upper()} contains a default password")
        for variable, path in secret_files().items():
            if readers := other_readers(path):
                fix = CHMOD_FIX[readers]
                raise ValueError(f"the file of {variable} is readable by {readers}: {fix}")
        for path, names in secrets_in_dotenv().items():
            if readers := other_readers(path):
                contents = ", ".join(names)
                raise ValueError(
                    f"{path} contains {contents} and is readable by {readers}: {CHMOD_FIX[readers]}"
                )

    @property
    def is_embedded(self) -> bool:
        """Whether the database is SQLite, whose schema authapi upgrades itself by default."""
        return self.resolved_database_url.startswith("sqlite")

    @property
    def metrics(self) -> bool:
        """Whether Prometheus metrics are collected."""
        return self.metrics_path is not None or self.metrics_port is not None

    @property
    def migrates(self) -> bool:
        """Whether the schema is upgraded at start."""
        return self.is_embedded if self.migrate is None else self.migrate

    @property
    def resolved_database_url(self) -> str:
        """The database URL, by default that of SQLite in the data folder."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        # Symbolic links are not resolved, so that the path stays as configured.
        return f"sqlite:///{quote(os.fsencode(self.data_dir.absolute() / 'authapi.db'))}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources = [init_settings, env_settings]
        # A source looks at each field, which takes a millisecond, also where it has no values.
        files = _SecretFiles(settings_cls)
        if any(name.endswith("_file") for name in files.env_vars):
            sources.append(files)
        if isinstance(dotenv_settings, DotEnvSettingsSource) and dotenv_settings.env_vars:
            sources.append(dotenv_settings)
        return tuple(sources)


def secret_files() -> Mapping[str, Path]:
    """Returns the files from which secrets are read, by the variables that name them."""
    return {
        f"{variable}_FILE": _secret_path(os.environ[f"{variable}_FILE"])
        for variable in _SECRETS
        if os.environ.get(f"{variable}_FILE") and not os.environ.get(variable)
    }


def _secret_path(text: str) -> Path:
    return expand_home(Path(text.strip("\r\n")))


def unknown_settings(kind: type[EdgeSettings]) -> Mapping[str, str]:
    """Returns a warning for each `AUTHAPI_*` variable that neither `kind` nor `Settings` reads."""
    found = find_unknown_variables({kind, Settings})
    return {name: describe(name, nearest) for name, nearest in found.items()}


def warn_unknown_settings(kind: type[EdgeSettings], *, silently: bool = False) -> None:
    """Logs these warnings once per process.

    `silently` only marks them as logged, for a process whose parent has logged them.
    """
    warn_once(unknown_settings(kind), silently=silently)


def secrets_in_dotenv() -> Mapping[Path, tuple[str, ...]]:
    """Returns the `.env` file with the variables of the secrets in it; empty if there are none.

    Includes secrets that the environment overrides, because other users may read those too.
    """
    values = DotEnvSettingsSource(Settings).env_vars
    names = tuple(name for name in _SECRETS if values.get(name.lower()))
    return {Path(DOTENV): names} if names else {}


_MAX_SECRET_FILE = 64 * 1024
"""Bytes. A limit, because a path may name a device without an end."""


class _SecretFiles(EnvSettingsSource):
    """Reads a secret setting X from the file that `AUTHAPI_X_FILE` names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        path = self.env_vars.get(f"authapi_{field_name}_file")
        if path is None or "SecretStr" not in str(field.annotation):
            return None, field_name, False
        try:
            with _secret_path(path).open("rb") as file:
                content = file.read(_MAX_SECRET_FILE + 1)
            # `utf-8-sig` removes the byte order mark that some editors write.
            text = content.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError, ValueError):
            variable = f"AUTHAPI_{field_name.upper()}_FILE"
            raise ConfigurationError(f"{variable} names a file that cannot be read") from None
        if len(content) > _MAX_SECRET_FILE:
            variable = f"AUTHAPI_{field_name.upper()}_FILE"
            raise ConfigurationError(f"{variable} names a file of more than 64 KiB")
        return text, field_name, False


def load_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """Reads the settings. `overrides` take precedence over the environment.

    Raises ConfigurationError with one line that names each invalid setting, and never its value.
    """
    return _load(Settings, overrides or {})


def load_edge_settings(overrides: Mapping[str, object] | None = None) -> EdgeSettings:
    """Reads the settings of a resource server, as `load_settings` does."""
    return _load(EdgeSettings, overrides or {})


_Kind = TypeVar("_Kind", bound=EdgeSettings)


def _load(kind: type[_Kind], overrides: Mapping[str, object]) -> _Kind:
    try:
        return kind(**dict(overrides))  # type: ignore[arg-type]  # pydantic validates
    except ValidationError as error:
        problems = []
        for item in error.errors(include_input=False, include_url=False, include_context=False):
            name = f"AUTHAPI_{str(item['loc'][0]).upper()}: " if item["loc"] else ""
            problems.append(name + item["msg"].removeprefix("Value error, "))
        raise ConfigurationError("; ".join(problems)) from None
    except SettingsError as error:
        # pydantic-settings wraps the errors of sources, also those of `_SecretFiles`.
        if isinstance(error.__cause__, ConfigurationError):
            raise error.__cause__ from None
        raise ConfigurationError(str(error)) from None
