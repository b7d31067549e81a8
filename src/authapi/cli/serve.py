"""`authapi serve`: the service."""

import asyncio
import logging.config
import os
import signal
import socket
import tempfile
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from types import FrameType
from typing import Annotated

import typer
import uvicorn
from uvicorn.supervisors import Multiprocess

from authapi.app import create_service
from authapi.cli import draining, logs
from authapi.errors import ConfigurationError
from authapi.services import Services, prepare
from authapi.settings import Settings, load_settings, warn_of_unknown_settings

_PROTOCOLS = {
    "authapi.web.server.protocol": "httptools",
    "uvicorn.protocols.websockets.websockets_sansio_impl": "websockets",
}
"""Modules that read what arrives, and the package that each of them is made with."""


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Processes.")] = None,
) -> None:
    """Run the service until SIGTERM or Ctrl-C; requests in flight are finished first."""
    # At once: the kernel drops a signal that process 1 of a container has no handler for.
    signal.signal(signal.SIGTERM, _end_start)
    _require_protocols()
    given = {"host": host, "port": port, "workers": workers}
    chosen: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    listening = _listen(load_settings(chosen))
    # Known only now if the port was 0; the issuer of tokens depends on it.
    settings = load_settings({**chosen, "port": listening.getsockname()[1]})
    with ExitStack() as stack:
        stack.callback(listening.close)
        if settings.metrics and settings.workers > 1:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="authapi-metrics-"))
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
            stack.callback(os.environ.pop, "PROMETHEUS_MULTIPROC_DIR", None)
        _serve(settings, listening, stack)


def _serve(settings: Settings, listening: socket.socket, stack: ExitStack) -> None:
    auth, app = create_service(settings)
    _try_out(settings)
    log_config = logs.configuration(settings)
    logging.config.dictConfig(log_config)
    warn_of_unknown_settings(type(settings))
    _announce(settings)
    config = uvicorn.Config(
        draining.drained(app, settings)
        if settings.workers == 1
        else "authapi.cli.draining:create_worker",
        factory=settings.workers > 1,
        workers=settings.workers,
        http="authapi:HTTPProtocol",
        ws="websockets-sansio",
        access_log=False,
        log_config=log_config,
        log_level=None,
        proxy_headers=False,  # a header of a stranger must not choose the client address
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )
    metrics = auth.runtime.services.metrics
    if metrics is not None and settings.metrics_port is not None:
        from authapi.services.metrics import serve_metrics

        end = serve_metrics(metrics.registry, host=settings.host, port=settings.metrics_port)
        stack.callback(end)
    if settings.workers == 1:
        server = uvicorn.Server(config)
        # In force before uvicorn has handlers of its own, and once more when it is done: it raises
        # the signal again then, which would end the process by it instead of with 0.
        signal.signal(signal.SIGTERM, partial(_end_server, server))
        server.run(sockets=[listening])
        if not server.started:
            raise ConfigurationError("the service could not start")
        return
    # Workers are new processes, and read the settings from the environment again.
    os.environ |= {
        "AUTHAPI_HOST": settings.host,
        "AUTHAPI_PORT": str(settings.port),
        "AUTHAPI_WORKERS": str(settings.workers),
    }
    kind = draining.Supervisor if settings.shutdown_delay else Multiprocess
    kind(config, sockets=[listening]).run()


def _require_protocols() -> None:
    # uvicorn imports these when it begins to serve, in each worker, where failing is a traceback.
    for module, package in _PROTOCOLS.items():
        try:
            import_module(module)
        except ImportError:
            raise ConfigurationError(
                f"serve needs {package}, in a version that uvicorn can use: "
                "pip install --upgrade 'uvicorn[standard]'"
            ) from None


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}"
        ) from None
    except (TypeError, ValueError):
        # The name cannot be encoded: bytes that are no UTF-8, a label that is empty or too long.
        listening.close()
        raise ConfigurationError("AUTHAPI_HOST is not the name or address of a host") from None
    listening.set_inheritable(True)
    return listening


def _try_out(settings: Settings) -> None:
    # What the lifespan does again in each worker, done first where failing is one line.
    prepare(settings)
    services = Services.build(settings)
    services.leaks.open()
    asyncio.run(_open_keys(services))


async def _open_keys(services: Services) -> None:
    try:
        await services.keys.open()
    finally:
        await services.database.close()


def _announce(settings: Settings) -> None:
    database = Services.build(settings).database.description
    base = settings.public_url or settings.issuer
    docs = f"{base}/docs" if settings.docs_enabled else "off"
    names = ", ".join(settings.strategies)
    if settings.env == "production":
        values = {"service": base, "docs": docs, "database": database, "strategies": names}
        logs.announce("listening", host=settings.host, port=settings.port, **values)
        return
    print(f"authapi listens on {settings.host} port {settings.port}")
    print(f"  service     {base}")
    print(f"  docs        {docs}")
    print(f"  database    {database}")
    print(f"  strategies  {names}", flush=True)


def _end_start(_: int, __: FrameType | None) -> None:
    raise SystemExit(0)


def _end_server(server: uvicorn.Server, _: int, __: FrameType | None) -> None:
    server.should_exit = True
