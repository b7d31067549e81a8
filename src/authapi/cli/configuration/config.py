"""`authapi config`: prints, describes and compares the settings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import typer

from authapi.cli.application import settings_of
from authapi.cli.terminal.options import JSONOption
from authapi.cli.terminal.tables import print_list, print_one
from authapi.errors import ConfigurationError
from authapi.settings import Settings
from authapi.settings.descriptions import (
    Described,
    changed_settings,
    described_setting,
    described_settings,
    reference,
    template,
)


def config(
    describe: Annotated[
        bool, typer.Option("--describe", help="Describe each setting, with its default.")
    ] = False,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only settings that differ from their defaults.")
    ] = False,
    env: Annotated[
        bool, typer.Option("--env", help="Print an .env file with all defaults as comments.")
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Print every setting with its effective value. Secrets are hidden."""
    if env:
        if describe or changed or as_json:
            raise ConfigurationError("--env takes no other option")
        print(template(), end="")
    elif describe:
        names = changed_settings(settings_of()) if changed else Settings.model_fields
        _describe([it for it in reference() if it.name in names], as_json=as_json)
    else:
        _print(settings_of(), changed=changed, as_json=as_json)


def _print(settings: Settings, *, changed: bool, as_json: bool) -> None:
    names: Iterable[str] = changed_settings(settings) if changed else type(settings).model_fields
    values: Mapping[str, object]
    if as_json:
        described = described_settings(settings)
        values = {name: described[name] for name in names}
    else:
        values = {name: described_setting(settings, name) or None for name in names}
    if values or as_json:
        print_one(values, as_json=as_json)
    else:
        print_list([], empty="All settings have their defaults.", as_json=False)


def _describe(settings: Sequence[Described], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {"name": it.name, "variable": it.variable, "default": it.default, "text": it.text}
            for it in settings
        ]
        print_list(rows, empty="", as_json=True)
        return
    for it in settings:
        print(f"{it.variable}{_default(it)}\n    {it.text}\n")


def _default(setting: Described) -> str:
    if setting.default:
        return f"  ({setting.default})"
    # A default that is no plain value is described by the text.
    return "" if "default" in setting.text.lower() else "  (no default)"
