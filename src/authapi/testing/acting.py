"""`acting_as`: requests of a test are authenticated as a user, without a credential."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from types import MethodType
from typing import Any

from starlette.requests import HTTPConnection

from authapi.clock import now
from authapi.domain.identity import NO_CLAIMS, Claims, Identity
from authapi.domain.user import User
from authapi.strategies.base import Strategy


@dataclass(frozen=True, slots=True)
class _Acting:
    user: User
    scopes: frozenset[str]
    strategy: str | None
    auth_time: datetime
    amr: tuple[str, ...]
    claims: Claims


_acting: ContextVar[_Acting | None] = ContextVar("authapi_acting_as", default=None)


@contextmanager
def acting_as(
    user: User,
    scopes: Collection[str] = (),
    *,
    strategy: str | None = None,
    auth_time: datetime | None = None,
    amr: Collection[str] = ("pwd",),
    claims: Mapping[str, object] = NO_CLAIMS,
) -> Iterator[None]:
    """Inside this block, requests of a `client` are authenticated as `user` with `scopes`.

    They use the first strategy of the route, or only `strategy` if given. `auth_time` is the time
    of the login, by default now. An empty `amr` stands for a personal access token. `claims` are
    the claims of another issuer.
    """
    acting = _Acting(
        user, frozenset(scopes), strategy, auth_time or now(), tuple(amr), Claims(claims)
    )
    token = _acting.set(acting)
    try:
        yield
    finally:
        _acting.reset(token)


def let_act(strategy: Strategy[Any]) -> None:
    """Makes `strategy` read the caller of `acting_as` as its credential, inside its block."""
    if hasattr(strategy.read, "is_patched"):
        return
    read, cached, authenticate = strategy.read, strategy.cached, strategy.authenticate

    def acting_read(self: Strategy[Any], connection: HTTPConnection) -> object:
        acting = _acting.get()
        if acting is None or acting.strategy not in (None, self.name):
            return read(connection)
        return acting

    def acting_cached(self: Strategy[Any], credential: object) -> Identity | None:
        return None if isinstance(credential, _Acting) else cached(credential)

    async def acting_authenticate(
        self: Strategy[Any], credential: object, connection: HTTPConnection
    ) -> Identity:
        if not isinstance(credential, _Acting):
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
        )

    acting_read.is_patched = True  # type: ignore[attr-defined]  # so that it is patched once
    strategy.read = MethodType(acting_read, strategy)  # type: ignore[method-assign]  # tests only
    strategy.cached = MethodType(acting_cached, strategy)  # type: ignore[method-assign]  # tests only
    strategy.authenticate = MethodType(acting_authenticate, strategy)  # type: ignore[method-assign]  # tests only
