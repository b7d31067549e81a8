"""`authapi prune`: deletes what has expired."""

import typer

from authapi.cli.services import run_with_services
from authapi.cli.terminal.options import JSONOption
from authapi.cli.terminal.progress import Progress
from authapi.cli.terminal.tables import print_list
from authapi.services import Services
from authapi.services.jobs.pruning import watch_pruning


def prune(as_json: JSONOption = False) -> None:
    """Delete what has expired now, as the running service does. Exit with 1 if a part fails.

    It deletes ended sessions, old events, retired keys, delivered mail and expired links.
    """
    rows: list[dict[str, object]] = []

    async def work(services: Services) -> bool:
        names = services.cleanup.names
        with Progress() as progress, watch_pruning(progress.show_rows):
            for name in names:
                progress.show("cleanup", len(rows), len(names))
                removed = await services.cleanup.run_once(only=name)
                rows.append({"removed": removed.get(name), "what": name})
            return all(row["removed"] is not None for row in rows)

    complete = run_with_services(work)
    print_list(rows, empty="", as_json=as_json)
    if not complete:
        raise typer.Exit(1)
