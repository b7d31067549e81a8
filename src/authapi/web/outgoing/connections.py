"""Connections of httpx whose names are looked up by `authapi.lookups`."""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from authapi.lookups import connected

if TYPE_CHECKING:
    import httpcore
    import httpx


def looking_up_alone(client: "httpx.AsyncClient") -> "httpx.AsyncClient":
    """`client`, of which no host waits for the lookup of another, nor does a proxy.

    httpx has no parameter for the network backend of httpcore, which is where names are looked up.
    """
    import httpx  # noqa: PLC0415  # a tenth of the import of authapi

    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx.AsyncHTTPTransport):
            pool = transport._pool
            pool._network_backend = _backend(pool._network_backend)
    return client


def _backend(inner: "httpcore.AsyncNetworkBackend") -> "httpcore.AsyncNetworkBackend":
    import httpcore  # noqa: PLC0415  # comes with httpx

    class Backend(httpcore.AsyncNetworkBackend):
        async def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,  # noqa: ASYNC109  # of the protocol
            local_address: str | None = None,
            socket_options: Iterable[Any] | None = None,
        ) -> httpcore.AsyncNetworkStream:
            async def connect(address: str) -> httpcore.AsyncNetworkStream:
                return await inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )

            try:
                async with asyncio.timeout(timeout):
                    return await connected(host, connect, httpcore.AsyncNetworkStream.aclose)
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
