"""`authapi serve` for the journeys: its address, its mails, and requests of programs."""

import email
import email.policy
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import httpx

from tests.servers.process import ServeProcess, free_port

PASSWORD = "correct horse battery staple"
ADMINISTRATOR = "administrator@example.com"

SETTINGS = {
    "AUTHAPI_CHEAP_HASHES": "true",
    "AUTHAPI_BRAND_NAME": "Acme",
    "AUTHAPI_SCOPES": "reports:read=Read reports; reports:write=Write and delete reports",
    "AUTHAPI_SUPPORT_URL": "mailto:help@example.com",
    # All people of these tests are in one network.
    "AUTHAPI_LIMIT_ACCOUNT_AND_NETWORK": "5/minute;30/hour",
    "AUTHAPI_LIMIT_NETWORK": "10000/minute",
    "AUTHAPI_LIMIT_REGISTRATIONS": "10000/minute",
}

_numbers = count(1)


def new_address() -> str:
    """An address without an account."""
    return f"person{next(_numbers)}@example.com"


class Installation:
    """A running service, as its people and programs see it."""

    def __init__(self, url: str, data: Path, client: httpx.Client) -> None:
        self.url = url
        self._mail, self._client = data / "mail", client
        self._read: dict[str, tuple[str, str]] = {}

    def post(
        self, path: str, body: dict[str, object], *, token: str | None = None
    ) -> httpx.Response:
        """Sends a request of a program, which is not refused."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        answer = self._client.post(self.url + path, json=body, headers=headers)
        assert answer.is_success, (answer.status_code, answer.text)
        return answer

    def register(self, language: str, **members: object) -> str:
        """Creates an account whose address is not confirmed; returns the address."""
        address = str(members.get("email", new_address()))
        body = {"email": address, "password": PASSWORD, "name": "Alice", "locale": language}
        self.post("/register", {**body, **members})
        return address

    def confirm(self, address: str) -> None:
        """Confirms the address of an account, by the link in the mail."""
        token = self.link("confirm", address).partition("token=")[2].partition("&")[0]
        self.post("/email/confirm", {"token": token, "password": PASSWORD})

    def log_in(self, address: str) -> str:
        """Logs in as a program; returns its token."""
        body: dict[str, object] = {"email": address, "password": PASSWORD, "strategy": "jwt"}
        token: str = self.post("/login", body).json()["access_token"]
        return token

    def rename(self, address: str, name: str) -> None:
        """Changes the name of an account, as a program does."""
        headers = {"authorization": f"Bearer {self.log_in(address)}"}
        answer = self._client.patch(f"{self.url}/me", json={"name": name}, headers=headers)
        assert answer.is_success, answer.text

    def invite(self) -> str:
        """Invites a person, as an administrator does by the API; returns the address."""
        address = new_address()
        token = self.log_in(ADMINISTRATOR)
        self.post("/admin/users", {"email": address, "name": "Alice"}, token=token)
        return address

    def status(self, token: str) -> int:
        """The status of `GET /me` with this token."""
        headers = {"authorization": f"Bearer {token}"}
        return self._client.get(f"{self.url}/me", headers=headers).status_code

    def link(self, page: str, address: str, *, after: str = "") -> str:
        """The newest link to this page that was mailed to the address, other than `after`."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for name in sorted(self._new_mails(), reverse=True):
                to, text = self._read[name]
                found = re.search(rf"http://\S+/account/{page}\?token=\S+", text)
                if found and to == address and found[0] != after:
                    return found[0]
            time.sleep(0.02)
        raise AssertionError(f"no mail to {address} leads to {page}")

    def _new_mails(self) -> dict[str, tuple[str, str]]:
        for path in self._mail.glob("*.eml"):
            if path.name not in self._read:
                message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
                body = message.get_body(("plain",))
                text = "" if body is None else body.get_content()
                self._read[path.name] = (str(message["to"]), text)
        return self._read


@contextmanager
def installed(folder: Path, port: int | None = None, /, **settings: str) -> Iterator[Installation]:
    """Runs a service with an administrator; its data is below `folder`. `port` is a free one.

    Its host is localhost, because browsers refuse passkeys at an address.
    """
    data = folder / "data"
    data.mkdir(mode=0o700)
    port = port or free_port()
    url = f"http://localhost:{port}"
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "AUTHAPI_DATA_DIR": str(data),
        "AUTHAPI_PUBLIC_URL": url,
        "AUTHAPI_PORT": str(port),
        **SETTINGS,
        **settings,
    }
    command = [sys.executable, "-m", "authapi"]
    subprocess.run(
        [*command, "users", "create", "--superuser", ADMINISTRATOR],
        env=environment,
        input=PASSWORD.encode(),
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=120,
    )
    with ServeProcess([*command, "serve"], environment, folder) as process:
        process.wait_ready(f"{url}/health/ready", timeout=120)
        with httpx.Client(trust_env=False, timeout=30) as client:
            yield Installation(url, data, client)
        assert process.terminate() == 0, process.output()
        assert "Traceback" not in process.output()
