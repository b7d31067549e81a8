"""The options of `authapi serve`."""

from typing import Annotated

import typer

from authapi.cli.serving import serve as service


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 selects a free one.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Number of processes.")] = None,
) -> None:
    """Run the service until SIGTERM or Ctrl-C. Requests in progress are completed first."""
    service.serve(host=host, port=port, workers=workers)
