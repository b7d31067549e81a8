"""The settings for people and programs: effective values, without secrets, and descriptions.

The docstrings of the settings are read here, from the source, and not by pydantic
(`use_attribute_docstrings`): it would read them at each start of a service, in 30 ms.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from textwrap import wrap
from urllib.parse import urlsplit

from pydantic import BeforeValidator, SecretStr
from pydantic_settings import BaseSettings

from authapi.domain.monitoring.wording import duration_in_words
from authapi.settings.federation.options import OPTIONS, ProviderOptions
from authapi.settings.service import Settings
from authapi.settings.values.durations import as_seconds

HIDDEN = "(hidden)"
"""In place of a secret."""
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,-]*")
"""What a shell reads as one word without quotes."""


def described_settings(settings: Settings) -> Mapping[str, object]:
    """Returns each setting with its value, in the order of the settings. Secrets are hidden."""
    return {name: _plain(_shown(name, settings)) for name in type(settings).model_fields}


def described_setting(settings: Settings, name: str) -> str:
    """Returns the value of a setting in words; empty if it has none. Secrets are hidden."""
    return value_in_words(name, _shown(name, settings))


def origin_of(url: str) -> str:
    """Returns the scheme and the host: the rest of the URL of a receiver is often a secret."""
    parts = urlsplit(url)
    # Without a user name and a password.
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}"


def changed_settings(settings: Settings) -> Sequence[str]:
    """Returns the names of the settings that differ from their defaults."""
    return [
        name
        for name, field in type(settings).model_fields.items()
        if getattr(settings, name) != field.get_default(call_default_factory=True)
    ]


@dataclass(frozen=True, slots=True)
class Described:
    """The description of a setting."""

    name: str
    group: str
    """What its class says about its settings."""
    default: str
    """As a variable has it; empty without a default, or with one that depends on the machine."""
    text: str

    @property
    def variable(self) -> str:
        """The variable of the environment."""
        return f"AUTHAPI_{self.name.upper()}"


def reference() -> Sequence[Described]:
    """Returns the descriptions of all settings, in the order of `Settings`."""
    texts, groups = dict[str, str](), dict[str, str]()
    for kind in Settings.__mro__:
        if issubclass(kind, BaseSettings) and kind is not BaseSettings:
            for name, text in _docstrings(kind):
                texts[name], groups[name] = text, inspect.cleandoc(kind.__doc__ or "").split(".")[0]
    return [
        Described(name, groups[name], _default_in_words(name), texts[name])
        for name in Settings.model_fields
    ]


def provider_options() -> Sequence[tuple[str, str]]:
    """Returns the options of a provider, each with what it means."""
    return [(name, text) for name, text in _docstrings(ProviderOptions) if name in OPTIONS]


def template() -> str:
    """Returns an `.env` file with all settings as comments, with descriptions and defaults."""
    lines = ["# Settings of authapi. Remove the # before a line to change its setting.", ""]
    for it in reference():
        lines += [f"# {line}" for line in wrap(it.text, 98)]
        lines += [f"#{it.variable}={_quoted(it.default)}", ""]
    return "\n".join(lines)


def value_in_words(name: str, value: object) -> str:
    """Returns a value as its variable has it, with durations in words. Secrets are hidden."""
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return duration_in_words(value)
    if isinstance(value, float | int) and _is_seconds(name):
        return duration_in_words(timedelta(seconds=value))
    if name == "providers" and isinstance(value, Mapping):
        return ", ".join(value)
    if isinstance(value, Mapping):
        return "; ".join(
            f"{key}={text if isinstance(text, str) else ' '.join(sorted(text))}"
            for key, text in value.items()
        )
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _default_in_words(name: str) -> str:
    field = Settings.model_fields[name]
    if field.default_factory is not None:
        return ""
    return value_in_words(name, field.default)


def _is_seconds(name: str) -> bool:
    return any(
        isinstance(it, BeforeValidator) and it.func is as_seconds
        for it in Settings.model_fields[name].metadata
    )


def _docstrings(kind: type) -> Iterator[tuple[str, str]]:
    source = inspect.getsource(sys.modules[kind.__module__])
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
            for field, after in pairwise(node.body):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and isinstance(after, ast.Expr)
                    and isinstance(after.value, ast.Constant)
                ):
                    yield field.target.id, " ".join(str(after.value.value).split())


def _quoted(text: str) -> str:
    # A shell that reads the file must find one word, as the reader of `.env` does.
    return text if _PLAIN.fullmatch(text) else f"'{text}'"


def _shown(name: str, settings: Settings) -> object:
    if name == "webhook_urls":
        return tuple(origin_of(url) for url in settings.webhook_urls)
    return getattr(settings, name)


def _plain(value: object) -> object:
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, timedelta):
        return int(value.total_seconds())
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, ProviderOptions):
        given = value.model_fields_set
        return {it: _plain(getattr(value, it)) for it in OPTIONS if it in given}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
