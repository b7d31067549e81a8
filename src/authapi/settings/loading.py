"""Loads the settings from the environment, the `.env` file and secret files."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsError

from authapi.errors import ConfigurationError
from authapi.settings.http import DOTENV, EdgeSettings
from authapi.settings.issuer import TableSettings
from authapi.settings.service import Settings
from authapi.settings.unknown_variables import describe, find_unknown_variables, warn_once
from authapi.settings.values.problems import problem_in_words


def load_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """Reads the settings. `overrides` take precedence over the environment.

    Raises ConfigurationError with one line that names each invalid setting, and never its value.
    """
    return _load(Settings, overrides or {})


def load_edge_settings(overrides: Mapping[str, object] | None = None) -> EdgeSettings:
    """Reads the settings of a resource server, as `load_settings` does."""
    return _load(EdgeSettings, overrides or {})


def load_table_settings() -> TableSettings:
    """Reads the names of the tables only, as `load_settings` does."""
    return _load(TableSettings, {})


def unknown_settings(kind: type[EdgeSettings]) -> Mapping[str, str]:
    """Returns a warning for each `AUTHAPI_*` variable that neither `kind` nor `Settings` reads."""
    try:
        found = find_unknown_variables({kind, Settings})
    except UnicodeDecodeError:  # loading the settings refuses this `.env`
        return {}
    return {name: describe(name, nearest) for name, nearest in found.items()}


def warn_unknown_settings(kind: type[EdgeSettings], *, silently: bool = False) -> None:
    """Logs these warnings once per process.

    `silently` only marks them as logged, for a process whose parent has logged them.
    """
    warn_once(unknown_settings(kind), silently=silently)


_HINT = "`authapi config --describe` says what each setting takes"
_Kind = TypeVar("_Kind", bound=BaseSettings)


def _load(kind: type[_Kind], overrides: Mapping[str, object]) -> _Kind:
    try:
        return kind(**dict(overrides))  # type: ignore[arg-type]  # pydantic validates
    except ValidationError as error:
        problems, items = [], error.errors(include_input=False, include_url=False)
        for item in items:
            name = f"AUTHAPI_{str(item['loc'][0]).upper()}: " if item["loc"] else ""
            problems.append(name + problem_in_words(item))
        refusal = ConfigurationError("; ".join(problems))
        if all(item["type"] != "value_error" for item in items):  # our own words say what to do
            refusal.hint = _HINT
        raise refusal from None
    except UnicodeDecodeError:  # a secret file that is not UTF-8 has its own error
        raise ConfigurationError(f"{DOTENV} is not UTF-8") from None
    except SettingsError as error:
        # pydantic-settings wraps the errors of sources, also those of `SecretFilesSource`.
        if isinstance(error.__cause__, ConfigurationError):
            raise error.__cause__ from None
        raise ConfigurationError(str(error)) from None
