"""Fifty confirmations at once: one session begins, with one set of recovery codes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pyotp
import pytest
from pydantic import SecretStr

from authapi import create_app
from authapi.clock import now
from authapi.crypto.factors.recovery_codes import hash_recovery_code
from authapi.domain.user import User
from authapi.storage.inspection import count_rows
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.soft_authenticator import SoftAuthenticator

PARALLEL = 50


@pytest.fixture
async def api(patient_settings: SettingsFactory) -> AsyncIterator[Client]:
    settings = patient_settings(
        limit_writes="100000/second", mfa="required", mail_url=SecretStr("none:")
    )
    async with client(create_app(settings)) as found:
        yield found


@pytest.fixture
async def alice(api: Client) -> User:
    return await api.create_user("alice@example.com")


async def ticket(api: Client) -> str:
    body = {"email": "alice@example.com", "password": PASSWORD, "strategy": "token"}
    return str((await api.post("/login", json=body)).json()["ticket"])


async def enrol(api: Client, text: str) -> str:
    begun = await api.post("/login/enrolment/totp", json={"ticket": text})
    return pyotp.TOTP(begun.json()["secret"]).at(now())


async def at_once(
    api: Client, bodies: Sequence[dict[str, Any]], path: str = "totp/confirm"
) -> list[httpx.Response]:
    calls = (api.post(f"/login/enrolment/{path}", json=body) for body in bodies)
    return list(await asyncio.gather(*calls))


async def check_one_login(
    api: Client, alice: User, answers: Sequence[httpx.Response], table: str = "totp_factors"
) -> None:
    """One answer is a login, and its codes are those of the account."""
    outcomes = Counter(answer.status_code for answer in answers)
    assert outcomes[200] == 1, outcomes
    assert max(outcomes) < 500
    [done] = [answer for answer in answers if answer.status_code == 200]
    assert len(await api.services.sessions.list_for_user(alice.id)) == 1
    async with api.services.database.read() as store:
        for code in done.json()["recovery_codes"]:
            hashed = hash_recovery_code(code)
            assert hashed is not None
            assert await store.recovery_codes.has_unused(alice.id, hashed)
        left = await store.recovery_codes.left(alice.id)
    assert left is not None
    assert left.left == 10
    assert await count_rows(api.services.database, table) == 1


async def test_one_ticket_begins_one_session(api: Client, alice: User) -> None:
    text = await ticket(api)
    code = await enrol(api, text)
    answers = await at_once(api, [{"ticket": text, "code": code}] * PARALLEL)
    await check_one_login(api, alice, answers)
    # Five attempts were compared, at most.
    codes = Counter(answer.json().get("code") for answer in answers)
    assert codes["login_expired"] >= PARALLEL - 5


async def test_logins_in_parallel_add_one_factor(api: Client, alice: User) -> None:
    """Each login begins an enrolment, which replaces the earlier one; then all send codes."""
    texts = [await ticket(api) for _ in range(10)]
    codes = [await enrol(api, text) for text in texts]
    bodies = [{"ticket": text, "code": code} for text, code in zip(texts, codes, strict=True)] * (
        PARALLEL // 10
    )
    await check_one_login(api, alice, await at_once(api, bodies))


async def test_a_wrong_code_beside_the_right_one_begins_no_further_session(
    api: Client, alice: User
) -> None:
    text = await ticket(api)
    code = await enrol(api, text)
    wrong = "000000" if code != "000000" else "000001"
    bodies = [{"ticket": text, "code": item} for item in (wrong, code, wrong, code)]
    await check_one_login(api, alice, await at_once(api, bodies))


async def passkey(api: Client, text: str, created: SoftAuthenticator) -> dict[str, Any]:
    """The body that adds a passkey in the login of a ticket."""
    asked = await api.post("/login/enrolment/passkey/options", json={"ticket": text})
    return {"ticket": text, "credential": created.create(asked.json()), "name": "My phone"}


async def test_one_ticket_adds_one_passkey(api: Client, alice: User) -> None:
    body = await passkey(api, await ticket(api), SoftAuthenticator())
    answers = await at_once(api, [body] * PARALLEL, "passkey")
    await check_one_login(api, alice, answers, "passkeys")
    codes = Counter(answer.json().get("code") for answer in answers)
    assert codes["login_expired"] >= PARALLEL - 5
    assert await count_rows(api.services.database, "used_challenges") == 1


async def test_logins_in_parallel_add_one_passkey(api: Client, alice: User) -> None:
    bodies = [await passkey(api, await ticket(api), SoftAuthenticator()) for _ in range(10)]
    answers = await at_once(api, bodies * (PARALLEL // 10), "passkey")
    await check_one_login(api, alice, answers, "passkeys")


async def test_an_app_and_a_passkey_at_once_add_one_factor(api: Client, alice: User) -> None:
    text = await ticket(api)
    code, added = await enrol(api, text), await passkey(api, text, SoftAuthenticator())
    answers = await asyncio.gather(
        at_once(api, [{"ticket": text, "code": code}] * 2), at_once(api, [added] * 2, "passkey")
    )
    outcomes = Counter(answer.status_code for part in answers for answer in part)
    assert outcomes == {200: 1, 401: 3}
    assert len(await api.services.sessions.list_for_user(alice.id)) == 1
    found = await api.services.factors.changes.overview(alice)
    assert (found.totp is not None) + len(found.passkeys) == 1
