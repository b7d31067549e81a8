"""The providers of an installation."""

from collections.abc import Iterator
from typing import Protocol

from authapi.domain.federation.upstream import Upstream


class Providers(Protocol):
    """The providers of the settings, in their order."""

    def __iter__(self) -> Iterator[str]:
        """Yields the names."""

    def __len__(self) -> int:
        """Returns how many there are."""

    def __getitem__(self, name: str) -> Upstream:
        """Returns a provider. Raises KeyError for an unknown name."""

    def redirect_uri(self, name: str) -> str:
        """Returns the address to which a provider leads back, below the public URL."""

    async def aclose(self) -> None:
        """Ends the connections to the providers."""


class NoProviders(dict[str, Upstream]):
    """What an installation without providers has."""

    def redirect_uri(self, name: str) -> str:
        """Raises KeyError."""
        raise KeyError(name)

    async def aclose(self) -> None:
        """Does nothing."""
