"""Afterwards: is every acknowledged fact there, and every doubtful change there entirely or not?"""

import asyncio
import time
from collections.abc import Iterable

from tests.faults.harness.actors import refreshed
from tests.faults.harness.facts import Account, Credential
from tests.faults.harness.wire import Client
from tests.storage.rows import sql

_SIGNED = "SELECT id, user_id FROM sessions WHERE kind = 'jwt'"
_AT_ONCE = 4
_GRACE = 25
"""Seconds: less than `refresh_grace`, which begins somewhat before we can know."""


async def check(client: Client, accounts: Iterable[Account]) -> list[str]:
    """What is not as it has to be, one line each."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(account: Account) -> list[str]:
        async with turns:
            return [f"{text} ({account.doubt=})" for text in await _problems(client, account)]

    found = await asyncio.gather(*(one(account) for account in accounts))
    return [text for texts in found for text in texts]


async def accepted(client: Client, credential: Credential) -> bool:
    """Whether the service takes this credential."""
    answer = await client.get("/me", credential.headers)
    assert answer.status in {200, 401}, answer
    return answer.status == 200


async def opens(client: Client, email: str, password: str) -> bool:
    """Whether one can log in with this."""
    body = {"email": email, "password": password, "strategy": "token"}
    answer = await client.post("/login", body)
    assert answer.status in {200, 401}, answer
    return answer.status == 200


async def is_spent(client: Client, refresh_token: str) -> bool:
    """Whether the service refuses this refresh token; else it has been exchanged."""
    answer = await client.grant(refresh_token)
    assert answer.status == 200 or (
        answer.status == 400 and answer.json()["error"] == "invalid_grant"
    ), answer
    return answer.status == 400


async def _renews(client: Client, account: Account, credential: Credential) -> bool:
    """Whether a login can be refreshed, by the newest token that the client has."""
    assert credential.refresh_token
    answer = await client.grant(credential.refresh_token)
    assert answer.status in {200, 400}, answer
    if answer.status == 200:
        account.swap(credential, refreshed(credential, answer))
    return answer.status == 200


async def _half_there(client: Client, account: Account) -> list[str]:
    """Logins that are accepted and cannot be refreshed, or the other way round."""
    problems = []
    for credential in [found for found in account.live if found.refresh_token]:
        late = time.monotonic() > account.doubted_at + _GRACE
        if account.doubt == "refresh" and credential is account.questioned and late:
            continue  # what is right then depends on whether it was refreshed
        is_there = await accepted(client, credential)
        renews = await _renews(client, account, credential)
        if account.doubt == "password":
            changed = await opens(client, account.email, account.new_password or "")
            if renews == changed:
                problems.append(f"half changed: {changed=}, and {renews=}")
        elif is_there != renews:
            problems.append(f"half a login: {is_there=}, and {renews=}")
    return problems


async def _problems(client: Client, account: Account) -> list[str]:
    problems = await _half_there(client, account)
    for credential, _ in account.dead:
        if await accepted(client, credential):
            problems.append(f"a revoked {credential.strategy} is accepted")
        if credential.refresh_token and not await is_spent(client, credential.refresh_token):
            problems.append("a revoked login is refreshed")
    for token in account.spent:
        if not await is_spent(client, token):
            problems.append("a refresh token survived a change of password")
    is_open = await opens(client, account.email, account.password)
    if account.is_deleted:
        return [*problems, "a deleted account is there"] if is_open else problems
    living = {
        credential.session_id or id(credential): await accepted(client, credential)
        for credential in account.live
        # What is refreshed does not end by it.
        if credential is not account.questioned or account.doubt == "refresh"
    }
    match account.doubt:
        case "register":
            # Where there is no account, nothing of it may be there; `audit` looks at the rows.
            pass
        case "delete":
            if len({is_open, *living.values()}) != 1:
                problems.append("half deleted")
        case "password":
            changed = await opens(client, account.email, account.new_password or "")
            jwt = [await accepted(client, c) for c in account.live if c.strategy == "jwt"]
            others = [await accepted(client, c) for c in account.live if c.strategy != "jwt"]
            # Who held nothing else has nothing that could tell.
            told = bool(others)
            if changed == is_open or not all(jwt) or (told and any(others) != is_open):
                problems.append(f"half changed: {changed=} {is_open=} {jwt=} {others=}")
            if told and any(others) != all(others):
                problems.append("some sessions survived a change of password")
        case _:
            if not is_open:
                problems.append("an acknowledged account or password is lost")
            if not all(living.values()):
                problems.append("an acknowledged login is lost")
    return problems


def audit(url: str) -> list[str]:
    """What the rows say of changes that belong together, one line each.

    An event is written in the transaction of its change, so one without the other is half a change.
    """
    events = sql(url, "SELECT type, user_id, session_id FROM events WHERE user_id IS NOT NULL")
    users = {row[0] for row in sql(url, "SELECT id FROM users")}
    sessions = {row[0]: row[1] for row in sql(url, "SELECT id, user_id FROM sessions")}
    told: dict[str, list[object]] = {}
    for kind, user, session in events:
        told.setdefault(kind, []).append(user)
        if session is not None:
            told.setdefault(f"{kind} of", []).append(session)
    problems = []
    registered, deleted = told.get("account_registered", []), set(told.get("account_deleted", []))
    if len(set(registered)) != len(registered):
        problems.append("an account was registered twice")
    if set(registered) - deleted != users:
        problems.append("accounts and the events of their registration differ")
    begun = [*told.get("login of", []), *told.get("token_created of", [])]
    if len(set(begun)) != len(begun):
        problems.append("a login was written down twice")
    if not set(sessions) <= set(begun):
        problems.append("a session has no event of its beginning")
    if not set(sessions.values()) <= users:
        problems.append("a session has no user")
    if "refresh_reuse" in told:
        # All of ours present a token twice at most, and soon.
        problems.append("a refresh token was taken for stolen")
    families = {row[0] for row in sql(url, "SELECT session_id FROM refresh_families")}
    if families & set(told.get("password_changed of", [])):
        problems.append("a refresh family survived a change of password")
    signed = {row[0]: row[1] for row in sql(url, _SIGNED)}
    without = {user for session, user in signed.items() if session not in families}
    if without - set(told.get("password_changed", [])) or not families <= set(signed):
        problems.append("a login with jwt has no refresh family, or a family has no login")
    ends = ("logout of", "session_ended of", "token_ended of")
    over = {session for kind in ends for session in told.get(kind, [])}
    if over & set(sessions):
        problems.append("a session is there whose end was written down")
    changed = {*told.get("password_changed", []), *told.get("sessions_ended", []), *deleted}
    missing = set(begun) - set(sessions) - over
    owners = {session: user for _, user, session in events if session}
    if {owners[session] for session in missing} - changed:
        problems.append("a session is gone, and nothing says why")
    return problems


def integrity(url: str) -> str:
    """What SQLite says of its file: `ok`."""
    return str(sql(url, "PRAGMA integrity_check")[0][0])
