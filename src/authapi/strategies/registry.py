"""Loads the strategies that the settings name: built-in ones and `module:Class`."""

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from authapi.errors import ConfigurationError
from authapi.services import Services
from authapi.strategies.base import Issuer, Strategy

BUILT_IN: Mapping[str, str] = {
    "session": "authapi.strategies.session:SessionStrategy",
    "token": "authapi.strategies.token:TokenStrategy",
    "jwt": "authapi.strategies.jwt:JWTStrategy",
    "basic": "authapi.strategies.basic:BasicStrategy",
}


def built_in_name(kind: type) -> str | None:
    """Returns the name of a built-in strategy by its class, without importing any; else None."""
    path = f"{kind.__module__}:{kind.__qualname__}"
    return next((name for name, found in BUILT_IN.items() if found == path), None)


_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Registry:
    """The strategies of one application, in the order of its settings.

    Raises ConfigurationError if a name is not snake_case or occurs twice.
    """

    def __init__(self, strategies: Iterable[Strategy[Any]]) -> None:
        self._by_name: dict[str, Strategy[Any]] = {}
        for strategy in strategies:
            if not _NAME.fullmatch(strategy.name):
                raise ConfigurationError(
                    f"invalid strategy name {strategy.name!r}: it must be snake_case"
                )
            if strategy.name in self._by_name:
                raise ConfigurationError(f"two strategies have the name {strategy.name!r}")
            self._by_name[strategy.name] = strategy

    @classmethod
    def load(cls, services: Services) -> "Registry":
        """Imports and creates the strategies that the settings name.

        Raises ConfigurationError if a name is unknown, a class cannot be imported or is not a
        Strategy, two strategies have one name, or the default strategy cannot issue credentials.
        """
        settings = services.settings
        registry = cls(_load_class(name)(services) for name in settings.strategies)
        if registry.issuers and settings.default_strategy not in registry.issuers:
            raise ConfigurationError(
                f"AUTHAPI_DEFAULT_STRATEGY: {settings.default_strategy!r} is not among the "
                f"strategies that support login: {', '.join(registry.issuers)}"
            )
        return registry

    def __iter__(self) -> Iterator[Strategy[Any]]:
        return iter(self._by_name.values())

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Strategy[Any]:
        return self._by_name[name]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of the settings."""
        return tuple(self._by_name)

    @property
    def issuers(self) -> Mapping[str, Issuer[Any]]:
        """The strategies that issue credentials, by name."""
        return {name: item for name, item in self._by_name.items() if isinstance(item, Issuer)}

    def in_order(self, names: Sequence[str]) -> tuple[Strategy[Any], ...]:
        """Returns the strategies `names`, or all if `names` is empty; ambient ones come last.

        A client sends a header deliberately, while a browser attaches a cookie by itself. Raises
        KeyError for an unknown name.
        """
        strategies = [self._by_name[name] for name in names or self.names]
        return tuple(sorted(strategies, key=lambda strategy: strategy.ambient))


def _load_class(name: str) -> type[Strategy[Any]]:
    path = BUILT_IN.get(name, name)
    module_name, colon, class_name = path.partition(":")
    if not colon:
        raise ConfigurationError(
            f"AUTHAPI_STRATEGIES: unknown strategy {name!r}; "
            f"use {', '.join(BUILT_IN)} or module:Class"
        )
    try:
        strategy_class = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"AUTHAPI_STRATEGIES: cannot load {name!r}: {error}") from None
    if not isinstance(strategy_class, type) or not issubclass(strategy_class, Strategy):
        raise ConfigurationError(f"AUTHAPI_STRATEGIES: {name!r} is not a Strategy")
    return strategy_class
