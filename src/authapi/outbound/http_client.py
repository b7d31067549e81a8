"""HTTP requests to other services, with limits on time and size and without redirects."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from authapi.crypto import strict_json
from authapi.late_imports import import_in_thread
from authapi.outbound.isolated_lookups import isolate_lookups

if TYPE_CHECKING:
    import ssl

    import httpx

MAX_CONNECTIONS = 100
_MAX_BYTES = 512 * 1024
_MAX_HEAD = 128 * 1024
"""Bytes of a response besides its body."""
_MAX_CHUNKS = 10_000
"""Chunks of a body. Each takes time, however short it is: single bytes would keep the event loop
busy."""


class RequestFailed(OSError):
    """There is no response, or no usable one. The text never repeats what the server sent."""


class ConnectionLost(RequestFailed):
    """The connection ended during the request.

    If it was kept from an earlier request, the server may have closed it for being idle.
    """


@dataclass(frozen=True, slots=True)
class Response:
    """A response whose body was read completely."""

    status: int
    cache_control: str
    body: bytes = field(repr=False)
    is_rate_limited: bool = False
    """Whether the server refuses further requests for a while: 429, or 403 as GitHub does."""

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

    `timeout` bounds one request as a whole, and `max_bytes` the body of its response. Requests
    beyond `max_connections` wait for a connection; None means no limit. `accept` is the default of
    the header Accept. Redirects are not followed, cookies are not kept, and each host name is
    resolved in a thread of its own.
    """

    def __init__(
        self,
        *,
        timeout: timedelta,
        max_bytes: int = _MAX_BYTES,
        max_connections: int | None = MAX_CONNECTIONS,
        accept: str = "application/json",
    ) -> None:
        self._timeout = timeout.total_seconds()
        self._max_bytes = max_bytes
        self._max_connections = max_connections
        # Uncompressed, so that the limit on the body holds: no decompression bombs.
        self._headers = {"Accept": accept, "Accept-Encoding": "identity"}
        self._http: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """The event loop that the connections belong to. None before the first request."""

    @property
    def may_have_connections(self) -> bool:
        """Whether the next request may use a connection that an earlier one has opened."""
        return self._http is not None and self._loop is asyncio.get_running_loop()

    def open(self) -> None:
        """Imports httpx and loads the CA certificates, which the first request would wait for.

        Blocks: call it in a thread.
        """
        if self._http is None:
            self._http = self._create()

    async def close(self) -> None:
        """Closes the connections. A later request opens new ones."""
        http, self._http, self._loop = self._http, None, None
        if http is not None:
            await http.aclose()

    async def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Response:
        """Sends a GET request.

        Raises RequestFailed, also after the timeout: its subclass ConnectionLost if the connection
        ended meanwhile.
        """
        async with self._stream("GET", url, headers or {}) as response:
            return await self._read(response)

    async def post(
        self, url: str, form: Mapping[str, str], *, headers: Mapping[str, str]
    ) -> Response:
        """Sends `form` as application/x-www-form-urlencoded. Raises as `get`."""
        async with self._stream("POST", url, headers, data=form) as response:
            return await self._read(response)

    async def post_bytes(self, url: str, body: bytes, *, headers: Mapping[str, str]) -> int:
        """Sends `body`. Returns the status of the response, whose body is not read.

        Raises as `get`.
        """
        async with self._stream("POST", url, headers, content=body) as response:
            return response.status_code

    @asynccontextmanager
    async def _stream(
        self, method: str, url: str, headers: Mapping[str, str], **content: Any
    ) -> AsyncIterator["httpx.Response"]:
        await import_in_thread("httpx")  # a tenth of the import time of authapi
        import httpx  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            self._http = None  # the connections of a loop that has ended cannot be closed any more
        self._loop = loop
        self._http = self._http or self._create()
        sent = self._headers | dict(headers)
        try:
            # The timeout of httpx bounds each step; this one bounds the request as a whole.
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream(method, url, headers=sent, **content) as response,
            ):
                yield response
        except RequestFailed:
            raise
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
            raise ConnectionLost(type(error).__name__) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            # UnicodeError: the host is no name of the DNS, such as `xn--a.example`.
            raise RequestFailed(type(error).__name__) from None

    async def _read(self, response: "httpx.Response") -> Response:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise RequestFailed("compressed")
        body, chunks = bytearray(), 0
        async for chunk in response.aiter_raw():
            body += chunk
            chunks += 1
            if len(body) > self._max_bytes or chunks > _MAX_CHUNKS:
                raise RequestFailed("too long")
        return Response(
            response.status_code,
            response.headers.get("cache-control", ""),
            bytes(body),
            is_rate_limited=_is_rate_limited(response),
        )

    def _create(self) -> "httpx.AsyncClient":
        from http.cookiejar import CookieJar, DefaultCookiePolicy  # noqa: PLC0415  # as httpx does

        import httpx  # noqa: PLC0415

        return isolate_lookups(
            httpx.AsyncClient(
                timeout=self._timeout,
                verify=_tls_context(),
                follow_redirects=False,
                # A cookie of one request must not identify a person in the request of another.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
                limits=httpx.Limits(max_connections=self._max_connections),
            ),
            max_bytes=self._max_bytes + _MAX_HEAD,
        )


def _is_rate_limited(response: "httpx.Response") -> bool:
    if response.status_code == 403:
        headers = response.headers
        return "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0"
    return response.status_code == 429


@cache
def _tls_context() -> "ssl.SSLContext":
    # Cached, because reading the certificates of the system is slow.
    import httpx  # noqa: PLC0415

    return httpx.create_ssl_context()
