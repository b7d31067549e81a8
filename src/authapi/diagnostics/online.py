"""The check that asks the service itself, at its public URL. Only a command runs it."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

from authapi.domain.monitoring.findings import Finding
from authapi.outbound.http_client import HTTPClient, RequestFailed
from authapi.outbound.issuers.metadata import metadata_urls
from authapi.settings import Settings

_TIMEOUT = timedelta(seconds=10)
_REMEDY = "check AUTHAPI_PUBLIC_URL, the name of its host, and the proxy"


def check_public_url(settings: Settings) -> Iterator[Finding]:
    """Whether this service answers at its public URL."""
    url, _ = metadata_urls(settings.issuer)
    try:
        issuer = asyncio.run(_ask(url))
    except RequestFailed as error:
        fact = f"{url} does not answer as authapi does ({error})"
        yield Finding.advising("public url", "error", fact, _REMEDY)
        return
    if issuer != settings.issuer:
        fact = f"{url} belongs to another service"
        yield Finding.advising("public url", "error", fact, _REMEDY)
    else:
        yield Finding("public url", "ok", f"{settings.issuer} answers")


async def _ask(url: str) -> object:
    client = HTTPClient(timeout=_TIMEOUT)
    try:
        response = await client.get(url)
        if response.status != 200:
            raise RequestFailed(f"status {response.status}")
        return response.document().get("issuer")
    finally:
        await client.close()
