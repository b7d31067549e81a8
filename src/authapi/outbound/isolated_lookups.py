"""httpx clients that resolve host names with `authapi.name_resolution`."""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from authapi.name_resolution import connect_to_host

if TYPE_CHECKING:
    import httpcore
    import httpx


def isolate_lookups(client: "httpx.AsyncClient") -> "httpx.AsyncClient":
    """Makes `client` resolve each host name, also that of a proxy, in a thread of its own.

    Returns `client`. A host whose name servers do not answer does not delay requests to other
    hosts. httpx has no parameter for the network backend of httpcore, which resolves the names, so
    this function replaces a private attribute.
    """
    import httpx  # noqa: PLC0415  # a tenth of the import time of authapi

    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx.AsyncHTTPTransport):
            pool = transport._pool
            pool._network_backend = _backend(pool._network_backend)
    return client


def _backend(inner: "httpcore.AsyncNetworkBackend") -> "httpcore.AsyncNetworkBackend":
    import httpcore  # noqa: PLC0415  # a dependency of httpx

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
                    return await connect_to_host(host, connect, close)
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
