"""A client of an application in this process, with users and the mail that was sent."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from email.message import EmailMessage
from itertools import count
from typing import Any

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
        """An authenticator app and a passkey, which `enrol` and `enrol_passkey` add to an account.

        `secret` is what the service has shown for the app; by default a new one.
        """
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

        `authenticator` is that of an account with a second factor: its app, or its passkey if the
        account has no app of it. Raises httpx.HTTPStatusError if the login is refused.
        """
        accepted = self.services.settings.login_identifier
        name = {"username": user.username} if accepted == "username" else {"email": user.email}
        path = f"{self.services.settings.prefix}/login"
        response = await self.post(path, json={**name, "password": password, "strategy": strategy})
        if authenticator is not None and response.status_code == 401:
            started = response.json()
            if started["code"] == "second_factor_required":
                # Without a ticket, the client has a cookie for it.
                login = {"ticket": started["ticket"]} if "ticket" in started else {}
                proof = await self._proof(
                    authenticator, started["methods"], f"{path}/second-factor", login
                )
                response = await self.post(f"{path}/second-factor", json={**login, **proof})
        return self._use(response)

    async def login_by_passkey(
        self, authenticator: Authenticator, *, strategy: str = "session"
    ) -> httpx.Response:
        """Logs in over HTTP by the passkey alone, as `login`.

        Raises httpx.HTTPStatusError if the login is refused.
        """
        path = f"{self.services.settings.prefix}/login/passkey"
        credential = authenticator.passkey.get(await self._options(path, {}))
        body = {"credential": credential, "strategy": strategy}
        return self._use(await self.post(path, json=body))

    async def add_passkey(
        self, authenticator: Authenticator, *, name: str = "Passkey"
    ) -> httpx.Response:
        """Adds the passkey to the account that is logged in, over HTTP.

        The response has the recovery codes with the first second factor. Raises
        httpx.HTTPStatusError if it is refused, as without a recent login.
        """
        path = f"{self.services.settings.prefix}/me/factors/passkeys"
        credential = authenticator.passkey.create(await self._options(path))
        response = await self.post(path, json={"credential": credential, "name": name})
        return response.raise_for_status()

    async def step_up(self, authenticator: Authenticator) -> httpx.Response:
        """Proves the second factor of the login again, over HTTP: a passkey, or a code of the app.

        Raises httpx.HTTPStatusError if it is refused.
        """
        path = f"{self.services.settings.prefix}/me/reauthenticate"
        methods = ["passkey"] if authenticator.has_passkey else ["totp"]
        proof = await self._proof(authenticator, methods, path, None)
        return (await self.post(path, json=proof)).raise_for_status()

    async def _proof(
        self,
        authenticator: Authenticator,
        methods: Collection[str],
        path: str,
        login: Mapping[str, str] | None,
    ) -> dict[str, object]:
        if authenticator.proves(methods) == "code":
            return {"code": authenticator.code()}
        return {"passkey": authenticator.passkey.get(await self._options(path, login))}

    async def _options(self, path: str, body: Mapping[str, str] | None = None) -> Any:
        return (await self.post(f"{path}/options", json=body)).raise_for_status().json()

    def _use(self, response: httpx.Response) -> httpx.Response:
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
