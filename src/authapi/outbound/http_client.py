"""HTTP requests to an issuer, with limits on time and size and without redirects."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING

from authapi.crypto import strict_json
from authapi.outbound.isolated_lookups import isolate_lookups

if TYPE_CHECKING:
    import ssl

    import httpx

MAX_CONNECTIONS = 100
_MAX_BYTES = 512 * 1024


class RequestFailed(Exception):
    """There is no response, or no usable one. The text never repeats what the server sent."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response whose body was read completely."""

    status: int
    cache_control: str
    body: bytes = field(repr=False)

    def document(self) -> Mapping[str, object]:
        """Parses the body. Raises RequestFailed unless it is a 200 with a JSON object."""
        if self.status != 200:
            raise RequestFailed(f"status {self.status}")
        try:
            value = strict_json.loads(self.body)
        except ValueError:
            raise RequestFailed("no JSON") from None
        if not isinstance(value, dict):
            raise RequestFailed("no JSON object")
        return value


class HTTPClient:
    """Sends requests over pooled connections, which it opens at the first request.

    `timeout` bounds one request as a whole.
    """

    def __init__(self, *, timeout: timedelta) -> None:
        self._timeout = timeout.total_seconds()
        self._http: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def get(self, url: str) -> Response:
        """Sends a GET request. Raises RequestFailed, also after the timeout."""
        return await self._send("GET", url, {})

    async def post(
        self, url: str, form: Mapping[str, str], *, headers: Mapping[str, str]
    ) -> Response:
        """Sends `form` as application/x-www-form-urlencoded.

        Raises RequestFailed, also after the timeout.
        """
        return await self._send("POST", url, headers, form)

    async def close(self) -> None:
        """Closes the connections. A later request opens new ones."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None = None,
    ) -> Response:
        import httpx  # noqa: PLC0415  # a tenth of the import of authapi

        loop = asyncio.get_running_loop()
        if self._http is None or self._loop is not loop:
            # Opened lazily, because connections belong to the event loop that is running. The
            # connections of a loop that has ended cannot be closed any more.
            self._loop = loop
            self._http = isolate_lookups(
                httpx.AsyncClient(
                    timeout=self._timeout,
                    verify=_tls_context(),
                    follow_redirects=False,
                    limits=httpx.Limits(max_connections=MAX_CONNECTIONS),
                )
            )
        # Uncompressed, so that the limit on the body holds: no decompression bombs.
        sent = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
        try:
            # The timeout of httpx bounds each step; this one bounds the request as a whole.
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream(method, url, headers=sent, data=form) as response,
            ):
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise RequestFailed("compressed")
                body = b""
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > _MAX_BYTES:
                        raise RequestFailed("too long")
                cache_control = response.headers.get("cache-control", "")
                return Response(response.status_code, cache_control, body)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise RequestFailed(type(error).__name__) from None


@cache
def _tls_context() -> "ssl.SSLContext":
    # Cached, because reading the certificates of the system is slow.
    import httpx  # noqa: PLC0415

    return httpx.create_ssl_context()


class Backoff:
    """Exponential backoff: 1 second after the first failure, then 2, 4, up to `max_delay`."""

    def __init__(self, *, max_delay: float) -> None:
        self._max_delay = max_delay
        self.failures = 0
        """Consecutive failures."""
        self._until = 0.0

    def record_success(self) -> None:
        """Resets the delay."""
        self.failures = 0
        self._until = 0.0

    def record_failure(self) -> None:
        """Doubles the delay, up to `max_delay` seconds, and starts it."""
        self.failures += 1
        # The exponent is bounded: a long outage would overflow a float.
        self._until = monotonic() + min(2.0 ** min(self.failures - 1, 32), self._max_delay)

    @property
    def is_elapsed(self) -> bool:
        """Whether the delay has passed, so that a new attempt may start."""
        return monotonic() >= self._until

    @property
    def retry_after(self) -> int:
        """Whole seconds until the next attempt, at least 1: the value of Retry-After."""
        return max(ceil(round(self._until - monotonic(), 3)), 1)
