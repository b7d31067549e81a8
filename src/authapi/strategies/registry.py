"""Finds strategies by name: those of the settings, built-in or `module:Class`, through one door."""

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from authapi.errors import ConfigurationError
from authapi.services import Services
from authapi.strategies.base import Issuer, Strategy

BUILT_IN: Mapping[str, str] = {
    "session": "authapi.strategies.session:SessionStrategy",
    "token": "authapi.strategies.token:TokenStrategy",
    "jwt": "authapi.strategies.jwt:JWTStrategy",
    "basic": "authapi.strategies.basic:BasicStrategy",
}

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Registry:
    """The strategies of one application, in the order of its settings."""

    def __init__(self, strategies: Iterable[Strategy]) -> None:
        self._by_name: dict[str, Strategy] = {}
        for strategy in strategies:
            if not _NAME.fullmatch(strategy.name):
                raise ConfigurationError(f"{strategy.name!r} is no name for a strategy: snake_case")
            if strategy.name in self._by_name:
                raise ConfigurationError(f"two strategies are named {strategy.name!r}")
            self._by_name[strategy.name] = strategy

    @classmethod
    def load(cls, services: Services) -> "Registry":
        """Import and build the strategies that the settings name. Raises ConfigurationError."""
        settings = services.settings
        registry = cls(_load(name)(services) for name in settings.strategies)
        if registry.issuers and settings.default_strategy not in registry.issuers:
            raise ConfigurationError(
                f"AUTHAPI_DEFAULT_STRATEGY: {settings.default_strategy!r} is not among the "
                f"strategies that can log in: {', '.join(registry.issuers)}"
            )
        return registry

    def __iter__(self) -> Iterator[Strategy]:
        return iter(self._by_name.values())

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Strategy:
        return self._by_name[name]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of the settings."""
        return tuple(self._by_name)

    @property
    def issuers(self) -> Mapping[str, Issuer]:
        """Those that a login can end in, by name."""
        return {name: found for name, found in self._by_name.items() if isinstance(found, Issuer)}

    def in_order(self, names: Sequence[str]) -> tuple[Strategy, ...]:
        """The strategies `names`, or all if there are none: what is sent on purpose comes first.

        A caller that sends a header means it; a cookie comes along by itself.
        """
        chosen = [self._by_name[name] for name in names or self.names]
        return tuple(sorted(chosen, key=lambda strategy: strategy.ambient))


def _load(name: str) -> type[Strategy]:
    path = BUILT_IN.get(name, name)
    module_name, colon, class_name = path.partition(":")
    if not colon:
        known = ", ".join(BUILT_IN)
        raise ConfigurationError(
            f"AUTHAPI_STRATEGIES: unknown strategy {name!r}; there are {known}, or module:Class"
        )
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"AUTHAPI_STRATEGIES: cannot load {name!r}: {error}") from None
    if not isinstance(found, type) or not issubclass(found, Strategy):
        raise ConfigurationError(f"AUTHAPI_STRATEGIES: {name!r} is no Strategy")
    return found
