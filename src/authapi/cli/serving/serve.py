"""`authapi serve`: runs the service."""

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

import uvicorn
from uvicorn.supervisors import Multiprocess

from authapi.app import create_service
from authapi.cli.serving import graceful_shutdown, logs
from authapi.errors import ConfigurationError
from authapi.services import Services
from authapi.services.schema import prepare
from authapi.settings import Settings, load_settings, warn_unknown_settings

_PROTOCOLS = {
    "authapi.web.server.protocol": "httptools",
    "uvicorn.protocols.websockets.websockets_sansio_impl": "websockets",
}
"""Protocol implementations, and the package that each of them needs."""


def serve(*, host: str | None = None, port: int | None = None, workers: int | None = None) -> None:
    """Runs the service until SIGTERM or Ctrl-C. None leaves an option to the settings.

    Raises ConfigurationError if the service cannot start, and SystemExit with 0 at SIGTERM.
    """
    # First of all: the kernel drops a signal for which process 1 of a container has no handler.
    signal.signal(signal.SIGTERM, _exit)
    _require_protocols()
    options = {"host": host, "port": port, "workers": workers}
    overrides: dict[str, object] = {
        name: value for name, value in options.items() if value is not None
    }
    server_socket = _listen(load_settings(overrides))
    # Port 0 is resolved by binding; the issuer of tokens contains the port.
    settings = load_settings({**overrides, "port": server_socket.getsockname()[1]})
    with ExitStack() as stack:
        stack.callback(server_socket.close)
        if settings.metrics and settings.workers > 1:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="authapi-metrics-"))
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
            stack.callback(os.environ.pop, "PROMETHEUS_MULTIPROC_DIR", None)
        _serve(settings, server_socket, stack)


def _serve(settings: Settings, server_socket: socket.socket, stack: ExitStack) -> None:
    auth, app = create_service(settings)
    _check_startup(settings)
    log_config = logs.configuration(settings)
    logging.config.dictConfig(log_config)
    warn_unknown_settings(type(settings))
    _report_start(settings)
    config = uvicorn.Config(
        graceful_shutdown.with_graceful_shutdown(app, settings)
        if settings.workers == 1
        else "authapi.cli.serving.graceful_shutdown:create_worker",
        factory=settings.workers > 1,
        workers=settings.workers,
        http="authapi:HTTPProtocol",
        ws="websockets-sansio",
        access_log=False,
        log_config=log_config,
        log_level=None,
        proxy_headers=False,  # only trusted proxies may set the client address
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )
    metrics = auth.runtime.services.metrics
    if metrics is not None and settings.metrics_port is not None:
        from authapi.services.metrics import serve_metrics

        stop_metrics = serve_metrics(
            metrics.registry, host=settings.host, port=settings.metrics_port
        )
        stack.callback(stop_metrics)
    if settings.workers == 1:
        server = uvicorn.Server(config)
        # Active before uvicorn installs its handlers, and again after it has stopped: uvicorn then
        # raises the signal again, which would end the process by the signal and not with 0.
        signal.signal(signal.SIGTERM, partial(_stop_server, server))
        server.run(sockets=[server_socket])
        if not server.started:
            raise ConfigurationError("the service could not start")
        return
    # Workers are new processes, which read the settings from the environment.
    os.environ |= {
        "AUTHAPI_HOST": settings.host,
        "AUTHAPI_PORT": str(settings.port),
        "AUTHAPI_WORKERS": str(settings.workers),
    }
    kind = graceful_shutdown.Supervisor if settings.shutdown_delay else Multiprocess
    kind(config, sockets=[server_socket]).run()


def _require_protocols() -> None:
    # uvicorn imports these in each worker, where a failure is a traceback and not one line.
    for module, package in _PROTOCOLS.items():
        try:
            import_module(module)
        except ImportError:
            raise ConfigurationError(
                f"serve needs {package} in a version that uvicorn supports: "
                "pip install --upgrade 'uvicorn[standard]'"
            ) from None


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    server_socket = socket.socket(family)
    server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server_socket.bind((settings.host, settings.port))
        server_socket.listen(2048)
    except OSError as error:
        server_socket.close()
        raise ConfigurationError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}"
        ) from None
    except (TypeError, ValueError):
        # The name cannot be encoded: invalid UTF-8, or a label that is empty or too long.
        server_socket.close()
        raise ConfigurationError("AUTHAPI_HOST is not a host name or address") from None
    server_socket.set_inheritable(True)
    return server_socket


def _check_startup(settings: Settings) -> None:
    # The lifespan repeats this in each worker. Done here first, because here a failure is one line.
    prepare(settings)
    services = Services.build(settings)
    services.tokens.secret_scanning.open()
    asyncio.run(_open_keys(services))


async def _open_keys(services: Services) -> None:
    try:
        await services.keys.open()
    finally:
        await services.database.close()


def _report_start(settings: Settings) -> None:
    database = Services.build(settings).database.description
    base = settings.public_url or settings.issuer
    docs = f"{base}/docs" if settings.docs_enabled else "off"
    names = ", ".join(settings.strategies)
    if settings.env == "production":
        values = {"service": base, "docs": docs, "database": database, "strategies": names}
        logs.log_info("listening", host=settings.host, port=settings.port, **values)
        return
    print(f"authapi listens on {settings.host} port {settings.port}")
    print(f"  service     {base}")
    print(f"  docs        {docs}")
    print(f"  database    {database}")
    print(f"  strategies  {names}", flush=True)


def _exit(_: int, __: FrameType | None) -> None:
    raise SystemExit(0)


def _stop_server(server: uvicorn.Server, _: int, __: FrameType | None) -> None:
    server.should_exit = True
