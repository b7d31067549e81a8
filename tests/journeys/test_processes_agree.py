"""Two real `authapi serve` processes on one database: a change in one takes effect in the other.

The other process has just authenticated the same credentials, so they are in its identity cache.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx
import pytest

from authapi.storage.sqlite import _CHECK_INTERVAL
from tests.servers.forked import Forking
from tests.servers.postgres import PostgresServer
from tests.servers.process import free_port
from tests.web.scanners import PATH, Scanner, publish, report

PASSWORD = "correct horse battery staple"
NOTIFICATION_BOUND = 2.0
"""Seconds within which the other process must have the change, on PostgreSQL."""

SCANNER = Scanner()

_numbers = count(1)


@dataclass(frozen=True)
class Service:
    """One service with two processes, and its command line."""

    first: httpx.Client
    second: httpx.Client
    environment: Mapping[str, str]
    directory: Path
    forking: Forking
    is_immediate: bool

    def run(self, *arguments: str, text: str = "") -> str:
        """Run an `authapi` command."""
        done = self.forking.run(arguments, self.environment, self.directory, text)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def service(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    worker: str,
    forking: Forking,
) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("service")
    ports = free_port(), free_port()
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(directory / "data"),
        "AUTHAPI_PUBLIC_URL": urls[0],
        "AUTHAPI_LIMIT_REGISTRATIONS": "1000/minute",
        "AUTHAPI_SCOPES": "reports:read=Read reports",
        "AUTHAPI_ROLES": "reader=reports:read",
        "AUTHAPI_LEAK_REPORT_KEYS": str(publish(directory / "scanners.json", SCANNER)),
    }
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    with ExitStack() as stack:
        if request.param == "postgres":
            postgres: PostgresServer = request.getfixturevalue("postgres")
            template = request.getfixturevalue("postgres_template")
            name = f"agree_{worker}"
            environment["AUTHAPI_DATABASE_URL"] = postgres.create_database(name, template=template)
            stack.callback(postgres.drop_database, name)
        servers = []
        for port, url in zip(ports, urls, strict=True):
            command = ["serve", "--port", str(port)]
            server = stack.enter_context(forking.start(command, environment, directory))
            server.wait_ready(f"{url}/health/ready", timeout=60)
            servers.append(server)
        first, second = (stack.enter_context(httpx.Client(base_url=url)) for url in urls)
        yield Service(first, second, environment, directory, forking, request.param == "sqlite")
        for server in servers:
            assert server.terminate() == 0
            assert "Traceback" not in server.output()


@dataclass(frozen=True)
class Credential:
    """The credential that a login returned, and its session."""

    strategy: str
    headers: dict[str, str]
    session_id: str
    refresh_token: str = ""


class Account:
    """A user with one login of each kind, which are in the identity cache of both processes."""

    def __init__(self, service: Service) -> None:
        self.email = f"user{next(_numbers)}@example.com"
        self._login = {"email": self.email, "password": PASSWORD}
        assert service.first.post("/register", json=self._login).status_code == 201
        self.manager = self._log_in(service, "session")
        self.id = service.first.get("/me", headers=self.manager.headers).json()["id"]
        self.credentials = [self._log_in(service, name) for name in ("session", "token", "jwt")]
        for _ in range(2):
            for client in (service.first, service.second):
                for credential in (*self.credentials, self.manager):
                    assert client.get("/me", headers=credential.headers).status_code == 200

    def _log_in(self, service: Service, strategy: str) -> Credential:
        service.first.cookies.clear()
        answer = service.first.post("/login", json={**self._login, "strategy": strategy})
        assert answer.status_code == 200
        if strategy == "session":
            headers = {"Cookie": f"authapi={answer.cookies['authapi']}"}
        else:
            headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        service.first.cookies.clear()
        identity = service.first.get("/me/identity", headers=headers).json()
        assert identity["strategy"] == strategy
        refresh_token = answer.json().get("refresh_token", "")
        return Credential(strategy, headers, identity["session_id"], refresh_token)


def is_revoked(client: httpx.Client, credential: Credential, *, at_once: bool) -> bool:
    deadline = time.monotonic() + NOTIFICATION_BOUND
    while True:
        status = client.get("/me", headers=credential.headers).status_code
        if status == 401:
            return True
        assert status == 200
        if at_once or time.monotonic() > deadline:
            return False
        time.sleep(0.005)


def log_out(service: Service, account: Account) -> list[Credential]:
    for credential in account.credentials:
        assert service.first.post("/logout", headers=credential.headers).status_code == 204
    return account.credentials


def revoke(service: Service, account: Account) -> list[Credential]:
    *tokens, by_refresh_token = (item for item in account.credentials if item.strategy != "session")
    for credential in tokens:
        text = credential.headers["Authorization"].removeprefix("Bearer ")
        assert service.first.post("/token/revoke", data={"token": text}).status_code == 200
    text = by_refresh_token.refresh_token
    assert service.first.post("/token/revoke", data={"token": text}).status_code == 200
    return [*tokens, by_refresh_token]


def end_each(service: Service, account: Account) -> list[Credential]:
    for credential in account.credentials:
        path = f"/me/sessions/{credential.session_id}"
        answer = service.first.delete(path, headers=account.manager.headers)
        assert answer.status_code == 204
    return account.credentials


def end_all_others(service: Service, account: Account) -> list[Credential]:
    answer = service.first.delete("/me/sessions", headers=account.manager.headers)
    assert answer.status_code == 204
    return account.credentials


def change_password(service: Service, account: Account) -> list[Credential]:
    answer = service.first.post(
        "/me/password",
        json={"current_password": PASSWORD, "new_password": PASSWORD[::-1]},
        headers=account.manager.headers,
    )
    assert answer.status_code == 204
    service.first.cookies.clear()
    # The session of the request continues with a new cookie, so its old cookie is invalid as well.
    return [*account.credentials, account.manager]


def delete_account(service: Service, account: Account) -> list[Credential]:
    answer = service.first.delete("/me", headers=account.manager.headers)
    assert answer.status_code == 204
    return [*account.credentials, account.manager]


def leak(service: Service, account: Account) -> list[Credential]:
    # Scanners do not recognize cookies. The other two credentials are revoked without a logout.
    _, *bearers = account.credentials
    texts = [item.headers["Authorization"].removeprefix("Bearer ") for item in bearers]
    body = report(*texts)
    answer = service.first.post(PATH, content=body, headers=SCANNER.headers(body))
    assert [item["label"] for item in answer.json()] == ["true_positive", "true_positive"]
    return bearers


def deactivate_by_command(service: Service, account: Account) -> list[Credential]:
    service.run("users", "deactivate", account.email)
    return [*account.credentials, account.manager]


def end_one_by_command(service: Service, account: Account) -> list[Credential]:
    *_, last = account.credentials
    assert service.run("sessions", "end", last.session_id) == "Ended: 1\n"
    return [last]


class Root(Account):
    """A superuser with a recent login."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        service.run("users", "superuser", self.email)

    def act(self, service: Service, method: str, path: str, **body: object) -> None:
        """Send a request of the superuser to the first process."""
        answer = service.first.request(
            method, f"/admin/users/{path}", headers=self.manager.headers, json=body or None
        )
        assert answer.status_code in (200, 204), answer.text


def deactivate_by_superuser(service: Service, account: Account) -> list[Credential]:
    Root(service).act(service, "PATCH", account.id, is_active=False)
    return [*account.credentials, account.manager]


def end_by_superuser(service: Service, account: Account) -> list[Credential]:
    Root(service).act(service, "DELETE", f"{account.id}/sessions")
    return [*account.credentials, account.manager]


def delete_by_superuser(service: Service, account: Account) -> list[Credential]:
    Root(service).act(service, "DELETE", account.id)
    return [*account.credentials, account.manager]


@pytest.fixture(scope="module")
def bystander(service: Service) -> Account:
    """An account that no test changes."""
    return Account(service)


@pytest.mark.slow
@pytest.mark.parametrize(
    "end",
    [
        log_out,
        revoke,
        end_each,
        end_all_others,
        change_password,
        delete_account,
        leak,
        deactivate_by_command,
        end_one_by_command,
        deactivate_by_superuser,
        end_by_superuser,
        delete_by_superuser,
    ],
)
def test_revocation_takes_effect_in_the_other_process(
    service: Service, bystander: Account, end: Callable[[Service, Account], list[Credential]]
) -> None:
    account = Account(service)
    ended = end(service, account)
    # A command runs in a third process, so both processes are others.
    is_own = not end.__name__.endswith("_by_command")
    if service.is_immediate:
        time.sleep(_CHECK_INTERVAL)
    for credential in ended:
        at_once = service.is_immediate
        assert is_revoked(service.second, credential, at_once=at_once), credential.strategy
        assert is_revoked(service.first, credential, at_once=at_once or is_own), credential.strategy
    for credential in (*account.credentials, account.manager, *bystander.credentials):
        expected = 401 if credential in ended else 200
        for client in (service.first, service.second):
            assert client.get("/me", headers=credential.headers).status_code == expected


def test_a_new_name_is_visible_in_the_other_process(service: Service) -> None:
    account = Account(service)
    for number, (changing, asked) in enumerate(
        ((service.first, service.second), (service.second, service.first), (service.first,) * 2)
    ):
        name = f"name {number}"
        headers = account.manager.headers
        assert changing.patch("/me", json={"name": name}, headers=headers).status_code == 200
        if service.is_immediate and changing is not asked:
            time.sleep(_CHECK_INTERVAL)
        for credential in account.credentials:
            deadline = time.monotonic() + NOTIFICATION_BOUND
            while asked.get("/me", headers=credential.headers).json()["name"] != name:
                assert not service.is_immediate
                assert changing is not asked
                assert time.monotonic() < deadline
                time.sleep(0.005)


@pytest.mark.parametrize("by", ["superuser", "command"])
def test_changed_roles_take_effect_in_the_other_process(service: Service, by: str) -> None:
    account, root = Account(service), Root(service)

    def scopes_in_second(credential: Credential) -> list[str]:
        identity = service.second.get("/me/identity", headers=credential.headers).json()
        found: list[str] = identity["scopes"]
        return found

    def give(*roles: str) -> None:
        if by == "command":
            service.run("users", "roles", account.email, *roles)
        else:
            root.act(service, "PATCH", account.id, roles=list(roles))

    def see(credential: Credential, scopes: list[str]) -> None:
        if service.is_immediate:
            time.sleep(_CHECK_INTERVAL)
        deadline = time.monotonic() + NOTIFICATION_BOUND
        while scopes_in_second(credential) != scopes:
            assert not service.is_immediate
            assert time.monotonic() < deadline
            time.sleep(0.005)

    give("reader")
    # A JWT contains the scopes of the time when it was signed, so it gains none.
    gaining = [item for item in account.credentials if item.strategy != "jwt"]
    for credential in gaining:
        see(credential, ["reports:read"])
    jwt = account._log_in(service, "jwt")
    see(jwt, ["reports:read"])
    give()
    for credential in (*account.credentials, jwt):
        see(credential, [])


def test_revoked_superuser_rights_end_in_the_other_process(service: Service) -> None:
    root, other = Root(service), Root(service)
    for credential in (other.manager, other.credentials[-1]):
        deadline = time.monotonic() + NOTIFICATION_BOUND
        while service.second.get("/admin/users", headers=credential.headers).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    root.act(service, "PATCH", other.id, is_superuser=False)
    if service.is_immediate:
        time.sleep(_CHECK_INTERVAL)
    for credential in (other.manager, other.credentials[-1]):
        deadline = time.monotonic() + NOTIFICATION_BOUND
        while service.second.get("/admin/users", headers=credential.headers).status_code != 403:
            assert not service.is_immediate
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert service.second.get("/me", headers=credential.headers).status_code == 200
