"""Settings of an issuer: its data, its strategies and its rate limits."""

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from authapi.settings.accounts import AccountSettings
from authapi.settings.field_types import FilePath, Names, Rate, Rates, Secret, SecretURL
from authapi.settings.http import EdgeSettings
from authapi.settings.values.normalization import expand_home


def _default_data_dir() -> Path:
    # The XDG Base Directory Specification requires ignoring a relative path.
    base = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share")
    # Expanded as a given path is, so that `authapi config --changed` finds no difference.
    return expand_home((base if base.is_absolute() else Path("~/.local/share")) / "authapi")


class TableSettings(BaseSettings):
    """The names of the tables. `authapi.orm` reads only these."""

    model_config = EdgeSettings.model_config

    table_prefix: str = Field(default="authapi_", pattern="^[a-z_][a-z0-9_]*$", max_length=20)
    """Begins the names of all tables, and is part of the names of indexes and constraints."""
    database_schema: str | None = Field(default=None, pattern="^[a-z_][a-z0-9_]*$", max_length=63)
    """PostgreSQL schema of the tables. Default: the first one of the `search_path`."""


class IssuerSettings(AccountSettings, TableSettings):
    """Settings of an issuer."""

    data_dir: FilePath = Field(default_factory=_default_data_dir)
    """Folder of the embedded database and the generated secret, if these are not configured."""
    database_url: SecretURL = None
    """`postgresql://...` (a libpq connection URI) or `sqlite:///path`, both percent-encoded.
    Default: SQLite in the data folder."""
    secret: Secret = None
    """Root of all keys, at least 32 characters. Default: a generated one in the data folder."""
    secret_previous: Secret = None
    """The secret that `secret` replaces, while a rolling change is under way. Default: none."""
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
