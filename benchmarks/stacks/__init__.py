"""How each stack is started: one worker process on loopback, without access log."""

from collections.abc import Callable, Mapping, Sequence

from benchmarks.bench import Bench
from benchmarks.stack import Stack
from benchmarks.stacks import authapi, better_auth, crudauth, express, fastapi_users

FAMILIES: Mapping[str, Callable[[Bench], Sequence[Stack]]] = {
    "bare": authapi.bare,
    "authapi": authapi.stacks,
    "fastapi-users": fastapi_users.stacks,
    "crudauth": crudauth.stacks,
    "better-auth-server": better_auth.python_stacks,
    "express": express.stacks,
    "better-auth": better_auth.node_stacks,
}
"""Stacks by the names in `options.STACKS`."""
