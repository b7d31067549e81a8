"""Reads providers from the variables `AUTHAPI_PROVIDERS` and `AUTHAPI_PROVIDER_<NAME>_<OPTION>`."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from authapi.settings.federation.options import OPTIONS
from authapi.settings.secret_files import read_secret_file

PROVIDERS = "authapi_providers"
_SECRET_OPTION_FILE = "client_secret_file"  # the name of an option
_VARIABLE = re.compile(
    rf"authapi_provider_(?P<name>[a-z][a-z0-9_]*?)_(?P<option>{'|'.join(OPTIONS)}|{_SECRET_OPTION_FILE})"
)
_OF_PROVIDER = re.compile(r"authapi_provider_(?P<name>[a-z][a-z0-9]*)_\w+", re.ASCII)


def similar_variables(present: Iterable[str]) -> Iterable[str]:
    """Returns the variables that the providers of `present` could have, in upper case."""
    names = set[str]()
    for variable in map(str.lower, present):
        if found := _VARIABLE.fullmatch(variable) or _OF_PROVIDER.fullmatch(variable):
            names.add(found["name"])
    for name in names:
        for option in (*OPTIONS, _SECRET_OPTION_FILE):
            yield f"authapi_provider_{name}_{option}".upper()


def parse_providers(text: str) -> dict[str, dict[str, Any]]:
    """Returns the options by provider of JSON, or of names and `module:Class`, by commas.

    Raises ValueError, which does not repeat the text, if it is neither.
    """
    if not text.lstrip().startswith(("{", "[")):
        return {part: {} for part in text.replace(",", " ").split()}
    try:
        value = json.loads(text, object_pairs_hook=_unique_members)
    except (ValueError, RecursionError):
        raise ValueError("is not valid JSON, or names something twice") from None
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {name: {} for name in value}
    if isinstance(value, dict) and all(isinstance(it, dict) for it in value.values()):
        return value
    raise ValueError("must be names by commas, or a JSON object with the options of each provider")


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")  # one of the two would have no effect
    return members


class ProviderVariables(PydanticBaseSettingsSource):
    """A source of the setting `providers`. `variables` have names in lower case."""

    def __init__(
        self, settings_cls: type[BaseSettings], variables: Mapping[str, str | None]
    ) -> None:
        super().__init__(settings_cls)
        self._variables = variables

    @classmethod
    def has_any(cls, variables: Mapping[str, str | None]) -> bool:
        """Whether one of `variables` is about providers."""
        return PROVIDERS in variables or any(_OF_PROVIDER.fullmatch(name) for name in variables)

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Returns no value: `__call__` returns that of the one field."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Returns the value of `providers`.

        A value that cannot be read is returned as it is: the check of the setting refuses it.
        Raises ConfigurationError if the file of a client secret cannot be read.
        """
        listed = self._variables.get(PROVIDERS) or ""
        try:
            providers = parse_providers(listed)
        except ValueError:
            return {"providers": listed}
        for variable, value in sorted(self._variables.items()):
            found = _VARIABLE.fullmatch(variable)
            if found is None or not value:
                continue
            options = providers.setdefault(found["name"].replace("_", "-"), {})
            if found["option"] == _SECRET_OPTION_FILE:
                secret = read_secret_file(variable.upper(), value)
                options.setdefault("client_secret", secret)
            else:
                options.setdefault(found["option"], value)
        return {"providers": providers} if providers else {}
