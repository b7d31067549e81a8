"""How each stack is started: as one single-worker process on loopback, without access log."""

from collections.abc import Callable, Mapping, Sequence

from benchmarks.bench import Bench
from benchmarks.stack import Stack
from benchmarks.stacks import crudauth, express, fastapi_users, ours

FAMILIES: Mapping[str, Callable[[Bench], Sequence[Stack]]] = {
    "bare": ours.bare,
    "authapi": ours.authapi,
    "fastapi-users": fastapi_users.stacks,
    "crudauth": crudauth.stacks,
    "express": express.stacks,
}
"""By the names of `options.STACKS`."""
