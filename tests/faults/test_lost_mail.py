"""34: kill -9 between a commit and its mail loses no mail; duplicates have one Message-ID."""

import asyncio
import random
import re
import time
from collections import defaultdict
from itertools import count
from pathlib import Path

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.figures import scaled
from tests.faults.harness.http_client import Client, Headers, Lost
from tests.servers.process import free_port
from tests.servers.smtp import SMTPServer, new_certificate
from tests.storage.rows import sql

pytestmark = pytest.mark.faults

_ACTORS = 4
_PASSWORD = "correct horse battery staple"
_NAME = re.compile(r'"(mail [0-9]+)"')


class TokenRequests:
    """Creates personal access tokens. The mail about each token contains its name."""

    def __init__(self) -> None:
        self.accepted: list[str] = []
        self.in_doubt: list[str] = []
        self._numbers = count()

    async def run(self, client: Client, headers: Headers) -> None:
        """Creates tokens until there is no response."""
        while True:
            name = f"mail {next(self._numbers)}"
            try:
                response = await client.post("/me/tokens", {"name": name}, headers)
            except Lost:
                self.in_doubt.append(name)
                return
            assert response.status == 201, response
            self.accepted.append(name)


def message_ids_by_name(server: SMTPServer) -> dict[str, list[str]]:
    """Returns the Message-IDs of the mails about each token, one for each arrival."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for message in server.messages:
        text = message.get_body(("plain",))
        assert text is not None
        # The registration sends a mail too, to confirm the address.
        for name in _NAME.findall(text.get_content()):
            found[name].append(message["Message-ID"])
    return found


async def test_34_kill_9_between_commit_and_mail(
    url: str, new_service: NewService, report: Report, chance: random.Random, tmp_path: Path
) -> None:
    rounds, requests, port = scaled(5, 50), TokenRequests(), free_port()
    waiting: list[int] = []
    with SMTPServer(new_certificate(tmp_path, "127.0.0.1"), "plain") as server:
        service = new_service(
            url,
            MAIL_URL=server.url,
            MAIL_TIMEOUT="1",
            MAX_PERSONAL_TOKENS="100000",
            FRESH_MAX_AGE="86400",
        )
        running = await asyncio.to_thread(service.start, port=port)
        headers = await _logged_in(port, url)
        for _ in range(rounds):
            # The server has accepted a mail in transit at the kill, or not: both happen.
            server.dawdles = chance.uniform(0, 0.05)
            first = len(requests.accepted)
            async with Client(port) as client, asyncio.TaskGroup() as group:
                for _ in range(_ACTORS):
                    group.create_task(requests.run(client, headers))
                while len(requests.accepted) == first:  # noqa: ASYNC110  # so that a mail is pending
                    await asyncio.sleep(0.001)
                await asyncio.sleep(chance.uniform(0, 0.2))
                running.process.kill()
            waiting.append(sql(url, "SELECT count(*) FROM authapi_outbox")[0][0])
            running = await asyncio.to_thread(service.start, port=port)
        started_at = time.monotonic()
        while sql(url, "SELECT count(*) FROM authapi_outbox") != [(0,)]:
            assert time.monotonic() - started_at < 120, sql(
                url, "SELECT attempts, error FROM authapi_outbox"
            )
            await asyncio.sleep(0.1)
        duration = time.monotonic() - started_at
        found = message_ids_by_name(server)
    lost = [name for name in requests.accepted if name not in found]
    unknown = found.keys() - set(requests.accepted) - set(requests.in_doubt)
    doubled = {name: ids for name, ids in found.items() if len(ids) > 1}
    undetectable = [name for name, ids in doubled.items() if len(set(ids)) > 1]
    report(
        f"{rounds} rounds, {len(requests.accepted)} requests accepted and "
        f"{len(requests.in_doubt)} in doubt, mails waiting at a kill max {max(waiting)}, "
        f"sum {sum(waiting)}; lost {len(lost)}, "
        f"unexpected {len(unknown)}, more than once {len(doubled)}, of them under another "
        f"Message-ID {len(undetectable)}; the last {duration:.1f} s after the last start"
    )
    assert (lost, unknown, undetectable) == ([], set(), [])
    assert sum(waiting) >= rounds / 2, "the kills came before the mails were sent"


async def _logged_in(port: int, url: str) -> Headers:
    body: dict[str, object] = {"email": "alice@example.com", "password": _PASSWORD}
    async with Client(port) as client:
        assert (await client.post("/register", body)).status == 201
        # Only a mail to a confirmed address contains the name of the token.
        sql(url, "UPDATE authapi_users SET email_confirmed_at = created_at")
        response = await client.post("/login", body)
        assert response.status == 200
        return {"Cookie": response.headers["set-cookie"].partition(";")[0]}
