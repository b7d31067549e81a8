"""How each stack is started: one worker process on loopback, without access log."""

from collections.abc import Callable, Mapping, Sequence

from benchmarks.bench import Bench
from benchmarks.stack import Stack
from benchmarks.stacks import authapi, crudauth, express, fastapi_users

FAMILIES: Mapping[str, Callable[[Bench], Sequence[Stack]]] = {
    "bare": authapi.bare,
    "authapi": authapi.stacks,
    "fastapi-users": fastapi_users.stacks,
    "crudauth": crudauth.stacks,
    "express": express.stacks,
}
"""Stacks by the names in `options.STACKS`."""
