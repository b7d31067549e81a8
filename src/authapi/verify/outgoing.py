"""Requests to an issuer: bounded in time and size, never redirected, not repeated in a hurry."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING

from authapi.crypto import strict_json
from authapi.web.outgoing.connections import looking_up_alone

if TYPE_CHECKING:
    import ssl

    import httpx

MAX_CONNECTIONS = 100
_MAX_BYTES = 512 * 1024


class Unreachable(Exception):
    """There is no answer, or none that could be used. Says nothing that the other side wrote."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    cache_control: str
    body: bytes = field(repr=False)

    def document(self) -> Mapping[str, object]:
        """The JSON object in it. Raises Unreachable if it is none, or not an answer of 200."""
        if self.status != 200:
            raise Unreachable(f"status {self.status}")
        try:
            value = strict_json.loads(self.body)
        except ValueError:
            raise Unreachable("no JSON") from None
        if not isinstance(value, dict):
            raise Unreachable("no JSON object")
        return value


class Outgoing:
    """Asks over connections that it keeps until it is closed."""

    def __init__(self, *, timeout: timedelta) -> None:
        self._timeout = timeout.total_seconds()
        self._http: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def get(self, url: str) -> Answer:
        """Raises Unreachable."""
        return await self._send("GET", url, {})

    async def post(
        self, url: str, form: Mapping[str, str], *, headers: Mapping[str, str]
    ) -> Answer:
        """`form` as application/x-www-form-urlencoded. Raises Unreachable."""
        return await self._send("POST", url, headers, form)

    async def close(self) -> None:
        """Close the connections. What is asked after that opens new ones."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        import httpx  # noqa: PLC0415  # a tenth of the import of authapi

        loop = asyncio.get_running_loop()
        if self._http is None or self._loop is not loop:
            # Not before it is asked: its connections belong to the event loop that runs now. Those
            # of a loop that is over cannot even be closed.
            self._loop = loop
            self._http = looking_up_alone(
                httpx.AsyncClient(
                    timeout=self._timeout,
                    verify=_tls(),
                    follow_redirects=False,
                    limits=httpx.Limits(max_connections=MAX_CONNECTIONS),
                )
            )
        # What is not compressed cannot be larger than it looks.
        asked = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
        try:
            # httpx bounds each step; this bounds all of them together.
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream(method, url, headers=asked, data=form) as response,
            ):
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise Unreachable("compressed")
                body = b""
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > _MAX_BYTES:
                        raise Unreachable("too long")
                cache_control = response.headers.get("cache-control", "")
                return Answer(response.status_code, cache_control, body)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise Unreachable(type(error).__name__) from None


@cache
def _tls() -> "ssl.SSLContext":
    # Reading the certificates of this machine takes a while, and once is enough for all.
    import httpx  # noqa: PLC0415

    return httpx.create_ssl_context()


class Backoff:
    """When what has failed may be tried again: after 1 second, then 2, 4 and so on."""

    def __init__(self, *, most: float) -> None:
        self._most = most
        self.failures = 0
        """In a row."""
        self._until = 0.0

    def succeeded(self) -> None:
        """Forget what failed."""
        self.failures = 0
        self._until = 0.0

    def failed(self) -> None:
        """Wait for twice as long as the last time, `most` seconds at most."""
        self.failures += 1
        # Bounded, as an outage may last for longer than a float has powers of two.
        self._until = monotonic() + min(2.0 ** min(self.failures - 1, 32), self._most)

    @property
    def is_over(self) -> bool:
        """Whether it may be tried now."""
        return monotonic() >= self._until

    @property
    def retry_after(self) -> int:
        """Whole seconds until then, one at least: for callers."""
        return max(ceil(round(self._until - monotonic(), 3)), 1)
