"""For the tests of applications that use authapi: a client, users, and acting as one of them.

    async with client(app) as api:
        alice = await api.create_user()
        with acting_as(alice, scopes={"reports:read"}):
            response = await api.get("/reports")

`acting_as` stands in for the credential only. Every gate of the route still runs, so a test finds
out that a scope is missing or a login too old. Mail does not leave: `await api.outbox()` has it.
"""

from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from itertools import count
from types import MethodType

import httpx
from fastapi import FastAPI
from starlette.requests import HTTPConnection

from authapi.clock import now
from authapi.identity import NO_CLAIMS, Claims, Identity, User
from authapi.services import Services
from authapi.services.accounts.changes import new_user
from authapi.services.addresses import parse_email
from authapi.strategies.base import Strategy, Unknown
from authapi.web.context import Runtime

PASSWORD = "correct horse battery staple"
"""The password of every user that `create_user` makes, unless another is given."""

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class _Acting:
    user: User
    scopes: frozenset[str]
    strategy: str | None
    auth_time: datetime
    amr: tuple[str, ...]
    claims: Claims


_acting: ContextVar[_Acting | None] = ContextVar("authapi_acting_as", default=None)


class Client(httpx.AsyncClient):
    """An httpx client of an application whose lifespan runs."""

    def __init__(self, app: FastAPI, *, base_url: str) -> None:
        super().__init__(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url=base_url
        )
        self._runtime = _runtime_of(app)
        self._mail = _Kept()

    @property
    def services(self) -> Services:
        """Those of the application. Raises RuntimeError where it only trusts others."""
        return self._runtime.services

    async def create_user(
        self,
        email: str | None = None,
        *,
        password: str = PASSWORD,
        name: str | None = None,
        is_superuser: bool = False,
    ) -> User:
        """A user in the application's database; without `email`, one that nobody has.

        Where the application only trusts others, it keeps no users: this one is for `acting_as`.
        """
        address = parse_email(email or f"user{next(_numbers)}@example.com")
        if self._runtime.services_if_any is None:
            return new_user(address, name=name, is_superuser=is_superuser)
        return await self.services.accounts.create(
            address, password, name=name, is_superuser=is_superuser
        )

    async def login(
        self, user: User, *, password: str = PASSWORD, strategy: str = "session"
    ) -> httpx.Response:
        """Log in over HTTP. A cookie stays in this client; a token goes into its headers."""
        response = await self.post(
            "/login", json={"email": user.email, "password": password, "strategy": strategy}
        )
        response.raise_for_status()
        if token := response.json().get("access_token"):
            self.headers["Authorization"] = f"Bearer {token}"
        return response

    async def outbox(self) -> list[EmailMessage]:
        """Every mail so far, the oldest first, what is still on its way included.

        Raises RuntimeError where the application only trusts others.
        """
        await self.services.outbox.settle()
        return list(self._mail.messages)

    def _keep_mail(self) -> None:
        """Keep mail from here on, in place of sending it."""
        services = self._runtime.services_if_any
        if services is not None and services.mail.transport is not None:
            services.mail.transport = self._mail


class _Kept:
    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []

    def open(self) -> None:
        return None

    async def send(self, message: EmailMessage) -> None:
        self.messages.append(message)

    async def check(self) -> str:
        return "kept for the tests"


@asynccontextmanager
async def client(
    app: FastAPI, *, base_url: str = "http://127.0.0.1:8000", delivers_mail: bool = False
) -> AsyncIterator[Client]:
    """A client of `app`, in this process, with the lifespan running around it.

    Mail is kept for `outbox`, unless `delivers_mail`: then it goes where the settings say.
    """
    for strategy in _runtime_of(app).registry:
        _let_act(strategy)
    found = Client(app, base_url=base_url)
    if not delivers_mail:
        found._keep_mail()
    async with app.router.lifespan_context(app), found:
        yield found


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
    """Requests of a `client` made inside this block come from `user`, holding `scopes`.

    They come by the strategy that the route asks first, or only by `strategy`; the login lies at
    `auth_time`, by default now. An `amr` that is empty stands for a personal access token;
    `claims` are what another issuer says of them.
    """
    acting = _Acting(
        user, frozenset(scopes), strategy, auth_time or now(), tuple(amr), Claims(claims)
    )
    token = _acting.set(acting)
    try:
        yield
    finally:
        _acting.reset(token)


def _let_act(strategy: Strategy) -> None:
    if hasattr(strategy.authenticate, "acts"):
        return
    original = strategy.authenticate

    async def authenticate(self: Strategy, connection: HTTPConnection) -> Identity | None:
        acting = _acting.get()
        if acting is None or acting.strategy not in (None, self.name):
            return await original(connection)
        return Identity(
            user=acting.user,
            strategy=self.name,
            session_id=None,
            scopes=acting.scopes,
            auth_time=acting.auth_time,
            amr=acting.amr,
            expires_at=None,
            claims=acting.claims,
        )

    remembered = strategy.recall

    def recall(self: Strategy, connection: HTTPConnection) -> Identity | Unknown | None:
        return remembered(connection) if _acting.get() is None else Unknown.ASK

    strategy.recall = MethodType(recall, strategy)  # type: ignore[method-assign]  # tests only
    authenticate.acts = True  # type: ignore[attr-defined]  # marks it, so that it is wrapped once
    strategy.authenticate = MethodType(authenticate, strategy)  # type: ignore[method-assign]  # tests only


def _runtime_of(app: FastAPI) -> Runtime:
    for middleware in app.user_middleware:
        runtime = middleware.kwargs.get("runtime")
        if isinstance(runtime, Runtime):
            return runtime
    raise RuntimeError("this application has no authapi: call AuthAPI().install(app)")
