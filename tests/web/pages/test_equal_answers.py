"""The pages answer the same for an address with and without an account."""

import base64
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest

from authapi import Settings
from authapi.testing import PASSWORD
from tests.web.pages.browser import Browser
from tests.web.pages.scenes import create_person, open_browser
from tests.web.pages.statements import counting
from tests.web.routes.pages.people import ALICE

UNKNOWN = "bella@example.com"
"""As long as the address of the account."""
SENT = {
    "sign-up": ("/account/sign-up", {"name": "A", "password": PASSWORD}),
    "check-mail": ("/account/check-mail", {}),
    "forgot": ("/account/forgot", {}),
    "confirm": ("/account/confirm", {"action": "again"}),
    "sign-in": ("/account/sign-in", {"password": "a wrong password"}),
}


@dataclass(frozen=True)
class Outcome:
    """All that a client sees of the answer to a form and of the pages behind it."""

    answers: tuple[tuple[int, tuple[tuple[str, str], ...], bytes], ...]
    statements: tuple[str, ...]


@pytest.fixture
async def browser(database_url: str) -> AsyncIterator[Browser]:
    settings = Settings(database_url=database_url, registration="confirm")  # type: ignore[arg-type]  # pydantic parses it
    async with open_browser(settings) as found:
        yield found


def seen(answer: httpx.Response, email: str) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
    """The answer without the id of the request, and with one address in place of all."""
    reference = answer.headers["x-request-id"]
    encoded = base64.urlsafe_b64encode(email.encode()).decode().rstrip("=")

    def neutral(text: str) -> str:
        masked = f"{email[0]}***@{email.partition('@')[2]}"
        for own in (email, encoded, masked, reference):
            text = text.replace(own, "~")
        return text

    headers = tuple((name, neutral(value)) for name, value in answer.headers.multi_items())
    return answer.status_code, headers, neutral(answer.text).encode()


async def outcome(browser: Browser, name: str, email: str) -> Outcome:
    path, fields = SENT[name]
    browser.client.cookies.clear()
    answers = []
    with counting(browser.client.services.database) as statements:
        answer = await browser.request("POST", path, {**fields, "email": email})
        while True:
            answers.append(seen(answer, email))
            if answer.status_code != 303:
                break
            answer = await browser.request("GET", str(answer.url.join(answer.headers["location"])))
        mine = tuple(re.sub(r"\s+", " ", statement) for statement in statements)
    return Outcome(tuple(answers), mine)


@pytest.mark.parametrize("name", SENT)
async def test_an_address_with_an_account_is_answered_as_one_without(
    browser: Browser, name: str
) -> None:
    user = await create_person(browser.client, ALICE)
    assert len(user.email) == len(UNKNOWN)
    known, unknown = [await outcome(browser, name, email) for email in (ALICE, UNKNOWN)]
    assert known.answers == unknown.answers
    assert len(known.answers) == (1 if name == "sign-in" else 2)
    if name == "sign-in":  # the event of a refusal names the account, if there is one
        assert len(known.statements) == len(unknown.statements)
    else:
        assert known.statements == unknown.statements


async def test_the_comparison_tells_answers_apart(browser: Browser) -> None:
    await create_person(browser.client, ALICE)
    SENT["right"] = ("/account/sign-in", {"password": PASSWORD})
    known, unknown = [await outcome(browser, "right", email) for email in (ALICE, UNKNOWN)]
    del SENT["right"]
    assert known.answers != unknown.answers
    assert known.statements != unknown.statements
