"""The settings of authapi, with defaults, bounds and units.

A setting `name` is read from the variable `AUTHAPI_NAME` or from a `.env` file; a secret also from
the file that `AUTHAPI_NAME_FILE` names. They are read when `Settings()` is built, not at import.
"""

from authapi.settings.field_types import MIN_SECRET_LENGTH
from authapi.settings.http import EdgeSettings
from authapi.settings.loading import (
    load_edge_settings,
    load_settings,
    load_table_settings,
    unknown_settings,
    warn_unknown_settings,
)
from authapi.settings.secret_files import other_readers, secret_files, secrets_in_dotenv
from authapi.settings.service import Settings
from authapi.settings.values.normalization import has_unexpanded_home

__all__ = [
    "MIN_SECRET_LENGTH",
    "EdgeSettings",
    "Settings",
    "has_unexpanded_home",
    "load_edge_settings",
    "load_settings",
    "load_table_settings",
    "other_readers",
    "secret_files",
    "secrets_in_dotenv",
    "unknown_settings",
    "warn_unknown_settings",
]
