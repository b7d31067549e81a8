"""POST /login/with/address: the address of a login, for clients that speak JSON."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import pytest

from authapi.clock import now
from authapi.domain.events import EventFilter, EventType
from authapi.testing import PASSWORD
from tests.clocks import travel_to
from tests.web.federation.visits import Visitor, person, settings_with_providers, visiting

TARGET = "https://app.example/in?mine=1"
APP = {"origin": "https://app.example", "sec-fetch-site": "cross-site"}
FOREIGN = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
GIVE, CONFIRM = "/login/with/address", "/login/with/address/confirm"
NO_ADDRESS = person(email=None, email_verified=False, is_authoritative=False)


@asynccontextmanager
async def without_pages(url: str, registration: str, **changes: object) -> AsyncIterator[Visitor]:
    settings = settings_with_providers(
        url,
        **{
            "registration": registration,
            "pages": "none",
            "allowed_origins": ["https://app.example"],
            **changes,
        },
    )
    async with visiting(settings) as found:
        yield found


@pytest.fixture
async def opened(database_url: str) -> AsyncIterator[Visitor]:
    async with without_pages(database_url, "open") as found:
        yield found


@pytest.fixture
async def confirming(database_url: str) -> AsyncIterator[Visitor]:
    async with without_pages(database_url, "confirm") as found:
        yield found


async def ticket_of(visitor: Visitor, strategy: str = "token", subject: str = "1") -> str:
    """Logs in at the provider, which tells no address; returns what the application gets."""
    who = person(subject, email=None, email_verified=False, is_authoritative=False)
    answer = await visitor.log_in(who, **{"continue": TARGET, "strategy": strategy})
    where, _, code = answer.headers["location"].partition("#code=")
    assert where == TARGET
    assert "address-ticket" not in str(answer.headers.get_list("set-cookie"))
    visitor.api.cookies.clear()
    asked = await post(visitor, "/login/with/exchange", code=code)
    assert refusal(asked) == (401, "email_needed")
    assert asked.headers["cache-control"] == "no-store"
    assert asked.json()["expires_at"] > now().isoformat()[:19]
    assert asked.json()["ticket"] not in code
    return str(asked.json()["ticket"])


async def post(visitor: Visitor, path: str, **body: object) -> httpx.Response:
    return await visitor.api.post(path, json=body, headers=APP)


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def mailed_token(visitor: Visitor, email: str) -> str:
    """Returns the token of the newest mail to an address."""
    await visitor.api.services.outbox.drain()
    [*_, message] = [it for it in await visitor.api.outbox() if it["to"] == email]
    body = message.get_body(("plain",))
    found = None if body is None else re.search(r"token=([\w-]+)", body.get_content())
    assert found is not None, message
    return found[1]


@pytest.mark.parametrize("strategy", ["token", "jwt"])
async def test_an_application_gives_the_address_with_the_ticket(
    opened: Visitor, strategy: str
) -> None:
    ticket = await ticket_of(opened, strategy)
    answer = await post(opened, GIVE, email="ada@example.com", ticket=ticket)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert (body["strategy"], body["user"]["email"]) == (strategy, "ada@example.com")
    assert body["user"]["email_confirmed_at"] is None
    headers = {"authorization": f"Bearer {body['access_token']}"}
    assert (await opened.api.get("/me/identity", headers=headers)).json()["amr"] == ["fed"]
    again = await post(opened, GIVE, email="eva@example.com", ticket=ticket)
    assert refusal(again) == (401, "login_expired")


async def test_a_browser_gives_the_address_with_its_cookie(opened: Visitor) -> None:
    answer = await opened.log_in(NO_ADDRESS, **{"continue": "/in", "remember": True})
    assert answer.headers["location"] == "/in#error=email_needed"
    [cookie] = [it for it in answer.headers.get_list("set-cookie") if "address-ticket" in it]
    assert "HttpOnly; SameSite=Lax" in cookie
    given = await opened.api.post(GIVE, json={"email": "ada@example.com"})
    assert given.status_code == 200, given.text
    assert given.json()["strategy"] == "session"
    assert any(
        it.startswith("authapi-address-ticket=;") for it in given.headers.get_list("set-cookie")
    )
    assert (await opened.api.get("/me")).json()["email"] == "ada@example.com"
    again = await opened.api.post(GIVE, json={"email": "eva@example.com"})
    assert refusal(again) == (401, "login_expired")


async def test_a_browser_without_a_page_gets_a_problem_and_the_cookie(opened: Visitor) -> None:
    answer = await opened.log_in(NO_ADDRESS)
    assert refusal(answer) == (401, "email_needed")
    assert "ticket" not in answer.json()
    given = await opened.api.post(GIVE, json={"email": "ada@example.com"})
    assert given.status_code == 200, given.text


async def test_a_taken_address_has_to_be_proved_first(opened: Visitor) -> None:
    owner = await opened.api.create_user("ada@example.com")
    ticket = await ticket_of(opened)
    answer = await post(opened, GIVE, email="ada@example.com", ticket=ticket)
    assert refusal(answer) == (409, "link_required")
    assert answer.json()["methods"]
    wanted = EventFilter(type=EventType.FEDERATED_LOGIN_REFUSED)
    [event] = await opened.api.services.audit.search(wanted)
    assert (event.user_id, event.strategy) == (owner.id, "token")
    assert event.detail == {"provider": "acme", "reason": "link_required"}
    other = await post(opened, GIVE, email="eva@example.com", ticket=ticket)
    assert other.status_code == 200


async def test_mail_and_ticket_together_log_in(confirming: Visitor) -> None:
    ticket = await ticket_of(confirming)
    asked = await post(confirming, GIVE, email="ada@example.com", ticket=ticket)
    assert (asked.status_code, asked.content) == (202, b"")
    token = await mailed_token(confirming, "ada@example.com")
    stranger = await ticket_of(confirming, subject="2")
    assert (await post(confirming, CONFIRM, token="A" * 43, ticket=ticket)).status_code == 400
    assert refusal(await post(confirming, CONFIRM, token=token)) == (401, "login_expired")
    done = await post(confirming, CONFIRM, token=token, ticket=ticket)
    assert done.status_code == 200, done.text
    body = done.json()
    assert (body["strategy"], body["user"]["email"]) == ("token", "ada@example.com")
    assert body["user"]["email_confirmed_at"] is not None
    for left in (ticket, stranger):
        again = await post(confirming, CONFIRM, token=token, ticket=left)
        assert refusal(again) == (400, "invalid_one_time_secret")


async def test_mail_and_cookie_together_log_in(confirming: Visitor) -> None:
    await confirming.log_in(NO_ADDRESS, **{"continue": "/in"})
    asked = await confirming.api.post(GIVE, json={"email": "ada@example.com"})
    assert asked.status_code == 202
    token = await mailed_token(confirming, "ada@example.com")
    done = await confirming.api.post(CONFIRM, json={"token": token})
    assert done.status_code == 200, done.text
    assert (await confirming.api.get("/me")).json()["email"] == "ada@example.com"


async def test_the_answer_is_the_same_whether_an_account_has_the_address(
    confirming: Visitor,
) -> None:
    await confirming.api.create_user("known@example.com", password=PASSWORD)
    gone = await confirming.api.create_user("gone@example.com")
    async with confirming.api.services.database.transaction() as store:
        await store.users.lock(gone.id)
        await store.users.set_active(gone.id, False, at=now())
    seen = set()
    for email in ("known@example.com", "gone@example.com", "unknown@example.com"):
        answer = await post(confirming, GIVE, email=email, ticket=await ticket_of(confirming))
        answer.headers.pop("x-request-id")
        answer.headers.pop("date", None)
        seen.add((answer.status_code, answer.content, str(sorted(answer.headers.items()))))
    assert len(seen) == 1
    wanted = EventFilter(type=EventType.FEDERATED_LOGIN_REFUSED)
    assert not await confirming.api.services.audit.search(wanted)


@pytest.mark.parametrize("registration", ["invite", "closed"])
async def test_where_no_account_is_created_the_answer_is_the_same_for_all(
    database_url: str, registration: str
) -> None:
    async with without_pages(database_url, "open") as visitor:
        ticket = await ticket_of(visitor)
    async with without_pages(database_url, registration) as visitor:
        await visitor.api.create_user("known@example.com")
        for email in ("known@example.com", "unknown@example.com"):
            answer = await post(visitor, GIVE, email=email, ticket=ticket)
            assert refusal(answer) == (403, "registration_closed")


async def test_a_foreign_page_gives_no_address(opened: Visitor) -> None:
    await opened.log_in(NO_ADDRESS, **{"continue": "/in"})
    for path, body in ((GIVE, {"email": "eve@example.com"}), (CONFIRM, {"token": "A" * 43})):
        answer = await opened.api.post(path, json=body, headers=FOREIGN)
        assert refusal(answer) == (403, "foreign_origin")
    given = await opened.api.post(GIVE, json={"email": "ada@example.com"})
    assert given.status_code == 200


@pytest.mark.parametrize("ticket", ["x", "A" * 43, "A" * 8192, None])
async def test_what_is_no_ticket_is_refused(opened: Visitor, ticket: str | None) -> None:
    answer = await post(opened, GIVE, email="ada@example.com", ticket=ticket)
    assert refusal(answer) == (401, "login_expired")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "no address"},
        {"email": "a@example.com", "ticket": ""},
        {"email": "a@example.com", "ticket": "A" * 8193},
        {"email": "a@example.com", "ticket": "ä"},
        {"email": "a@example.com", "next": "/"},
    ],
)
async def test_what_is_not_valid_is_refused(opened: Visitor, body: dict[str, object]) -> None:
    assert refusal(await post(opened, GIVE, **body)) == (422, "validation_failed")


async def test_attempts_are_limited(database_url: str) -> None:
    async with without_pages(database_url, "open", limit_registrations="2/hour") as visitor:
        await visitor.api.create_user("ada@example.com")
        ticket = await ticket_of(visitor)
        seen = [
            refusal(await post(visitor, GIVE, email="ada@example.com", ticket=ticket))
            for _ in range(3)
        ]
    assert seen == [(409, "link_required")] * 2 + [(429, "too_many_attempts")]


async def test_a_code_for_the_ticket_is_used_once_and_within_a_minute(opened: Visitor) -> None:
    at = now()
    for wait, expected in ((59, "email_needed"), (60, "login_flow_invalid")):
        with travel_to(at):
            answer = await opened.log_in(NO_ADDRESS, **{"continue": TARGET, "strategy": "token"})
        code = answer.headers["location"].partition("#code=")[2]
        with travel_to(at + timedelta(seconds=wait)):
            assert refusal(await post(opened, "/login/with/exchange", code=code))[1] == expected
            again = await post(opened, "/login/with/exchange", code=code)
            assert refusal(again) == (400, "login_flow_invalid")


async def test_an_account_that_must_have_a_second_factor_is_asked_to_add_one(
    database_url: str,
) -> None:
    async with without_pages(database_url, "open", mfa="required") as visitor:
        await visitor.log_in(NO_ADDRESS, **{"continue": "/in"})
        given = await visitor.api.post(GIVE, json={"email": "ada@example.com"})
        assert refusal(given) == (401, "enrolment_required")
        cookies = given.headers.get_list("set-cookie")
        assert any(it.startswith("authapi-login=") for it in cookies)
        assert any(it.startswith("authapi-address-ticket=;") for it in cookies)
