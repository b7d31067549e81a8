"""The client for tests without an event loop of their own."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from email.message import EmailMessage
from functools import partial
from typing import Any, TypeVar

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI

from authapi.domain.user import User
from authapi.services import Services
from authapi.testing.authenticator import Authenticator
from authapi.testing.client import PASSWORD, Client, client
from authapi.testing.passkeys import SoftPasskey

T = TypeVar("T")


class SyncAuthenticator:
    """What `Authenticator` does, for synchronous tests. `SyncClient.authenticator` creates it."""

    def __init__(self, app: Authenticator, portal: BlockingPortal) -> None:
        self.app, self._portal = app, portal

    @property
    def secret(self) -> str:
        """The secret in base32."""
        return self.app.secret

    def code(self) -> str:
        """Returns a code, and raises, as `Authenticator.code`."""
        return self.app.code()

    def enrol(self, user: User) -> User:
        """Adds this app to an account, and raises, as `Authenticator.enrol`."""
        return self._portal.call(self.app.enrol, user)

    @property
    def passkey(self) -> SoftPasskey:
        """The passkey. Raises as `Authenticator.passkey`."""
        return self.app.passkey

    @property
    def has_passkey(self) -> bool:
        """Whether an account has the passkey."""
        return self.app.has_passkey

    def enrol_passkey(self, user: User, *, name: str = "Passkey") -> User:
        """Adds the passkey to an account, and raises, as `Authenticator.enrol_passkey`."""
        return self._portal.call(partial(self.app.enrol_passkey, user, name=name))


class SyncClient:
    """What `Client` does, for synchronous tests. `sync_client` creates it.

    The application runs on an event loop in a thread. Requests take the arguments of httpx, and
    each response is read to its end.
    """

    def __init__(self, client: Client, portal: BlockingPortal) -> None:
        self._client, self._portal = client, portal

    @property
    def services(self) -> Services:
        """The services of the application. Raises RuntimeError as `Client.services`."""
        return self._client.services

    @property
    def cookies(self) -> httpx.Cookies:
        """The cookies that the client sends."""
        return self._client.cookies

    @property
    def headers(self) -> httpx.Headers:
        """The headers that the client sends with each request."""
        return self._client.headers

    def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """Calls an asynchronous function on the event loop of the application.

        Raises what it raises.
        """
        return self._portal.call(function)

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Sends a request."""
        return self.call(lambda: self._client.request(method, url, **options))

    def get(self, url: str, **options: Any) -> httpx.Response:
        """Sends GET."""
        return self.request("GET", url, **options)

    def head(self, url: str, **options: Any) -> httpx.Response:
        """Sends HEAD."""
        return self.request("HEAD", url, **options)

    def options(self, url: str, **options: Any) -> httpx.Response:
        """Sends OPTIONS."""
        return self.request("OPTIONS", url, **options)

    def post(self, url: str, **options: Any) -> httpx.Response:
        """Sends POST."""
        return self.request("POST", url, **options)

    def put(self, url: str, **options: Any) -> httpx.Response:
        """Sends PUT."""
        return self.request("PUT", url, **options)

    def patch(self, url: str, **options: Any) -> httpx.Response:
        """Sends PATCH."""
        return self.request("PATCH", url, **options)

    def delete(self, url: str, **options: Any) -> httpx.Response:
        """Sends DELETE."""
        return self.request("DELETE", url, **options)

    def create_user(
        self,
        email: str | None = None,
        *,
        password: str = PASSWORD,
        name: str | None = None,
        username: str | None = None,
        is_superuser: bool = False,
        profile: Mapping[str, object] | None = None,
    ) -> User:
        """Creates a user, and raises, as `Client.create_user`."""
        return self.call(
            lambda: self._client.create_user(
                email,
                password=password,
                name=name,
                username=username,
                is_superuser=is_superuser,
                profile=profile,
            )
        )

    def authenticator(self, secret: str | None = None) -> SyncAuthenticator:
        """An authenticator app and a passkey, as `Client.authenticator`."""
        return SyncAuthenticator(self._client.authenticator(secret), self._portal)

    def login(
        self,
        user: User,
        *,
        password: str = PASSWORD,
        strategy: str = "session",
        authenticator: SyncAuthenticator | None = None,
    ) -> httpx.Response:
        """Logs in over HTTP, and raises, as `Client.login`."""
        app = None if authenticator is None else authenticator.app
        return self.call(
            lambda: self._client.login(
                user, password=password, strategy=strategy, authenticator=app
            )
        )

    def login_by_passkey(
        self, authenticator: SyncAuthenticator, *, strategy: str = "session"
    ) -> httpx.Response:
        """Logs in by the passkey alone, and raises, as `Client.login_by_passkey`."""
        return self.call(
            lambda: self._client.login_by_passkey(authenticator.app, strategy=strategy)
        )

    def add_passkey(
        self, authenticator: SyncAuthenticator, *, name: str = "Passkey"
    ) -> httpx.Response:
        """Adds the passkey over HTTP, and raises, as `Client.add_passkey`."""
        return self.call(lambda: self._client.add_passkey(authenticator.app, name=name))

    def step_up(self, authenticator: SyncAuthenticator) -> httpx.Response:
        """Proves the second factor again, and raises, as `Client.step_up`."""
        return self.call(lambda: self._client.step_up(authenticator.app))

    def outbox(self) -> list[EmailMessage]:
        """All mails so far, as `Client.outbox`. Raises RuntimeError as that."""
        return self.call(self._client.outbox)


@contextmanager
def sync_client(
    app: FastAPI, *, base_url: str = "http://127.0.0.1:8000", delivers_mail: bool = False
) -> Iterator[SyncClient]:
    """A client for synchronous tests that calls `app` in this process, inside its lifespan.

    The arguments and errors are those of `client`.
    """
    with start_blocking_portal("asyncio") as portal:
        opened = client(app, base_url=base_url, delivers_mail=delivers_mail)
        with portal.wrap_async_context_manager(opened) as found:
            yield SyncClient(found, portal)
