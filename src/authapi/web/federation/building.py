"""Builds the providers of an installation, which is imported only where there are any."""

from authapi.domain.federation.providers import NoProviders, Providers
from authapi.settings import Settings


def build_providers(settings: Settings) -> Providers:
    """Returns the providers of the settings. Raises ConfigurationError if one cannot be used."""
    if not settings.providers:
        return NoProviders()
    from authapi.outbound.upstreams.registry import Upstreams  # noqa: PLC0415  # few services

    return Upstreams(settings)
