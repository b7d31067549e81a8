"""Asks a k-anonymity range API whether a password is known from a breach (OWASP ASVS 6.2.12).

Five digits of the password's SHA-1 leave this machine, and some hundred candidates come back; which
of them was meant stays here. Off unless `breached_passwords_url` is set.
"""

import asyncio
import hashlib
from typing import TYPE_CHECKING

from authapi.services.passwords import BreachCheck
from authapi.settings import Settings
from authapi.web.outgoing.connections import looking_up_alone

if TYPE_CHECKING:
    import httpx

_PREFIX = 5
_TIMEOUT = 1.0
_MAX_BYTES = 1 << 20


class RangeCheck:
    """Asks the API at `url`, over connections that it keeps until it is closed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, password: str) -> bool:
        """Whether `password` is known from a breach. Raises OSError if the API cannot tell."""
        import httpx  # noqa: PLC0415  # a tenth of the import of authapi, and off by default

        # The API is keyed by SHA-1; nothing rests on its strength here.
        data = password.encode("utf-8", "surrogatepass")
        digest = hashlib.sha1(data, usedforsecurity=False).hexdigest().upper()
        prefix = digest[:_PREFIX]
        if self._loop is not asyncio.get_running_loop():
            self._http = None  # its connections belong to an event loop that is over
        has_kept_one = self._http is not None
        try:
            try:
                lines = await self._range(prefix)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                if not has_kept_one:
                    raise
                # A connection from before, which the other end closed in this very moment.
                lines = await self._range(prefix)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OSError("no answer from the range API") from error
        return any(_names(line, digest[_PREFIX:]) for line in lines)

    async def close(self) -> None:
        """Close the connections. What is asked after that opens new ones."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def _range(self, prefix: str) -> list[str]:
        import httpx  # noqa: PLC0415

        if self._http is None:
            # Not before it is asked: its certificates take a while to load, and it belongs to the
            # event loop that runs now.
            self._loop = asyncio.get_running_loop()
            self._http = looking_up_alone(
                httpx.AsyncClient(timeout=_TIMEOUT, follow_redirects=False)
            )
        # Padding keeps the length of the answer from telling which range was asked for.
        headers = {"Add-Padding": "true"}
        async with self._http.stream("GET", self._url + prefix, headers=headers) as response:
            response.raise_for_status()
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise OSError("the answer of the range API is too long")
        return body.decode("ascii", "replace").splitlines()


def range_check(settings: Settings) -> BreachCheck | None:
    """The check that the settings ask for, or None."""
    url = settings.breached_passwords_url
    return None if url is None else RangeCheck(url)


def _names(line: str, suffix: str) -> bool:
    found, _, count = line.partition(":")
    return found.strip().upper() == suffix and count.strip() != "0"
