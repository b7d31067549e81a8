"""POST /login/with/exchange: the credential of a login for a page of an application."""

import asyncio
import string
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from authapi.clock import now
from tests.clocks import travel_to
from tests.second_factors import add_second_factors
from tests.web.federation.visits import Visitor, person, settings_with_providers, visiting

ALPHABET = string.ascii_letters + string.digits + "-_"
TARGET = "https://app.example/in?mine=1"
APP = {"origin": "https://app.example", "sec-fetch-site": "cross-site"}


@pytest.fixture
async def visitor(sqlite_url: str) -> AsyncIterator[Visitor]:
    settings = settings_with_providers(
        sqlite_url, registration="open", allowed_origins=["https://app.example"]
    )
    async with visiting(settings) as found:
        yield found


async def code_of(visitor: Visitor, strategy: str = "token", **body: object) -> str:
    """Logs in at the provider; returns the code that the page of the application gets."""
    answer = await visitor.log_in(person(), **{"continue": TARGET, "strategy": strategy, **body})
    assert answer.status_code == 303, answer.text
    assert all("authapi=" not in it for it in answer.headers.get_list("set-cookie"))
    where, _, fragment = answer.headers["location"].partition("#")
    assert where == TARGET
    assert not urlsplit(where).fragment
    [code] = parse_qs(fragment, strict_parsing=True)["code"]
    return code


async def exchange(visitor: Visitor, code: str) -> httpx.Response:
    """Exchanges a code as the page of the application, which sends no cookie."""
    visitor.api.cookies.clear()
    return await visitor.api.post("/login/with/exchange", json={"code": code}, headers=APP)


@pytest.mark.parametrize("strategy", ["token", "jwt"])
async def test_a_code_is_exchanged_for_a_token(visitor: Visitor, strategy: str) -> None:
    answer = await exchange(visitor, await code_of(visitor, strategy))
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert (body["strategy"], body["user"]["email"]) == (strategy, "person1@example.com")
    assert ("refresh_token" in body) is (strategy == "jwt")
    headers = {"authorization": f"Bearer {body['access_token']}"}
    identity = (await visitor.api.get("/me/identity", headers=headers)).json()
    assert (identity["strategy"], identity["amr"]) == (strategy, ["fed"])


async def test_a_code_works_once(visitor: Visitor) -> None:
    code = await code_of(visitor)
    assert (await exchange(visitor, code)).status_code == 200
    again = await exchange(visitor, code)
    assert (again.status_code, again.json()["code"]) == (400, "login_flow_invalid")


async def test_of_many_exchanges_of_one_code_one_succeeds(visitor: Visitor) -> None:
    code = await code_of(visitor)
    answers = await asyncio.gather(*(exchange(visitor, code) for _ in range(50)))
    assert sorted({answer.status_code for answer in answers}) == [200, 400]
    assert [answer.status_code for answer in answers].count(200) == 1


async def test_a_code_works_for_a_minute(visitor: Visitor) -> None:
    at = now()
    with travel_to(at):
        code = await code_of(visitor)
    with travel_to(at + timedelta(seconds=60)):
        answer = await exchange(visitor, code)
    assert (answer.status_code, answer.json()["code"]) == (400, "login_flow_invalid")


@pytest.mark.parametrize("code", ["x", "a" * 43, "ä", "a" * 9000, "", " ", 1, None])
async def test_another_code_is_refused(visitor: Visitor, code: object) -> None:
    answer = await visitor.api.post("/login/with/exchange", json={"code": code}, headers=APP)
    assert answer.status_code in {400, 422}, answer.text


async def test_a_changed_code_is_refused(visitor: Visitor) -> None:
    code = await code_of(visitor)
    middle = "A" if code[40] != "A" else "B"
    # The last character may have bits that no byte has: another spelling is another code.
    changes = [code[:-1] + last for last in ALPHABET if last != code[-1]]
    for changed in (code[:40] + middle + code[41:], *changes, code + "=", code + "A"):
        answer = await exchange(visitor, changed)
        assert (answer.status_code, answer.json()["code"]) == (400, "login_flow_invalid")
    assert (await exchange(visitor, code)).status_code == 200


async def test_the_callback_does_not_give_a_second_code(visitor: Visitor) -> None:
    state = await visitor.start(**{"continue": TARGET, "strategy": "token"})
    first = await visitor.come_back(state, person())
    code = first.headers["location"].partition("#code=")[2]
    cookies = dict(visitor.api.cookies)
    assert (await exchange(visitor, code)).status_code == 200
    visitor.api.cookies.update(cookies)
    again = await visitor.come_back(state, person(), code="b-code")
    assert again.headers["location"] == f"{TARGET}#error=login_flow_invalid"


async def test_a_second_factor_is_asked_for(visitor: Visitor) -> None:
    await visitor.log_in(person(), **{"continue": "/home"})
    factors = await add_second_factors(visitor.api.services, await visitor.account())
    answer = await exchange(visitor, await code_of(visitor))
    assert (answer.status_code, answer.json()["code"]) == (401, "second_factor_required")
    assert set(answer.json()["methods"]) == {"totp", "recovery"}
    proof = {"ticket": answer.json()["ticket"], "code": factors.code()}
    proved = await visitor.api.post("/login/second-factor", json=proof, headers=APP)
    assert proved.status_code == 200, proved.text
    assert proved.json()["strategy"] == "token"


async def test_a_deactivated_account_gets_nothing(visitor: Visitor) -> None:
    await visitor.log_in(person(), **{"continue": "/home"})
    account = await visitor.account()
    code = await code_of(visitor)
    async with visitor.api.services.database.transaction() as store:
        await store.users.lock(account.id)
        await store.users.set_active(account.id, False, at=now())
    answer = await exchange(visitor, code)
    assert (answer.status_code, answer.json()["code"]) == (400, "login_flow_invalid")


async def test_a_foreign_page_exchanges_nothing(visitor: Visitor) -> None:
    code = await code_of(visitor)
    foreign = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    answer = await visitor.api.post("/login/with/exchange", json={"code": code}, headers=foreign)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    assert (await exchange(visitor, code)).status_code == 200
