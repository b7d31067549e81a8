"""`Settings`: all settings of the service, and the checks of their combination."""

import os
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, ClassVar, Literal, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
)

from authapi.settings.federation.settings import FederationSettings
from authapi.settings.federation.variables import ProviderVariables
from authapi.settings.field_types import Duration, Seconds, SecretURL, WholeSeconds
from authapi.settings.secret_files import (
    CHMOD_FIX,
    SECRET_FILE,
    SecretFilesSource,
    other_readers,
    secret_files,
    secrets_in_dotenv,
)
from authapi.settings.unknown_variables import check_names

_only_arguments: ContextVar[bool] = ContextVar("authapi_only_arguments", default=False)
"""Whether the settings that are being built read no environment, `.env` file and secret file."""


def _is_guessable(secret: str) -> bool:
    # 32 random characters of any alphabet contain far more than ten different ones. Examples in
    # documentation contain one of these words.
    words = ("change", "secret", "example", "password", "default")
    return len(set(secret)) < 10 or any(word in secret.lower() for word in words)


def is_default_password(user: str, password: str) -> bool:
    """Returns whether `password` is one of images and tutorials, or the name of its role.

    Those of a database are refused in production (ASVS 13.2.3).
    """
    defaults = {"admin", "authapi", "postgres", "redis", "root", "test", "valkey"}
    return bool(password) and (
        password.lower() in defaults | {user.lower()}
        or password.startswith("change")
        or password == "password"
    )


def _has_default_password(url: str) -> bool:
    # In PostgreSQL and Redis, the query may have the password too, and the name of the role.
    try:
        parts = urlsplit(url)
        given = parse_qs(parts.query)
        users = [unquote(parts.username or ""), *given.get("user", []), *given.get("username", [])]
        passwords = [unquote(parts.password or ""), *given.get("password", [])]
    except ValueError:  # an invalid URL is reported where it is used
        return False
    return any(is_default_password(user, password) for user in users for password in passwords)


class Settings(FederationSettings):
    """All settings of an issuer. The defaults are for development on this machine.

    `Settings(name=value)` takes its arguments first, then the environment, secret files and `.env`.

    Raises pydantic.ValidationError for invalid values, and ConfigurationError for an argument that
    is not a setting; `load_settings` raises only ConfigurationError.
    """

    _required: ClassVar[tuple[str, ...]] = ("secret", "public_url", "database_url")

    prune_interval: Duration = timedelta(minutes=10)
    """Interval at which one process deletes ended sessions and old events."""
    events_retention: Duration = timedelta(days=365)
    """Security events are deleted after this time."""

    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Port of `host` for Prometheus metrics of all workers. Default: none."""
    metrics_path: str | None = Field(default=None, pattern="^/[a-z0-9/_-]+$")
    """Path of the service itself for Prometheus metrics, without authentication. Default: none."""

    database_direct_url: SecretURL = None
    """URL of the same PostgreSQL database without a pooler, for migrations and notifications.
    Default: `database_url`."""
    database_pooler: Literal["transaction"] | None = None
    """`transaction` if the pooler at `database_url` gives a session to another client after each
    transaction. Default: none, or a pooler in session mode."""
    migrate: bool | None = None
    """Upgrade the schema at start. Default: only on SQLite."""
    allow_sqlite: bool = False
    """Permit SQLite in production: one machine, one disk, no other host."""
    database_pool_size: int = Field(default=10, ge=1, le=1000)
    """Maximum database connections of each process. On PostgreSQL, three tenths only look up
    callers."""
    database_pool_timeout: Seconds = Field(default=5.0, gt=0, le=300)
    """Seconds that a request waits for a connection; then it gets 503."""
    database_timeout: Seconds = Field(default=5.0, gt=0, le=300)
    """Seconds that one statement may take, or wait for a lock; then it is cancelled."""
    shutdown_delay: Seconds = Field(default=0.0, ge=0, le=300)
    """Seconds between SIGTERM, after which the service is not ready, and the shutdown."""
    shutdown_timeout: WholeSeconds = Field(default=30, ge=1, le=3600)
    """Seconds in which requests in progress must finish, after SIGTERM and `shutdown_delay`."""

    @classmethod
    def isolated(cls, **values: Any) -> Self:
        """Returns settings of these arguments and the defaults, without environment and `.env`.

        It is for tests. Raises as the class does.
        """
        token = _only_arguments.set(True)
        try:
            return cls(**values)
        finally:
            _only_arguments.reset(token)

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
        if self.database_schema is not None and self.is_embedded:
            raise ValueError(
                "database_schema needs PostgreSQL: SQLite has no schemas, but table_prefix works"
            )
        if self.database_schema is not None and self.database_schema.startswith("pg_"):
            raise ValueError("database_schema must not begin with pg_, which PostgreSQL reserves")
        if not self.strategies:
            raise ValueError("strategies must not be empty")
        self._check_pooler()

    def _check_pooler(self) -> None:
        for name in ("database_direct_url", "database_pooler"):
            if getattr(self, name) is not None and self.is_embedded:
                raise ValueError(f"{name} needs PostgreSQL: there is no pooler before SQLite")
        if (self.direct_url or "").strip().lower().startswith("sqlite"):
            raise ValueError("database_direct_url must name a PostgreSQL database, not SQLite")
        if self.database_pooler is None:
            return
        if self.database_direct_url is None:
            raise ValueError(
                f"database_pooler={self.database_pooler} needs AUTHAPI_DATABASE_DIRECT_URL:"
                " migrations and change notifications cannot go through that pooler"
            )

    def _check_production(self) -> None:
        super()._check_production()
        for name in ("allow_reserved_addresses", "cheap_hashes"):
            if getattr(self, name):
                raise ValueError(f"AUTHAPI_{name.upper()} is for tests, and refused in production")
        if self.is_embedded and not self.allow_sqlite:
            raise ValueError("production on SQLite needs AUTHAPI_ALLOW_SQLITE=true")
        if self.secret is not None and _is_guessable(self.secret.get_secret_value()):
            raise ValueError("AUTHAPI_SECRET is not random: create one with `openssl rand -hex 32`")
        for name in ("database_url", "database_direct_url", "redis_url"):
            url: SecretStr | None = getattr(self, name)
            if url is not None and _has_default_password(url.get_secret_value()):
                raise ValueError(f"AUTHAPI_{name.upper()} contains a default password")
        if _only_arguments.get():
            return
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
        return self.resolved_database_url.strip().lower().startswith("sqlite")

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

    @property
    def direct_url(self) -> str | None:
        """`database_direct_url`, or None if it is not set."""
        url = self.database_direct_url
        return None if url is None else url.get_secret_value()

    @property
    def resolved_direct_url(self) -> str:
        """The URL for what must not pass a pooler that shares sessions between clients."""
        return self.direct_url or self.resolved_database_url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        if isinstance(init_settings, InitSettingsSource):
            check_names(init_settings.init_kwargs, cls.model_fields)
        if _only_arguments.get():
            return (init_settings,)
        sources = [init_settings, env_settings]
        variables = {
            **getattr(dotenv_settings, "env_vars", {}),
            **getattr(env_settings, "env_vars", {}),
        }
        if ProviderVariables.has_any(variables):
            # Before the environment, whose text it replaces; arguments are merged with it.
            sources.insert(1, ProviderVariables(settings_cls, variables))
        # A source looks at each field, which takes milliseconds, also where it has no values.
        # Variables of other programs, such as SSL_CERT_FILE, are not for it.
        files = SecretFilesSource(settings_cls)
        if any(SECRET_FILE.fullmatch(name) for name in files.env_vars):
            sources.append(files)
        if isinstance(dotenv_settings, DotEnvSettingsSource) and dotenv_settings.env_vars:
            sources.append(dotenv_settings)
        return tuple(sources)
