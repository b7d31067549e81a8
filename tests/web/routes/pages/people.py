"""People who are signed in by a page, for tests of the pages of an account."""

import html
import re
from collections.abc import Mapping
from datetime import timedelta

import httpx

from authapi.testing import PASSWORD, Client

ALICE = "alice@example.com"
STALE = timedelta(hours=2)
"""Longer than `fresh_max_age`."""


async def sign_in_by_page(api: Client, email: str = ALICE, password: str = PASSWORD) -> None:
    """Sign in; the client keeps the cookie."""
    sent = await api.post("/account/sign-in", data={"email": email, "password": password})
    assert sent.status_code == 303, sent.text
    assert sent.headers["location"].startswith("sign-in?done=in")


async def follow(api: Client, answer: httpx.Response) -> httpx.Response:
    """The page that a form leads to."""
    assert answer.status_code == 303, answer.text
    return await api.get(str(answer.url.join(answer.headers["location"])))


def fields_of(page: httpx.Response, action: str) -> Mapping[str, str]:
    """The hidden fields of the form of a page that has this action."""
    for form in re.findall(r"<form.*?</form>", page.text, re.DOTALL):
        pairs = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form)
        found = {name: html.unescape(value) for name, value in pairs}
        if found.get("action") == action:
            return found
    raise AssertionError(f"no form with the action {action}")


def banner_of(page: httpx.Response) -> str:
    """The text of the message on a page, or an empty text."""
    found = re.search(r'<div class="banner (?:good|warn)".*?<p>(.*?)</p>', page.text, re.DOTALL)
    return html.unescape(found[1]) if found else ""


def without_cookies(answer: httpx.Response) -> httpx.Response:
    """The page, for `check_page`: it also sets the cookie of the session."""
    headers = [pair for pair in answer.headers.multi_items() if pair[0] != "set-cookie"]
    return httpx.Response(answer.status_code, headers=headers, content=answer.content)
