"""A client of an application in this process, with users and the mail that was sent."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.message import EmailMessage
from itertools import count

import httpx
from fastapi import FastAPI

from authapi.domain.email_address import parse_email
from authapi.domain.user import User
from authapi.domain.username import parse_username
from authapi.services import Services
from authapi.services.accounts.users import new_user
from authapi.testing.authenticator import Authenticator
from authapi.web.installation import runtime_of

PASSWORD = "correct horse battery staple"
"""The default password of users that `create_user` creates."""

_numbers = count(1)


class Client(httpx.AsyncClient):
    """An httpx client of an application. `client` creates it and runs the lifespan."""

    def __init__(self, app: FastAPI, *, base_url: str) -> None:
        super().__init__(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url=base_url
        )
        self._runtime = runtime_of(app)
        self._mail = _CapturedMail()

    @property
    def services(self) -> Services:
        """The services of the application.

        Raises RuntimeError if the application has none, because it only verifies credentials of
        other issuers (`authapi.verify`).
        """
        return self._runtime.services

    async def create_user(
        self,
        email: str | None = None,
        *,
        password: str = PASSWORD,
        name: str | None = None,
        username: str | None = None,
        is_superuser: bool = False,
        profile: Mapping[str, object] | None = None,
    ) -> User:
        """Creates a user in the database of the application; by default with a new, unique address.

        `profile` has the JSON of own columns, which by default have the defaults of their model.

        An application that only verifies credentials of other issuers has no users; the result can
        be used with `acting_as`. Raises InvalidInput for an address, user name, password or profile
        that is not valid, EmailTaken, UsernameTaken or ProfileTaken if another account has it,
        Overloaded if the queue of password hashes is full.
        """
        address = parse_email(
            email or f"user{next(_numbers)}@example.com", allow_reserved=self._allows_reserved
        )
        login = None if username is None else parse_username(username)
        if self._runtime.services_if_any is None:
            return new_user(address, name=name, username=login, is_superuser=is_superuser)
        given = None if profile is None else self.services.own_columns.parse(profile)
        return await self.services.accounts.registration.create(
            address,
            password,
            name=name,
            username=login,
            is_superuser=is_superuser,
            profile=given,
        )

    @property
    def _allows_reserved(self) -> bool:
        services = self._runtime.services_if_any
        return services is None or services.settings.allow_reserved_addresses

    def authenticator(self, secret: str | None = None) -> Authenticator:
        """An authenticator app with a new secret, or with the one that the service has shown."""
        return Authenticator(lambda: self.services, secret)

    async def login(
        self,
        user: User,
        *,
        password: str = PASSWORD,
        strategy: str = "session",
        authenticator: Authenticator | None = None,
    ) -> httpx.Response:
        """Logs in over HTTP. The client keeps the cookie, or sends the token in its headers.

        `authenticator` is the app of an account with a second factor. Raises httpx.HTTPStatusError
        if the login is refused.
        """
        accepted = self.services.settings.login_identifier
        name = {"username": user.username} if accepted == "username" else {"email": user.email}
        path = f"{self.services.settings.prefix}/login"
        response = await self.post(path, json={**name, "password": password, "strategy": strategy})
        if authenticator is not None and response.status_code == 401:
            started = response.json()
            if started["code"] == "second_factor_required":
                proof = {"code": authenticator.code()}
                if "ticket" in started:  # else the client has a cookie for it
                    proof["ticket"] = started["ticket"]
                response = await self.post(f"{path}/second-factor", json=proof)
        response.raise_for_status()
        if token := response.json().get("access_token"):
            self.headers["Authorization"] = f"Bearer {token}"
        return response

    async def outbox(self) -> list[EmailMessage]:
        """All mails so far, the oldest first. Mails that are still queued are delivered first.

        Raises RuntimeError as `services`.
        """
        await self.services.outbox.drain()
        return list(self._mail.messages)

    def _capture_mail(self) -> None:
        """Stores mail in this client instead of sending it."""
        services = self._runtime.services_if_any
        if services is not None and services.mail.transport is not None:
            services.mail.transport = self._mail


class _CapturedMail:
    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []

    def open(self) -> None:
        return None

    async def send(self, message: EmailMessage) -> None:
        self.messages.append(message)

    async def check(self) -> str:
        return "captured for tests"


@asynccontextmanager
async def client(
    app: FastAPI, *, base_url: str = "http://127.0.0.1:8000", delivers_mail: bool = False
) -> AsyncIterator[Client]:
    """A client that calls `app` in this process, inside the lifespan of the application.

    Mail is captured for `outbox`; with `delivers_mail`, it is sent as the settings define. Raises
    RuntimeError if authapi is not installed in `app`, and what the lifespan raises.
    """
    result = Client(app, base_url=base_url)
    if not delivers_mail:
        result._capture_mail()
    async with app.router.lifespan_context(app), result:
        yield result
