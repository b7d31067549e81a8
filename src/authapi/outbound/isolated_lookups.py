"""httpx clients that resolve host names in threads of their own, and bound what they read."""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from authapi.name_resolution import connect_to_host

if TYPE_CHECKING:
    import httpcore
    import httpx


class ResponseTooLong(OSError):
    """A response has more bytes than the client reads."""


def isolate_lookups(client: "httpx.AsyncClient", *, max_bytes: int) -> "httpx.AsyncClient":
    """Makes `client` resolve each host name, also that of a proxy, in a thread of its own.

    A response of more than `max_bytes` bytes, with everything that frames it and that precedes it,
    raises ResponseTooLong: httpx itself bounds neither the responses that are not final nor the
    framing of chunks.

    Returns `client`. A host whose name servers do not answer does not delay requests to other
    hosts. httpx has no parameter for the network backend of httpcore, which resolves the names, so
    this function replaces a private attribute.
    """
    import httpx  # noqa: PLC0415  # a tenth of the import time of authapi

    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx.AsyncHTTPTransport):
            pool = transport._pool
            pool._network_backend = _backend(pool._network_backend, max_bytes)
    return client


def _backend(
    inner: "httpcore.AsyncNetworkBackend", max_bytes: int
) -> "httpcore.AsyncNetworkBackend":
    import httpcore  # noqa: PLC0415  # a dependency of httpx

    class BoundedStream(httpcore.AsyncNetworkStream):
        def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
            self._stream = stream
            self._received = 0

        async def read(
            self,
            max_bytes: int,
            timeout: float | None = None,  # noqa: ASYNC109  # the signature of httpcore
        ) -> bytes:
            data = await self._stream.read(max_bytes, timeout)
            self._received += len(data)
            if self._received > limit:
                raise ResponseTooLong
            return data

        async def write(
            self,
            buffer: bytes,
            timeout: float | None = None,  # noqa: ASYNC109
        ) -> None:
            self._received = 0  # the next response
            await self._stream.write(buffer, timeout)

        async def aclose(self) -> None:
            await self._stream.aclose()

        async def start_tls(
            self,
            ssl_context: Any,
            server_hostname: str | None = None,
            timeout: float | None = None,  # noqa: ASYNC109
        ) -> httpcore.AsyncNetworkStream:
            return BoundedStream(
                await self._stream.start_tls(ssl_context, server_hostname, timeout)
            )

        def get_extra_info(self, info: str) -> Any:
            return self._stream.get_extra_info(info)

    limit = max_bytes

    class Backend(httpcore.AsyncNetworkBackend):
        async def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,  # noqa: ASYNC109  # the signature of httpcore
            local_address: str | None = None,
            socket_options: Iterable[Any] | None = None,
        ) -> httpcore.AsyncNetworkStream:
            async def connect(address: str) -> httpcore.AsyncNetworkStream:
                return await inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )

            async def close(stream: httpcore.AsyncNetworkStream) -> None:
                await stream.aclose()

            try:
                async with asyncio.timeout(timeout):
                    return BoundedStream(await connect_to_host(host, connect, close))
            except TimeoutError as error:
                raise httpcore.ConnectTimeout from error
            except OSError as error:
                raise httpcore.ConnectError(str(error)) from error

        async def connect_unix_socket(
            self,
            path: str,
            timeout: float | None = None,  # noqa: ASYNC109
            socket_options: Iterable[Any] | None = None,
        ) -> httpcore.AsyncNetworkStream:
            return await inner.connect_unix_socket(path, timeout, socket_options)

        async def sleep(self, seconds: float) -> None:
            await inner.sleep(seconds)

    return Backend()
