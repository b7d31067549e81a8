"""34: kill -9 of the service between a commit and its mail loses none, and doubles none unseen."""

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
from tests.faults.harness.wire import Client, Headers, Lost
from tests.servers.process import free_port
from tests.servers.smtp import SMTPServer, new_certificate
from tests.storage.rows import sql

pytestmark = pytest.mark.faults

_ACTORS = 4
_PASSWORD = "correct horse battery staple"
_NAME = re.compile(r'"(mail [0-9]+)"')


class Asking:
    """Makes personal access tokens, each of which is told of by a mail that names it."""

    def __init__(self) -> None:
        self.accepted: list[str] = []
        self.doubtful: list[str] = []
        self._numbers = count()

    async def go_on(self, client: Client, headers: Headers) -> None:
        """Until nobody answers any more."""
        while True:
            name = f"mail {next(self._numbers)}"
            try:
                answer = await client.post("/me/tokens", {"name": name}, headers)
            except Lost:
                self.doubtful.append(name)
                return
            assert answer.status == 201, answer
            self.accepted.append(name)


def arrived(server: SMTPServer) -> dict[str, list[str]]:
    """By the name in a mail, the Message-IDs that it came under, each as often as it came."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for message in server.messages:
        text = message.get_body(("plain",))
        assert text is not None
        # A registration sends one too, that its address be confirmed.
        for name in _NAME.findall(text.get_content()):
            found[name].append(message["Message-ID"])
    return found


async def test_34_kill_9_between_commit_and_mail(
    url: str, new_service: NewService, report: Report, chance: random.Random, tmp_path: Path
) -> None:
    rounds, asking, port = scaled(5, 50), Asking(), free_port()
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
            # A mail that is on its way when the service dies was taken, or was not: both happen.
            server.dawdles = chance.uniform(0, 0.05)
            first = len(asking.accepted)
            async with Client(port) as client, asyncio.TaskGroup() as group:
                for _ in range(_ACTORS):
                    group.create_task(asking.go_on(client, headers))
                while len(asking.accepted) == first:  # noqa: ASYNC110  # so that a mail is owed
                    await asyncio.sleep(0.001)
                await asyncio.sleep(chance.uniform(0, 0.2))
                running.process.kill()
            waiting.append(sql(url, "SELECT count(*) FROM outbox")[0][0])
            running = await asyncio.to_thread(service.start, port=port)
        began = time.monotonic()
        while sql(url, "SELECT count(*) FROM outbox") != [(0,)]:
            assert time.monotonic() - began < 120, sql(url, "SELECT attempts, error FROM outbox")
            await asyncio.sleep(0.1)
        took = time.monotonic() - began
        found = arrived(server)
    lost = [name for name in asking.accepted if name not in found]
    unknown = found.keys() - set(asking.accepted) - set(asking.doubtful)
    doubled = {name: ids for name, ids in found.items() if len(ids) > 1}
    unseen = [name for name, ids in doubled.items() if len(set(ids)) > 1]
    report(
        f"{rounds} rounds, {len(asking.accepted)} requests accepted and {len(asking.doubtful)} in "
        f"doubt, mails waiting at a kill max {max(waiting)}, sum {sum(waiting)}; lost {len(lost)}, "
        f"for nothing {len(unknown)}, more than once {len(doubled)}, of them under another "
        f"Message-ID {len(unseen)}; the last {took:.1f} s after the last start"
    )
    assert (lost, unknown, unseen) == ([], set(), [])
    assert sum(waiting) >= rounds / 2, "the service died before mails had left"


async def _logged_in(port: int, url: str) -> Headers:
    body: dict[str, object] = {"email": "alice@example.com", "password": _PASSWORD}
    async with Client(port) as client:
        assert (await client.post("/register", body)).status == 201
        # The mail tells the name of a token only to those whose address is confirmed.
        sql(url, "UPDATE users SET email_confirmed_at = created_at")
        answer = await client.post("/login", body)
        assert answer.status == 200
        return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
