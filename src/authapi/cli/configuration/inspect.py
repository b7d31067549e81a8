"""`authapi strategies` and `authapi openapi`: print what an installation offers."""

import json

from authapi.app import AuthAPI, create_app
from authapi.cli.application import selected, settings_of
from authapi.cli.terminal.options import JSONOption, PlainOption
from authapi.cli.terminal.tables import print_list
from authapi.strategies.base import Issuer, Renewable, Revocable


def strategies(plain: PlainOption = False, as_json: JSONOption = False) -> None:
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
    print_list(rows, empty="No strategies.", as_json=as_json, plain=plain)


def openapi() -> None:
    """Print the OpenAPI document."""
    auth = selected()
    app = create_app(settings_of()) if auth is None else auth.installed_app
    print(json.dumps(app.openapi(), indent=2))
