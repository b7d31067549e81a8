"""Checks after a run: every acknowledged change, and no part of a change in doubt, is there."""

import asyncio
import time
from collections.abc import Iterable

from tests.faults.harness.actors import refreshed
from tests.faults.harness.http_client import Client
from tests.faults.harness.ledger import Account, Credential
from tests.storage.rows import sql

_SIGNED = "SELECT id, user_id FROM authapi_sessions WHERE kind = 'jwt'"
_CONCURRENCY = 4
_GRACE = 25
"""Seconds: less than `refresh_grace`, which begins somewhat before the client can know."""


async def check(client: Client, accounts: Iterable[Account]) -> list[str]:
    """Returns one line for each problem of these accounts."""
    turns = asyncio.Semaphore(_CONCURRENCY)

    async def one(account: Account) -> list[str]:
        async with turns:
            return [f"{text} ({account.doubt=})" for text in await _problems(client, account)]

    found = await asyncio.gather(*(one(account) for account in accounts))
    return [text for texts in found for text in texts]


async def is_accepted(client: Client, credential: Credential) -> bool:
    """Whether the service accepts this credential."""
    response = await client.get("/me", credential.headers)
    assert response.status in {200, 401}, response
    return response.status == 200


async def can_log_in(client: Client, email: str, password: str) -> bool:
    """Whether a login with this password succeeds."""
    body = {"email": email, "password": password, "strategy": "token"}
    response = await client.post("/login", body)
    assert response.status in {200, 401}, response
    return response.status == 200


async def is_spent(client: Client, refresh_token: str) -> bool:
    """Whether the service rejects this refresh token. Otherwise this call has exchanged it."""
    response = await client.grant(refresh_token)
    assert response.status == 200 or (
        response.status == 400 and response.json()["error"] == "invalid_grant"
    ), response
    return response.status == 400


async def _can_refresh(client: Client, account: Account, credential: Credential) -> bool:
    """Whether a login can be refreshed with the newest token of the client."""
    assert credential.refresh_token
    response = await client.grant(credential.refresh_token)
    assert response.status in {200, 400}, response
    if response.status == 200:
        account.swap(credential, refreshed(credential, response))
    return response.status == 200


async def _partial_logins(client: Client, account: Account) -> list[str]:
    """Finds logins that are accepted but cannot be refreshed, or the reverse."""
    problems = []
    for credential in [found for found in account.live if found.refresh_token]:
        late = time.monotonic() > account.doubted_at + _GRACE
        if account.doubt == "refresh" and credential is account.affected and late:
            continue  # the right result depends on whether it was refreshed
        is_valid = await is_accepted(client, credential)
        can_refresh = await _can_refresh(client, account, credential)
        if account.doubt == "password":
            changed = await can_log_in(client, account.email, account.new_password or "")
            if can_refresh == changed:
                problems.append(f"partial change: {changed=}, and {can_refresh=}")
        elif is_valid != can_refresh:
            problems.append(f"partial login: {is_valid=}, and {can_refresh=}")
    return problems


async def _problems(client: Client, account: Account) -> list[str]:
    problems = await _partial_logins(client, account)
    for credential, _ in account.revoked:
        if await is_accepted(client, credential):
            problems.append(f"a revoked {credential.strategy} is accepted")
        if credential.refresh_token and not await is_spent(client, credential.refresh_token):
            problems.append("a revoked login is refreshed")
    for token in account.spent:
        if not await is_spent(client, token):
            problems.append("a refresh token survived a change of password")
    is_open = await can_log_in(client, account.email, account.password)
    if account.is_deleted:
        return [*problems, "a deleted account still exists"] if is_open else problems
    live_logins = {
        credential.session_id or id(credential): await is_accepted(client, credential)
        for credential in account.live
        # A refresh does not end the login.
        if credential is not account.affected or account.doubt == "refresh"
    }
    match account.doubt:
        case "register":
            # Without an account, there may be no row of it either: `check_rows` checks that.
            pass
        case "delete":
            if len({is_open, *live_logins.values()}) != 1:
                problems.append("partial deletion")
        case "password":
            changed = await can_log_in(client, account.email, account.new_password or "")
            jwt = [await is_accepted(client, c) for c in account.live if c.strategy == "jwt"]
            others = [await is_accepted(client, c) for c in account.live if c.strategy != "jwt"]
            # Without other sessions there is nothing to compare.
            has_others = bool(others)
            if changed == is_open or not all(jwt) or (has_others and any(others) != is_open):
                problems.append(f"partial change: {changed=} {is_open=} {jwt=} {others=}")
            if has_others and any(others) != all(others):
                problems.append("some sessions survived a change of password")
        case _:
            if not is_open:
                problems.append("an acknowledged account or password is lost")
            if not all(live_logins.values()):
                problems.append("an acknowledged login is lost")
    return problems


def check_rows(url: str) -> list[str]:
    """Returns one line for each contradiction between the rows.

    An event is stored in the transaction of its change: one without the other is a partial change.
    """
    events = sql(
        url, "SELECT type, user_id, session_id FROM authapi_events WHERE user_id IS NOT NULL"
    )
    users = {row[0] for row in sql(url, "SELECT id FROM authapi_users")}
    sessions = {row[0]: row[1] for row in sql(url, "SELECT id, user_id FROM authapi_sessions")}
    by_type: dict[str, list[object]] = {}
    for kind, user, session in events:
        by_type.setdefault(kind, []).append(user)
        if session is not None:
            by_type.setdefault(f"{kind} of", []).append(session)
    problems = []
    registered, deleted = (
        by_type.get("account_registered", []),
        set(by_type.get("account_deleted", [])),
    )
    if len(set(registered)) != len(registered):
        problems.append("an account was registered twice")
    if set(registered) - deleted != users:
        problems.append("accounts and the events of their registration differ")
    started = [*by_type.get("login of", []), *by_type.get("token_created of", [])]
    if len(set(started)) != len(started):
        problems.append("a login was recorded twice")
    if not set(sessions) <= set(started):
        problems.append("a session has no event of its creation")
    if not set(sessions.values()) <= users:
        problems.append("a session has no user")
    if "refresh_reuse" in by_type:
        # The clients of the tests repeat a token once at most, within the grace period.
        problems.append("reuse of a refresh token was reported")
    families = {row[0] for row in sql(url, "SELECT session_id FROM authapi_refresh_families")}
    if families & set(by_type.get("password_changed of", [])):
        problems.append("a refresh family survived a change of password")
    signed = {row[0]: row[1] for row in sql(url, _SIGNED)}
    without = {user for session, user in signed.items() if session not in families}
    if without - set(by_type.get("password_changed", [])) or not families <= set(signed):
        problems.append("a login with jwt has no refresh family, or a family has no login")
    ends = ("logout of", "session_ended of", "token_ended of")
    over = {session for kind in ends for session in by_type.get(kind, [])}
    if over & set(sessions):
        problems.append("a session exists whose end was recorded")
    ends_others = ("password_changed", "sessions_ended", "factor_added")
    changed = {user for kind in ends_others for user in by_type.get(kind, [])} | deleted
    missing = set(started) - set(sessions) - over
    owners = {session: user for _, user, session in events if session}
    if {owners[session] for session in missing} - changed:
        problems.append("a session is missing without an event of its end")
    return problems


def integrity(url: str) -> str:
    """Returns the result of SQLite's integrity check: `ok` for an intact file."""
    return str(sql(url, "PRAGMA integrity_check")[0][0])
