"""The effective settings for people and programs, without secrets."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from pydantic import SecretStr

from authapi.settings.service import Settings

HIDDEN = "(hidden)"
"""In place of a secret."""


def described_settings(settings: Settings) -> Mapping[str, object]:
    """Returns each setting with its value, in the order of the settings. Secrets are hidden."""
    return {name: _plain(getattr(settings, name)) for name in type(settings).model_fields}


def changed_settings(settings: Settings) -> Sequence[str]:
    """Returns the names of the settings that differ from their defaults."""
    return [
        name
        for name, field in type(settings).model_fields.items()
        if getattr(settings, name) != field.get_default(call_default_factory=True)
    ]


def _plain(value: object) -> object:
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, timedelta):
        return int(value.total_seconds())
    if isinstance(value, tuple):
        return list(value)
    return value
