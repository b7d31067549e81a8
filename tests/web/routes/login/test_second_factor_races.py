"""Fifty requests at once with one code, one recovery code or one ticket: one session begins."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest

from authapi import create_app
from authapi.clock import now
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.second_factors import SecondFactors, add_second_factors
from tests.storage.rows import sql

PARALLEL = 50
UNLIMITED = "100000/second"


@pytest.fixture
async def api(patient_settings: SettingsFactory) -> AsyncIterator[Client]:
    limits = dict.fromkeys(("limit_second_factor", "limit_second_factor_known"), UNLIMITED)
    async with client(create_app(patient_settings(**limits))) as found:
        yield found


@pytest.fixture
async def alice(api: Client) -> SecondFactors:
    return await add_second_factors(api.services, await api.create_user("alice@example.com"))


async def tickets(api: Client, count: int) -> list[str]:
    body = {"email": "alice@example.com", "password": PASSWORD, "strategy": "token"}
    answers = [await api.post("/login", json=body) for _ in range(count)]
    return [answer.json()["ticket"] for answer in answers]


async def at_once(api: Client, bodies: Sequence[dict[str, str]]) -> list[httpx.Response]:
    calls = (api.post("/login/second-factor", json=body) for body in bodies)
    return list(await asyncio.gather(*calls))


def outcomes(answers: Sequence[httpx.Response]) -> Counter[str]:
    return Counter(
        "session" if answer.status_code == 200 else answer.json()["code"] for answer in answers
    )


async def sessions(api: Client, alice: SecondFactors) -> int:
    return len(await api.services.sessions.list_for_user(alice.user.id))


async def test_one_code_begins_one_session(api: Client, alice: SecondFactors) -> None:
    code = alice.code()
    bodies = [{"ticket": ticket, "code": code} for ticket in await tickets(api, PARALLEL)]
    seen = outcomes(await at_once(api, bodies))
    assert seen == {"session": 1, "second_factor_refused": PARALLEL - 1}
    assert await sessions(api, alice) == 1


async def test_one_recovery_code_begins_one_session(api: Client, alice: SecondFactors) -> None:
    code = alice.codes[0]
    bodies = [{"ticket": ticket, "recovery_code": code} for ticket in await tickets(api, PARALLEL)]
    seen = outcomes(await at_once(api, bodies))
    assert seen == {"session": 1, "second_factor_refused": PARALLEL - 1}
    assert await sessions(api, alice) == 1
    async with api.services.database.read() as store:
        codes = await store.recovery_codes.left(alice.user.id)
    assert codes is not None
    assert codes.left == 9


async def test_one_ticket_begins_one_session(api: Client, alice: SecondFactors) -> None:
    [ticket] = await tickets(api, 1)
    bodies = [{"ticket": ticket, "recovery_code": code} for code in alice.codes] * 5
    seen = outcomes(await at_once(api, bodies))
    assert seen["session"] == 1
    assert seen.keys() <= {"session", "login_expired", "second_factor_refused"}
    assert await sessions(api, alice) == 1
    async with api.services.database.read() as store:
        codes = await store.recovery_codes.left(alice.user.id)
    assert codes is not None
    assert codes.left == 9, "only the login that won has used a code up"


async def test_a_hundred_wrong_codes_count_five(api: Client, alice: SecondFactors) -> None:
    [ticket] = await tickets(api, 1)
    bodies = [{"ticket": ticket, "code": alice.wrong_code()}] * 100
    seen = outcomes(await at_once(api, bodies))
    assert seen == {"second_factor_refused": 5, "login_expired": 95}
    url = api.services.settings.resolved_database_url
    assert sql(url, "SELECT attempts FROM authapi_login_tickets") == [(5,)]
    assert sql(url, "SELECT failures FROM authapi_totp_factors") == [(5,)]
    body = {"ticket": ticket, "code": alice.code()}
    assert outcomes([await api.post("/login/second-factor", json=body)]) == {"login_expired": 1}


@pytest.mark.parametrize("adds", [False, True], ids=["removed", "replaced"])
async def test_a_change_between_proof_and_session_ends_the_login(
    api: Client, alice: SecondFactors, adds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code was right when it was compared, and the account has changed since."""
    logins = api.services.logins
    prove = type(logins).prove_second_factor

    async def overtaken(self: object, **arguments: object) -> object:
        proved = await prove(logins, **arguments)  # type: ignore[arg-type]
        async with api.services.database.transaction() as store:
            await store.users.lock(alice.user.id)
            await store.totp_factors.remove_all(alice.user.id)
            await store.users.set_mfa(alice.user.id, None, at=now())
        if adds:
            await add_second_factors(api.services, alice.user)
        return proved

    [ticket] = await tickets(api, 1)
    monkeypatch.setattr(type(logins), "prove_second_factor", overtaken)
    body = {"ticket": ticket, "code": alice.code()}
    seen = outcomes([await api.post("/login/second-factor", json=body)])
    assert seen == {"invalid_credentials": 1}
    assert await sessions(api, alice) == 0


async def test_a_factor_added_after_the_password_was_verified_is_asked_for(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await api.create_user("bob@example.com")
    authentication = type(api.services.accounts.authentication)
    authenticate = authentication.authenticate

    async def overtaken(self: object, *arguments: object, **options: object) -> object:
        proved = await authenticate(self, *arguments, **options)  # type: ignore[arg-type]
        await add_second_factors(api.services, user)
        return proved

    monkeypatch.setattr(authentication, "authenticate", overtaken)
    for strategy in ("session", "token", "jwt"):
        body = {"email": "bob@example.com", "password": PASSWORD, "strategy": strategy}
        answer = await api.post("/login", json=body)
        assert answer.json()["code"] in {"invalid_credentials", "second_factor_required"}
        assert "authapi=" not in answer.headers.get("set-cookie", "")
    assert await api.services.sessions.list_for_user(user.id) == []
