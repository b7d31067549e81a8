"""`acting_as`: requests of a test are authenticated as a user, without a credential.

The first block replaces `find_identity` of the resolver in this process. From then on, each
strategy of a route is made able to act before the resolver asks it. So it matters neither which
client sends the request, nor whether the application was created, started or changed before or
inside the block. The package itself has no way to skip a credential.
"""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from functools import wraps
from threading import current_thread, main_thread
from types import MethodType
from typing import Any

from starlette.requests import HTTPConnection

from authapi.clock import now
from authapi.crypto.secrets import SecretHash
from authapi.domain.factors.authentication_context import (
    METHODS,
    MFA,
    SINGLE_FACTOR,
    TWO_FACTORS,
    strongest,
)
from authapi.domain.identity import NO_CLAIMS, Claims, Identity
from authapi.domain.user import User
from authapi.strategies.base import Strategy
from authapi.web import resolver
from authapi.web.context import RequestContext
from authapi.web.requirements import Binding, Requirements


@dataclass(slots=True, eq=False)
class _Block:
    """One block of `acting_as`. It is mutable: tasks that have copied a context see its end."""

    user: User
    scopes: frozenset[str]
    strategy: str | None
    auth_time: datetime
    amr: tuple[str, ...]
    mfa_at: datetime | None
    claims: Claims
    outer: "_Block | None" = field(default=None, repr=False)
    is_over: bool = False


_of_context: ContextVar[_Block | None] = ContextVar("authapi_acting_as", default=None)
_of_process: list[_Block] = []
"""The blocks that synchronous code of the main thread has entered. They also hold in event loops
and threads that were started before, as a fixture for the whole session starts them."""
_find_identity = resolver.find_identity


@contextmanager
def acting_as(
    user: User,
    scopes: Collection[str] = (),
    *,
    strategy: str | None = None,
    auth_time: datetime | None = None,
    mfa: bool = False,
    mfa_at: datetime | None = None,
    acr: str | None = None,
    amr: Collection[str] | None = None,
    claims: Mapping[str, object] = NO_CLAIMS,
) -> Iterator[None]:
    """Inside this block, requests of this process are authenticated as `user` with `scopes`.

    They use the first strategy of the route, or only `strategy` if given. `auth_time` is the time
    of the login, by default now. The login has one factor, a password, unless `mfa` or `acr` says
    more: "urn:authapi:acr:2" or "phr"; `mfa_at` is when it proved the second one, by default
    `auth_time`. `amr` names the methods instead, and an empty one stands for a personal access
    token. `claims` are the claims of another issuer.

    A block in a task holds for the requests of that task and of the tasks that it starts. A block
    in synchronous code of the main thread, such as a fixture, holds for all requests that are in no
    block of their own.

    Raises TypeError if `amr` is combined with `mfa` or `acr`, ValueError if `acr` is unknown.
    """
    resolver.find_identity = _acting_find_identity
    logged_in_at, methods = auth_time or now(), _methods(mfa, acr, amr)
    block = _Block(
        user,
        frozenset(scopes),
        strategy,
        logged_in_at,
        methods,
        (mfa_at or logged_in_at) if MFA in methods else None,
        Claims({"acr": acr, **claims} if claims and acr else claims),
        outer=_of_context.get(),
    )
    is_of_process = current_thread() is main_thread() and not _is_in_task()
    if is_of_process:
        _of_process.append(block)
    _of_context.set(block)
    try:
        yield
    finally:
        block.is_over = True
        if is_of_process:
            _of_process.remove(block)
        # Without a token: the end of a fixture may run in another context than its beginning.
        if _of_context.get() is block:
            _of_context.set(block.outer)


def _methods(mfa: bool, acr: str | None, amr: Collection[str] | None) -> tuple[str, ...]:
    if amr is not None:
        if mfa or acr is not None:
            raise TypeError("acting_as takes amr, or mfa and acr")
        return tuple(amr)
    proved = TWO_FACTORS if mfa else SINGLE_FACTOR
    if acr is not None and acr not in METHODS:
        raise ValueError(f"acr must be one of {', '.join(METHODS)}, not {acr!r}")
    return METHODS[proved if acr is None else strongest(proved, acr)]


def _current() -> _Block | None:
    block = _of_context.get()
    while block is not None and block.is_over:
        block = block.outer
    return block or (_of_process[-1] if _of_process else None)


def _is_in_task() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@wraps(_find_identity)  # with its docstring, for tests that read it
async def _acting_find_identity(
    binding: Binding, wanted: Requirements, connection: HTTPConnection, context: RequestContext
) -> Identity | None:
    for strategy in binding.strategies:
        _let_act(strategy)
    # A test client that runs no lifespan can act as a user, for which no strategy has to start.
    find = _find_identity if _current() is None else resolver.ask_strategies
    return await find(binding, wanted, connection, context)


def _let_act(strategy: Strategy[Any]) -> None:
    """Makes `strategy` read the caller of `acting_as` as its credential, inside its block."""
    if hasattr(strategy.read, "is_patched"):
        return
    read, authenticate = strategy.read, strategy.authenticate
    cache_key, cached = strategy.cache_key, strategy.cached

    def acting_read(self: Strategy[Any], connection: HTTPConnection) -> object:
        acting = _current()
        if acting is None or acting.strategy not in (None, self.name):
            return read(connection)
        return acting

    def acting_cache_key(self: Strategy[Any], credential: object) -> SecretHash | None:
        return None if isinstance(credential, _Block) else cache_key(credential)

    def acting_cached(self: Strategy[Any], credential: object) -> Identity | None:
        return None if isinstance(credential, _Block) else cached(credential)

    async def acting_authenticate(
        self: Strategy[Any], credential: object, connection: HTTPConnection
    ) -> Identity:
        if not isinstance(credential, _Block):
            return await authenticate(credential, connection)
        return Identity(
            user=credential.user,
            strategy=self.name,
            session_id=None,
            scopes=credential.scopes,
            auth_time=credential.auth_time,
            amr=credential.amr,
            expires_at=None,
            claims=credential.claims,
            mfa_at=credential.mfa_at,
        )

    acting_read.is_patched = True  # type: ignore[attr-defined]  # so that it is patched once
    strategy.read = MethodType(acting_read, strategy)  # type: ignore[method-assign]  # tests only
    strategy.cache_key = MethodType(acting_cache_key, strategy)  # type: ignore[method-assign]  # tests only
    strategy.cached = MethodType(acting_cached, strategy)  # type: ignore[method-assign]  # tests only
    strategy.authenticate = MethodType(acting_authenticate, strategy)  # type: ignore[method-assign]  # tests only
