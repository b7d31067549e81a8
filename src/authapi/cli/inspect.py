"""`authapi strategies`, `config`, `openapi`: print the configuration without opening a database."""

import json
from datetime import timedelta

from pydantic import SecretStr

from authapi.app import AuthAPI, create_app
from authapi.cli.application import selected, settings_of
from authapi.cli.terminal import JSONOption, print_one, print_rows
from authapi.strategies.base import Issuer, Renewable, Revocable


def strategies(as_json: JSONOption = False) -> None:
    """List the strategies in the order in which they are tried."""
    auth = selected() or AuthAPI(settings_of())
    rows: list[dict[str, object]] = [
        {
            "name": strategy.name,
            "class": f"{type(strategy).__module__}:{type(strategy).__name__}",
            "logs_in": isinstance(strategy, Issuer),
            "logs_out": isinstance(strategy, Revocable),
            "renews": isinstance(strategy, Renewable),
            "default": strategy.name == auth.settings.default_strategy,
        }
        for strategy in auth.runtime.registry
    ]
    print_rows(rows, as_json=as_json)


def config(as_json: JSONOption = False) -> None:
    """Print every setting with its effective value. Secrets are hidden."""
    settings = settings_of()
    row = {name: _to_json(getattr(settings, name)) for name in type(settings).model_fields}
    print_one(row, as_json=as_json)


def openapi() -> None:
    """Print the OpenAPI document."""
    auth = selected()
    app = create_app(settings_of()) if auth is None else auth.installed_app
    print(json.dumps(app.openapi(), indent=2))


def _to_json(value: object) -> object:
    if isinstance(value, SecretStr):
        return "(hidden)"
    if isinstance(value, timedelta):
        return int(value.total_seconds())
    if isinstance(value, tuple):
        return list(value)
    return value
