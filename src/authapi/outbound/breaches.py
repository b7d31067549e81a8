"""Checks passwords against the Pwned Passwords range API (k-anonymity; OWASP ASVS 6.2.12).

The request contains the first five hexadecimal digits of the SHA-1 of the password. The response
lists the suffixes of several hundred hashes, so the API does not learn the password. The check is
off unless `breached_passwords_url` is set.
"""

import asyncio
import hashlib
from typing import TYPE_CHECKING

from authapi.outbound.isolated_lookups import isolate_lookups
from authapi.services.passwords import BreachCheck
from authapi.settings import Settings

if TYPE_CHECKING:
    import httpx

_PREFIX_LENGTH = 5
_TIMEOUT = 1.0
"""Seconds."""
_MAX_BYTES = 1 << 20


class PwnedPasswordsCheck:
    """Queries the range API at `url`. Connections are kept open until `close`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, password: str) -> bool:
        """Whether `password` is known from a data breach.

        Raises OSError if the API does not answer with a valid response.
        """
        import httpx  # noqa: PLC0415  # a tenth of the import time of authapi, off by default

        # The API requires SHA-1; the check does not depend on its strength.
        data = password.encode("utf-8", "surrogatepass")
        digest = hashlib.sha1(data, usedforsecurity=False).hexdigest().upper()
        prefix, suffix = digest[:_PREFIX_LENGTH], digest[_PREFIX_LENGTH:]
        if self._loop is not asyncio.get_running_loop():
            self._http = None  # its connections belong to a closed event loop
        may_reuse_connection = self._http is not None
        try:
            try:
                lines = await self._fetch_range(prefix)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                if not may_reuse_connection:
                    raise
                # The API may have closed a kept connection at the moment of the request.
                lines = await self._fetch_range(prefix)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OSError("no answer from the range API") from error
        return any(_matches(line, suffix) for line in lines)

    async def close(self) -> None:
        """Closes the connections. Later calls open new ones."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def _fetch_range(self, prefix: str) -> list[str]:
        import httpx  # noqa: PLC0415

        if self._http is None:
            # Created on first use: loading the CA certificates takes time, and the connections
            # belong to the running event loop.
            self._loop = asyncio.get_running_loop()
            self._http = isolate_lookups(
                httpx.AsyncClient(timeout=_TIMEOUT, follow_redirects=False)
            )
        # With padding, the length of the response does not reveal the range.
        headers = {"Add-Padding": "true"}
        async with self._http.stream("GET", self._url + prefix, headers=headers) as response:
            response.raise_for_status()
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise OSError("the response of the range API is too long")
        return body.decode("ascii", "replace").splitlines()


def build_breach_check(settings: Settings) -> BreachCheck | None:
    """The breach check, or None if `breached_passwords_url` is not set."""
    url = settings.breached_passwords_url
    return None if url is None else PwnedPasswordsCheck(url)


def _matches(line: str, suffix: str) -> bool:
    # Padding lines have the count 0.
    candidate, _, count = line.partition(":")
    return candidate.strip().upper() == suffix and count.strip() != "0"
