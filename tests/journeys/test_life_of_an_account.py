"""The life of an account with real mail.

Registration, confirmation, password reset, e-mail change, takeover by a thief, recovery, deletion.
"""

import re
import time
from collections.abc import AsyncIterator, Iterator
from email.message import EmailMessage

import anyio
import httpx
import pytest

from authapi import Settings, create_app
from authapi.domain.email_address import parse_email
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.mail import MailKind
from authapi.testing import PASSWORD, Client, client
from tests.servers.smtp import Certificate, SMTPServer, new_certificate
from tests.web.responses import problem

ALICE, NEW, THIEF = "alice@example.com", "alice@example.org", "thief@example.net"
OTHER = "another horse, another battery"
THIRD = "a third horse, a third battery"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return new_certificate(tmp_path_factory.mktemp("tls"), "127.0.0.1", "localhost")


@pytest.fixture
def server(certificate: Certificate) -> Iterator[SMTPServer]:
    with SMTPServer(certificate) as found:
        yield found


class Person:
    """A person with an HTTP client, and mailboxes at the SMTP server."""

    def __init__(self, api: Client, server: SMTPServer) -> None:
        self.api, self._server = api, server
        self._read = set[str]()

    async def post(self, path: str, **body: str) -> httpx.Response:
        return await self.api.post(path, json=body)

    async def mail(self, to: str) -> EmailMessage:
        """The next unread mail to this address."""
        with anyio.fail_after(20):
            while True:
                for message in self._server.messages:
                    if message["to"] == to and message["message-id"] not in self._read:
                        self._read.add(message["message-id"])
                        return message
                await anyio.sleep(0.01)

    async def link(self, to: str, page: str) -> str:
        """The token of the link in the next mail, which must lead to this page."""
        body = (await self.mail(to)).get_body(("plain",))
        assert body is not None
        found = re.search(r"http://\S+/account/(\w+)\?token=([\w-]{43})", body.get_content())
        assert found is not None
        assert found[1] == page
        return found[2]

    async def login(self, email: str, password: str) -> httpx.Response:
        self.api.cookies.clear()
        return await self.post("/login", email=email, password=password)

    async def me(self) -> dict[str, object]:
        found: dict[str, object] = (await self.api.get("/me")).raise_for_status().json()
        return found


@pytest.fixture(params=["open", "confirm"])
async def person(
    request: pytest.FixtureRequest, server: SMTPServer, database_url: str
) -> AsyncIterator[Person]:
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]
        registration=request.param,
        mail_url=server.url,  # type: ignore[arg-type]
        mail_from="Example <no-reply@mail.example>",
        mail_ca_file=server.certificate.path,
    )
    async with client(create_app(settings), delivers_mail=True) as api:
        yield Person(api, server)


async def test_life_of_an_account(person: Person) -> None:
    status = {"open": 201, "confirm": 202}[person.api.services.settings.registration]
    made = await person.post("/register", email=ALICE, password=PASSWORD, name="Alice")
    assert made.status_code == status
    confirm = await person.link(ALICE, "confirm")
    assert (await person.login(ALICE, PASSWORD)).status_code == {201: 200, 202: 401}[status]
    person.api.cookies.clear()
    assert (await person.post("/email/confirm", token=confirm, password=PASSWORD)).is_success
    assert (await person.login(ALICE, PASSWORD)).status_code == 200
    assert (await person.me())["name"] == "Alice"

    # Password reset
    assert (await person.post("/password/forgot", email=ALICE)).status_code == 202
    reset = await person.link(ALICE, "reset")
    assert (await person.post("/password/reset", token=reset, new_password=OTHER)).is_success
    assert "password" in str((await person.mail(ALICE))["subject"]).lower()
    problem(await person.api.get("/me"), 401, "unauthenticated")
    assert (await person.login(ALICE, OTHER)).status_code == 200

    # E-mail change
    assert (await person.post("/me/email", email=NEW)).status_code == 202
    change = await person.link(NEW, "confirm")
    assert (await person.post("/email/confirm", token=change)).is_success
    assert (await person.me())["email"] == NEW
    await person.link(ALICE, "undo")

    # A thief with the password changes the address, and the owner reverts the change.
    assert (await person.post("/me/email", email=THIEF, current_password=OTHER)).is_success
    stolen = await person.link(THIEF, "confirm")
    assert (await person.post("/email/confirm", token=stolen)).is_success
    undo = await person.link(NEW, "undo")
    assert (await person.post("/email/undo", token=undo, email=NEW)).is_success
    problem(await person.api.get("/me"), 401, "unauthenticated")
    problem(await person.login(NEW, OTHER), 401, "invalid_credentials")
    reset = await person.link(NEW, "reset")
    assert (await person.post("/password/reset", token=reset, new_password=THIRD)).is_success
    assert (await person.login(NEW, THIRD)).status_code == 200
    assert (await person.me())["email"] == NEW

    # Export and deletion
    exported = (await person.api.get("/me/export")).raise_for_status().json()
    kinds = {event["type"] for event in exported["events"]}
    assert {"email_confirmed", "password_reset", "email_changed", "email_change_reverted"} <= kinds
    assert (await person.post("/me/reauthenticate", password=THIRD)).is_success
    assert (await person.api.delete("/me")).status_code == 204
    problem(await person.login(NEW, THIRD), 401, "invalid_credentials")
    again = await person.post("/register", email=NEW, password=PASSWORD)
    assert again.status_code == status
    await person.mail(NEW)  # the notification about the password change
    assert await person.link(NEW, "confirm")


async def test_an_invitation_is_accepted(person: Person) -> None:
    services = person.api.services
    user = await services.accounts.registration.create(parse_email(ALICE), None, name="Alice")
    async with services.database.transaction() as store:
        await EmailTokens(services.database, services.mail, services.settings).send(
            store, user, MailKind.INVITATION
        )
    secret = await person.link(ALICE, "invitation")
    answer = await person.post("/invitation/accept", token=secret, password=PASSWORD)
    assert answer.status_code == 204
    assert (await person.login(ALICE, PASSWORD)).status_code == 200
    assert (await person.me())["email_confirmed_at"] is not None


async def test_requests_do_not_wait_for_an_unavailable_mail_server(
    person: Person, server: SMTPServer
) -> None:
    await person.api.create_user(ALICE)
    server.stop()
    took = []
    for _ in range(3):
        began = time.perf_counter()
        assert (await person.post("/password/forgot", email=ALICE)).status_code == 202
        took.append(time.perf_counter() - began)
    assert min(took) < 0.5
    server.start()
    assert await person.link(ALICE, "reset")
