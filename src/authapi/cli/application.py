"""The application whose settings, hooks and engine the commands use: `authapi --app module:name`.

Without it, the commands use the settings of the environment.
"""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from authapi.errors import AuthAPIError, ConfigurationError
from authapi.outbound.breaches import build_breach_check
from authapi.outbound.webhooks import build_webhook_post
from authapi.services import Services
from authapi.settings import Settings, load_settings

if TYPE_CHECKING:
    from authapi.app import AuthAPI

_selected: "list[AuthAPI]" = []
"""The `AuthAPI` of the option `--app`; empty without it."""


def select(path: str) -> None:
    """Imports the `AuthAPI` that `path` names, from the current folder or an installed package.

    Raises ConfigurationError if there is none, and the errors of its module.
    """
    from authapi.app import AuthAPI  # the web framework

    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise ConfigurationError("--app needs module:name, such as myapp.main:auth")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: object = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ConfigurationError(f"--app: there is no module {module_name}") from None
    for name in attribute.split("."):
        found = getattr(found, name, None)
    if not isinstance(found, AuthAPI):
        raise ConfigurationError(f"--app: {path} is not an AuthAPI")
    _selected[:] = [found]


def selected() -> "AuthAPI | None":
    """Returns the `AuthAPI` of the option `--app`, or None without it."""
    return _selected[0] if _selected else None


def settings_of(overrides: Mapping[str, object] | None = None) -> Settings:
    """Returns the settings of the application, or those of the environment.

    Raises ConfigurationError as `load_settings` does.
    """
    auth = selected()
    return load_settings(overrides) if auth is None else auth.settings


def complete_role(incomplete: str) -> list[str]:
    """Returns the names of roles that begin in this way, for the completion of a shell."""
    try:
        return [name for name in settings_of().roles if name.startswith(incomplete)]
    except AuthAPIError:
        return []  # a shell shows no error


def build_services(settings: Settings) -> Services:
    """Creates services with the hooks and the engine of the application, if there is one.

    Raises ConfigurationError as `Services.build` does.
    """
    auth = selected()
    if auth is not None:
        return auth.build_services(own_pool=True)
    return Services.build(
        settings, breached=build_breach_check(settings), post=build_webhook_post(settings)
    )
