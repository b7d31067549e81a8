"""36: kill -9 between the code of a second factor and its session leaves nothing half done."""

import asyncio
import itertools
import random
import time
from dataclasses import dataclass

import pyotp
import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import headers_of, new_password
from tests.faults.harness.checker import check_rows
from tests.faults.harness.figures import scaled
from tests.faults.harness.http_client import Client, Lost
from tests.servers.process import free_port
from tests.storage.rows import sql

pytestmark = pytest.mark.faults

_ACCOUNTS = 8


@dataclass
class _Login:
    """A login that waits for its second factor."""

    user_id: str
    ticket: str
    body: dict[str, str]
    is_acknowledged: bool = False


async def test_36_kill_9_between_code_and_session(
    url: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    service, port, rounds = new_service(url), free_port(), scaled(5, 50)
    running = await asyncio.to_thread(service.start, port=port)
    done, undone, half_done = 0, 0, list[str]()
    for number in range(rounds):
        async with Client(port) as client:
            logins = [
                await _begin(url, client, chance, by_code=bool(n % 2)) for n in range(_ACCOUNTS)
            ]
            sent = [asyncio.create_task(_complete(client, login)) for login in logins]
            # Some rounds kill before the first answer, others between two of them.
            for task in itertools.islice(asyncio.as_completed(sent), number % 5):
                await task
            await asyncio.sleep(chance.uniform(0, 0.02))
            running.process.kill()
            await asyncio.gather(*sent)
        running = await asyncio.to_thread(service.start, port=port)
        for login in logins:
            outcome = _outcome(url, login)
            done += outcome == (True,) * 4
            undone += outcome == (False,) * 4
            if len(set(outcome)) > 1 or (login.is_acknowledged and not all(outcome)):
                half_done.append(f"{outcome}, acknowledged: {login.is_acknowledged}")
    problems = check_rows(url)
    report(
        f"{rounds} rounds of {_ACCOUNTS} logins: {done} complete, {undone} not begun, "
        f"half done {len(half_done)}, contradicting rows {len(problems)}"
    )
    assert (half_done, problems) == ([], [])
    assert done + undone == rounds * _ACCOUNTS


async def _begin(url: str, client: Client, chance: random.Random, *, by_code: bool) -> _Login:
    """Registers an account, adds an authenticator app, and logs in up to the second factor."""
    email, password = f"{chance.getrandbits(64):x}@example.com", new_password()
    registered = await client.post("/register", {"email": email, "password": password})
    assert registered.status == 201, registered.body
    # Where mail is sent, a second factor needs a confirmed address.
    sql(url, f"UPDATE authapi_users SET email_confirmed_at = created_at WHERE email = '{email}'")
    credentials = {"email": email, "password": password, "strategy": "token"}
    headers = headers_of(
        await client.post("/login", {**credentials, "strategy": "session"}), "session"
    )
    enrolment = await client.post("/me/factors/totp", None, headers)
    app, at = pyotp.TOTP(enrolment.json()["secret"]), int(time.time())
    confirmed = await client.post("/me/factors/totp/confirm", {"code": app.at(at)}, headers)
    assert confirmed.status == 200, confirmed.body
    answer = await client.post("/login", credentials)
    assert answer.json()["code"] == "second_factor_required"
    ticket = answer.json()["ticket"]
    code = {"code": app.at(at, counter_offset=1)}
    recovery = {"recovery_code": confirmed.json()["recovery_codes"][0]}
    body = {"ticket": ticket, **(code if by_code else recovery)}
    return _Login(registered.json()["id"], ticket, body)


async def _complete(client: Client, login: _Login) -> None:
    try:
        answer = await client.post("/login/second-factor", login.body)
    except Lost:
        return
    assert answer.status == 200, answer.body
    login.is_acknowledged = True


def _outcome(url: str, login: _Login) -> tuple[bool, bool, bool, bool]:
    """Whether the ticket and the code are used up, and the session and its event exist."""
    user = login.user_id if url.startswith("postgresql") else login.user_id.replace("-", "")

    def count(query: str) -> int:
        return int(sql(url, f"SELECT count(*) FROM {query} AND user_id = '{user}'")[0][0])

    if "code" in login.body:
        # The confirmation has used the first step up.
        used = count("authapi_totp_factors WHERE last_used_at > confirmed_at")
    else:
        used = count("authapi_recovery_codes WHERE used_at IS NOT NULL")
    return (
        count("authapi_login_tickets WHERE attempts >= 0") == 0,
        used == 1,
        count("authapi_sessions WHERE kind = 'token'") == 1,
        count("authapi_events WHERE type = 'login' AND strategy = 'token'") == 1,
    )
