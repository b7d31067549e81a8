"""The look-up of a session by hand in a bare FastAPI route, on tables of authapi."""

from authapi.storage import migrations
from benchmarks.bench import Bench
from benchmarks.scratch import python_of_peers
from benchmarks.stack import Stack
from benchmarks.stacks.serving import uvicorn
from tests.servers.process import free_port


def stack(bench: Bench, name: str, database: str) -> Stack:
    """Returns the stack on a new PostgreSQL database, which the caller fills."""
    port, url = free_port(), bench.database(database)
    migrations.upgrade(url)
    return Stack(
        name=name,
        family="by hand",
        port=port,
        command=uvicorn(python_of_peers(bench.options.scratch), "by_hand", port),
        environment={"DATABASE_URL": url},
        ready="/plain",
        plain={"no authentication": "/plain"},
        guarded={"session cookie": "/guarded"},
    )
