"""Every setting: its default, limits and unit. The only module that reads the environment.

A setting `name` is read from `AUTHAPI_NAME`, from a `.env` file, or, where it holds a secret, from
the file that `AUTHAPI_NAME_FILE` names. Nothing is read at import: `Settings()` reads.
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
from authapi.settings.edge import DOTENV, EdgeSettings
from authapi.settings.fields import (
    MIN_SECRET_LENGTH,
    FilePath,
    Grace,
    Lifetime,
    Names,
    Rate,
    Rates,
    Seconds,
    Secret,
    SecretURL,
    WholeSeconds,
)
from authapi.settings.files import REMEDY, readers_of
from authapi.settings.texts import expanded, is_homeless
from authapi.settings.unknown import describe, find_unknown, warn_once

__all__ = [
    "MIN_SECRET_LENGTH",
    "EdgeSettings",
    "Settings",
    "is_homeless",
    "load_edge_settings",
    "load_settings",
    "readers_of",
    "secret_files",
    "secrets_in_dotenv",
    "unknown_settings",
    "warn_of_unknown_settings",
]

_SECRETS = (
    "AUTHAPI_SECRET",
    "AUTHAPI_DATABASE_URL",
    "AUTHAPI_REDIS_URL",
    "AUTHAPI_MAIL_URL",
    "AUTHAPI_WEBHOOK_SECRET",
)
"""Variables whose values are secret, those with passwords in them included."""


def _default_data_dir() -> Path:
    # A relative path is invalid there, and ignored (XDG Base Directory Specification).
    base = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share")
    return (base if base.is_absolute() else Path("~/.local/share")) / "authapi"


def _is_guessable(secret: str) -> bool:
    # Thirty-two random characters of any alphabet have far more than ten different ones, and
    # examples from documentation say what they are.
    words = ("change", "secret", "example", "password", "default")
    return len(set(secret)) < 10 or any(word in secret.lower() for word in words)


def _has_default_password(url: str) -> bool:
    # What images and tutorials come with, or the name of the role over again (ASVS 13.2.3).
    try:
        parts = urlsplit(url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:  # what is no URL is told when it is used
        return False
    usual = {"admin", "authapi", "postgres", "redis", "root", "test", "valkey"}
    return bool(password) and (
        password.lower() in usual | {user.lower()}
        or password.startswith("change")
        or password == "password"
    )


class Settings(AccountSettings):
    """What the operator decides. Without any, authapi runs for development on this machine only."""

    _required: ClassVar[tuple[str, ...]] = ("secret", "public_url", "database_url")

    data_dir: FilePath = Field(default_factory=_default_data_dir)
    """Holds the embedded database and the generated secret, for the time that neither is given."""
    database_url: SecretURL = None
    """`postgresql://...` as libpq reads it, or `sqlite:///path`, percent-encoded both; without it,
    SQLite in the data folder."""
    secret: Secret = None
    """The root of all keys, 32 characters or more; without it, one is made in the data folder."""
    workers: int = Field(default=1, ge=1, le=64)
    """Server processes."""

    strategies: Names = ("session", "token", "jwt")
    """How callers may authenticate, in the order asked: names, or `module:Class` for your own."""
    default_strategy: str = "session"
    """What POST /login uses when the request names none."""

    redis_url: SecretURL = None
    """`redis://...` of a Redis or Valkey where several processes share their limits."""
    limit_account_and_network: Rates = "10/minute;30/hour"
    """Failed logins to one account from one network. Its hourly part lies well below
    `limit_account`, so that one network cannot use that up and keep the owner out elsewhere."""
    limit_account: Rate = "100/hour"
    """Failed logins to one account from all networks together."""
    limit_network: Rate = "100/minute"
    """Failed logins from one network to all accounts together."""
    limit_total: Rate = "3000/minute"
    """Failed logins altogether, and registrations altogether."""
    limit_registrations: Rate = "20/minute"
    """Registrations from one network."""
    limit_writes: Rates = "600/minute;6000/hour"
    """Changes that one account may make. What only ends logins and tokens is not counted."""

    session_idle: Lifetime = timedelta(days=1)
    """A cookie session ends when it is not used for this long."""
    session_absolute: Lifetime = timedelta(days=7)
    """A cookie session ends after this long, however much it is used."""
    remember_idle: Lifetime = timedelta(days=14)
    """`session_idle` for logins with `remember`."""
    remember_absolute: Lifetime = timedelta(days=90)
    """`session_absolute` for logins with `remember`, and the Max-Age of their cookie."""
    session_data_bytes: int = Field(default=4096, ge=2, le=65536)
    """How large the data kept with a session may be, as JSON."""
    last_seen_interval: Lifetime = timedelta(seconds=30)
    """Uses of a session are written down in batches, this far apart."""
    known_callers: int = Field(default=20_000, ge=0, le=10_000_000)
    """Callers that each process remembers, so that their next request needs no query; 0: none."""
    known_callers_max_age: Lifetime = timedelta(minutes=1)
    """How long one is remembered at most: bounds what changes rows and announces nothing."""
    known_callers_bound: Lifetime = timedelta(seconds=2)
    """After how long without news of other processes, on PostgreSQL, nobody is known any more."""
    token_lifetime: Lifetime = timedelta(days=30)
    """An opaque token from POST /login ends after this long."""
    personal_token_lifetime: Lifetime = timedelta(days=90)
    """A personal access token ends after this long unless it is made with another `expires_in`."""
    personal_token_max_lifetime: Lifetime = timedelta(days=366)
    """The longest `expires_in` that a personal access token may be made with."""
    jwt_lifetime: Lifetime = timedelta(minutes=10)
    """A JWT ends after this long."""
    jwt_audience: str = Field(default="authapi", min_length=1, max_length=255)
    """The `aud` of the JWTs that this service issues and accepts."""
    jwt_audiences: Names = ()
    """Other services that `POST /me/tokens` mints JWTs for: what they ask to find in `aud`."""
    jwt_algorithm: Literal["ES256", "RS256"] = "ES256"
    """What new signing keys are for; RS256 where somebody who verifies knows no other."""
    key_rotation: Lifetime = timedelta(days=90)
    """After so long, a signing key is followed by the next."""
    refresh_idle: Lifetime = timedelta(days=14)
    """A refresh token that is not used for this long ends, and the login with it."""
    refresh_absolute: Lifetime = timedelta(days=90)
    """A login with `jwt` ends after this long, however often it is refreshed."""
    refresh_grace: Grace = timedelta(seconds=30)
    """For so long a used refresh token gives the same successor again; after that it is theft."""
    max_sessions: int = Field(default=100, ge=1, le=100_000)
    """Logins of one account; where one more begins, that unused for the longest time ends."""
    max_personal_tokens: int = Field(default=100, ge=1, le=100_000)
    """Personal access tokens of one account; one more is refused."""
    leak_report_keys: FilePath | None = None
    """File with the public keys of the secret scanners that may report leaked tokens, in the form
    that GitHub publishes its own in; without it there is no `POST /tokens/leaked`."""

    password_min_length: int = Field(default=15, ge=8, le=1024)
    """Characters. NIST SP 800-63B-4 asks for 15 where the password is the only factor."""
    password_max_length: int = Field(default=1024, ge=64, le=1024)
    """Characters."""
    password_context_words: Names = ("authapi",)
    """Words that a new password may hold, but that count for nothing: product, company, host."""
    breached_passwords_url: str | None = Field(default=None, pattern=r"^(?i:https?)://")
    """A k-anonymity range API to ask of new passwords: gets five digits of a SHA-1 appended."""
    argon2_memory: int = Field(default=19456, ge=19456, le=1 << 20)
    """KiB for one hash. The default, and the least that is accepted, is OWASP's minimum."""
    argon2_passes: int = Field(default=2, ge=2, le=64)
    argon2_lanes: int = Field(default=1, ge=1, le=16)
    hash_concurrency: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=64)
    """Hashes computed at one time; each takes `argon2_memory`."""
    hash_queue: int = Field(default=64, ge=0, le=10_000)
    """Hashes that may wait; beyond that, requests are answered 503. When the queue is full, the
    network with most hashes in it makes room for a network with fewer."""

    prune_interval: Lifetime = timedelta(minutes=10)
    """How often ended sessions and old events are removed, by one process."""
    events_retention: Lifetime = timedelta(days=365)
    """How long security events are kept."""

    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Serve Prometheus metrics on this port of `host`, of all workers; by default nowhere."""
    metrics_path: str | None = Field(default=None, pattern="^/[a-z0-9/_-]+$")
    """Serve Prometheus metrics at this path of the service itself, to whoever asks."""

    migrate: bool | None = None
    """Bring the schema up to date at start; by default only SQLite's."""
    allow_sqlite: bool = False
    """Let production run on SQLite: one machine, one disk, no other host."""
    database_pool_size: int = Field(default=10, ge=1, le=1000)
    """Connections that each process may hold open."""
    database_pool_timeout: Seconds = Field(default=5.0, gt=0, le=300)
    """Seconds that a request waits for a connection before it is answered 503."""
    database_timeout: Seconds = Field(default=5.0, gt=0, le=300)
    """Seconds that one statement may take, or wait for a lock, before it is given up."""
    shutdown_delay: Seconds = Field(default=0.0, ge=0, le=300)
    """Seconds that the service goes on after SIGTERM, not ready any more, before it shuts down."""
    shutdown_timeout: WholeSeconds = Field(default=30, ge=1, le=3600)
    """Seconds that requests in flight have to finish after SIGTERM and `shutdown_delay`."""

    def _fit_together(self) -> None:
        super()._fit_together()
        if self.password_min_length > self.password_max_length:
            raise ValueError("password_min_length is greater than password_max_length")
        for name in ("session", "remember", "refresh"):
            if getattr(self, f"{name}_idle") > getattr(self, f"{name}_absolute"):
                raise ValueError(f"{name}_idle is longer than {name}_absolute")
        if self.personal_token_lifetime > self.personal_token_max_lifetime:
            raise ValueError("personal_token_lifetime is longer than personal_token_max_lifetime")
        if self.jwt_audience in self.jwt_audiences:
            raise ValueError("jwt_audiences names jwt_audience: a JWT for ourselves is a login")
        if not self.strategies:
            raise ValueError("strategies names none")

    def _fit_for_production(self) -> None:
        super()._fit_for_production()
        if self.is_embedded and not self.allow_sqlite:
            raise ValueError("production on SQLite needs AUTHAPI_ALLOW_SQLITE=true")
        if self.secret is not None and _is_guessable(self.secret.get_secret_value()):
            raise ValueError(
                "AUTHAPI_SECRET is no random text: make one with `openssl rand -hex 32`"
            )
        for name in ("database_url", "redis_url"):
            url: SecretStr | None = getattr(self, name)
            if url is not None and _has_default_password(url.get_secret_value()):
                raise ValueError(f"AUTHAPI_{name.upper()} holds a password that anybody would try")
        for variable, path in secret_files().items():
            if readers := readers_of(path):
                remedy = REMEDY[readers]
                raise ValueError(f"the file of {variable} can be read by {readers}: {remedy}")
        for path, names in secrets_in_dotenv().items():
            if readers := readers_of(path):
                held = ", ".join(names)
                raise ValueError(
                    f"{path} holds {held} and can be read by {readers}: {REMEDY[readers]}"
                )

    @property
    def is_embedded(self) -> bool:
        """Whether the database is SQLite, which authapi migrates by itself."""
        return self.resolved_database_url.startswith("sqlite")

    @property
    def metrics(self) -> bool:
        """Whether anything is counted for Prometheus."""
        return self.metrics_path is not None or self.metrics_port is not None

    @property
    def migrates(self) -> bool:
        """Whether a start brings the schema up to date."""
        return self.is_embedded if self.migrate is None else self.migrate

    @property
    def resolved_database_url(self) -> str:
        """The database URL, with the embedded default filled in."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        # Not resolved: with a symbolic link in it, the path stays as the operator wrote it.
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
        return init_settings, env_settings, _SecretFiles(settings_cls), dotenv_settings


def secret_files() -> Mapping[str, Path]:
    """The files that secrets are read from, by the variables that name them."""
    return {
        f"{variable}_FILE": _file(os.environ[f"{variable}_FILE"])
        for variable in _SECRETS
        if os.environ.get(f"{variable}_FILE") and not os.environ.get(variable)
    }


def _file(text: str) -> Path:
    return expanded(Path(text.strip("\r\n")))


def unknown_settings(kind: type[EdgeSettings]) -> Mapping[str, str]:
    """Variables that look like settings and that neither `kind` nor `Settings` reads.

    Each with a line that says so, and with the name that is most like it.
    """
    found = find_unknown({kind, Settings})
    return {name: describe(name, nearest) for name, nearest in found.items()}


def warn_of_unknown_settings(kind: type[EdgeSettings], *, silently: bool = False) -> None:
    """Log a warning for each of them, once in a process.

    `silently` only counts them as logged: the process that started this one has logged them.
    """
    warn_once(unknown_settings(kind), silently=silently)


def secrets_in_dotenv() -> Mapping[Path, tuple[str, ...]]:
    """The `.env` file, if it holds secrets, and the variables that it holds them in.

    Those too that the environment overrides: they can be read there all the same.
    """
    values = DotEnvSettingsSource(Settings).env_vars
    names = tuple(name for name in _SECRETS if values.get(name.lower()))
    return {Path(DOTENV): names} if names else {}


_MAX_SECRET_FILE = 64 * 1024
"""Bytes. A longer file holds no secret, and a device may have no end."""


class _SecretFiles(EnvSettingsSource):
    """Reads `AUTHAPI_X` from the file that `AUTHAPI_X_FILE` names, where X holds a secret."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        path = self.env_vars.get(f"authapi_{field_name}_file")
        if path is None or "SecretStr" not in str(field.annotation):
            return None, field_name, False
        try:
            with _file(path).open("rb") as file:
                content = file.read(_MAX_SECRET_FILE + 1)
            # With the byte order mark that some editors begin a file with.
            text = content.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError, ValueError):
            variable = f"AUTHAPI_{field_name.upper()}_FILE"
            raise ConfigurationError(f"{variable} names a file that cannot be read") from None
        if len(content) > _MAX_SECRET_FILE:
            variable = f"AUTHAPI_{field_name.upper()}_FILE"
            raise ConfigurationError(f"{variable} names a file of more than 64 KiB")
        return text, field_name, False


def load_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """The settings from the environment, `overrides` first.

    Raises ConfigurationError: one line that names each setting that is wrong, and no value.
    """
    return _load(Settings, overrides or {})


def load_edge_settings(overrides: Mapping[str, object] | None = None) -> EdgeSettings:
    """The same, of a service that only trusts others: no secret, no database."""
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
        # pydantic-settings wraps whatever a source raises, ours among them.
        if isinstance(error.__cause__, ConfigurationError):
            raise error.__cause__ from None
        raise ConfigurationError(str(error)) from None
