"""Walks over all links and forms that a person can reach, as the person or a robot would.

Links are opened first. Then each form is sent once with sensible values, those that take something
away last. A form must succeed: its page shows no error.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urljoin, urlsplit

import pyotp
import time_machine

from authapi.clock import now
from authapi.testing import PASSWORD
from tests.soft_authenticator import SoftAuthenticator
from tests.web.pages.anatomy import alerts_of
from tests.web.pages.browser import Browser, Form, Page
from tests.web.pages.documents import Element
from tests.web.routes.pages.people import ALICE

NEW_PASSWORD = "another horse another battery"
OTHER = "alice@example.org"
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LAST = (
    *("security/codes", "security/app/remove", "remove", "others", "security/password"),
    *("sign-out", "sign-up", "data/delete"),
)
"""Parts of the names of forms that take something away, the worst last."""
_STEP = timedelta(seconds=31)
"""Longer than a code of an authenticator app is shown."""


@dataclass(eq=False)
class Person:
    """What the person at the browser knows and has."""

    email: str = ALICE
    password: str = PASSWORD
    app: pyotp.TOTP | None = None
    recovery_codes: list[str] = field(default_factory=list)
    passkey: SoftAuthenticator = field(default_factory=SoftAuthenticator)


@dataclass(eq=False)
class Walk:
    """A walk that has begun. `clock` is stopped; only the walk moves it."""

    browser: Browser
    person: Person
    clock: time_machine.Traveller
    prefix: str = ""
    pages: dict[str, Page] = field(default_factory=dict)
    """The pages that links lead to, by their addresses."""
    forms: dict[str, str] = field(default_factory=dict)
    """The forms by their names, with the address of the page that shows them."""
    sent: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    skips: frozenset[str] = frozenset()
    """The names of forms that are not sent."""
    _languages: set[str] = field(default_factory=set)

    async def run(self, *starts: str) -> None:
        """Opens all links from these addresses, and sends all forms."""
        for start in starts:
            await self.explore(start)
        while waiting := self.forms.keys() - self.sent - self.skips:
            name = min(waiting, key=_rank)
            page = await self.browser.open(self.forms[name])
            form = next((it for it in page.forms() if self.name_of(it) == name), None)
            self.sent.add(name)
            if form is not None:  # a form before it may have done away with it
                await self._send(form)

    async def sign_in(self) -> Page:
        """Signs in with the password, and with a code if it is asked for."""
        page = await self.browser.open(f"{self.prefix}/account/sign-in")
        while page.path.endswith(("/sign-in", "/sign-in/second")):
            fields = {"password", "code"}
            form = next(it for it in page.forms() if fields & {item["name"] for item in it.typed})
            page = await self.browser.send(form, **self.typed(form))
            assert (page.status, alerts_of(page.root)) == (200, [])
            self.sent.add(self.name_of(form))
        return page

    async def explore(self, url: str) -> None:
        """Opens all links from this address that were not opened yet."""
        waiting = [urljoin(self.browser.origin, url)]
        while waiting:
            url = waiting.pop()
            if _key(url) in self.pages:
                continue
            page = await self.browser.open(url)
            if self.pages.setdefault(_key(page.url), page) is page:
                waiting += await self._look(page)

    async def _look(self, page: Page) -> list[str]:
        """Checks a page, notes its forms, and returns the addresses of its links."""
        assert page.status == 200, f"{page.url}: {page.status}"
        await self._check_files(page)
        await self._check_language(page)
        for form in page.forms():
            if form.method == "post":
                self.forms.setdefault(self.name_of(form), page.url)
        return [
            url
            for link in page.root.all("a")
            if (url := await self._target(page, link)) is not None
        ]

    async def _target(self, page: Page, link: Element) -> str | None:
        if link["href"].startswith("#"):
            return None
        url = urljoin(page.url, link["href"])
        if not url.startswith(self.browser.origin):
            return None
        if urlsplit(url).path.startswith(f"{self.prefix}/console"):
            return None
        assert urlsplit(url).path.startswith(f"{self.prefix}/account"), url
        if "download" not in link:
            return url
        answer = await self.browser.request("GET", url)
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith("attachment; filename=")
        assert answer.json()
        return None

    async def _check_files(self, page: Page) -> None:
        for element in page.root.all("link", "script", "img"):
            url = urljoin(page.url, element["href"] or element["src"])
            if url not in self.files:
                answer = await self.browser.request("GET", url)
                assert answer.status_code == 200, url
                assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
                self.files.add(url)

    async def _check_language(self, page: Page) -> None:
        """The form at the foot leads to the same page in another language, and back."""
        if page.path in self._languages:
            return
        self._languages.add(page.path)
        before = page.root["lang"]
        other = {"en": "ko", "ko": "en"}[before]
        for language in (other, before):
            [form] = [form for form in page.forms() if form.form["class"] == "language"]
            page = await self.browser.send(form, lang=language)
            assert page.status == 200, page.url
            assert page.root["lang"] == language, page.url

    async def _send(self, form: Form) -> None:
        self.clock.shift(timedelta(seconds=1))
        page = await self.browser.send(form, **self.typed(form))
        await self._arrive(form, page)

    async def press(self, url: str) -> Page:
        """The page that the button of a passkey leads to, for which the script asks the browser."""
        page = await self.browser.open(url)
        [button] = [item for item in page.root if "data-passkey" in item]
        url = urljoin(page.url, button["data-options"])
        options = await self.browser.client.post(
            url, json={}, headers={"origin": self.browser.origin, "sec-fetch-site": "same-origin"}
        )
        assert options.status_code == 200, (url, options.text)
        make = {"create": self.person.passkey.create, "get": self.person.passkey.get}
        credential = make[button["data-passkey"]](options.json())
        form = Form(page, next(it for it in button.above() if it.name == "form"), button)
        typed = {**self.typed(form), "credential": json.dumps(credential)}
        shown = await self.browser.send(form, **typed)
        assert (shown.status, alerts_of(shown.root)) == (200, []), url
        self._learn(form, shown)
        return shown

    async def _arrive(self, sent: Form, page: Page) -> None:
        """Checks that a form has succeeded, and goes on from the page that it led to."""
        refusal = (page.status, alerts_of(page.root))
        assert refusal == (200, []), f"{self.name_of(sent)}: {page.url} {refusal}"
        self._learn(sent, page)
        for url in await self._look(page):
            await self.explore(url)
        for form in page.forms():
            # No link leads to such a page: it is shown by this form alone.
            name = self.name_of(form)
            is_next = page.answer.request.method == "POST" and form.url == page.url
            if is_next and form.method == "post" and name not in self.sent | self.skips:
                self.sent.add(name)
                await self._send(form)

    def name_of(self, form: Form) -> str:
        """What tells a form from others: where it is sent, and what it does there."""
        path = _ID.sub("{id}", urlsplit(form.url).path).removeprefix(f"{self.prefix}/account")
        fields = {item["name"] for item in form.typed} | ({"credential"} & set(form.values))
        what = form.values.get("action") or form.values.get("switch") or ""
        return " ".join([path.strip("/") or "profile", what, *sorted(fields)])

    def typed(self, form: Form) -> Mapping[str, str]:
        """What the person types, and which boxes they tick."""
        found = {
            item["name"]: item["value"]
            for item in form.form.all("input")
            if item["type"] == "checkbox"
        }
        for item in form.typed:
            found[item["name"]] = self._value(form, item)
        return found

    def _value(self, form: Form, item: Element) -> str:
        name, path = item["name"], urlsplit(form.url).path
        if name == "email":
            is_new = path.endswith(("/sign-up", "/account"))
            return OTHER if is_new else self.person.email
        if name == "password":
            is_new = path.endswith(("/sign-up", "/invitation"))
            return NEW_PASSWORD if is_new else self.person.password
        if name in {"current_password", "new_password"}:
            return self.person.password if name == "current_password" else f"{NEW_PASSWORD} of mine"
        if name == "recovery_code":
            return self.person.recovery_codes.pop()
        if name == "code":
            return self._code(form)
        if name == "username":
            return f"alice.{path.rpartition('/')[2]}"
        return item["value"] or {"name": "A new name"}.get(name, "")

    def _code(self, form: Form) -> str:
        keys = [item.text for item in form.page.main if item["class"] == "key"]
        if keys:
            self.person.app = pyotp.TOTP(keys[0].replace(" ", ""))
        self.clock.shift(_STEP)
        assert self.person.app is not None
        return self.person.app.at(now())

    def _learn(self, form: Form, page: Page) -> None:
        """What the person knows by now."""
        typed = {item["name"] for item in form.typed}
        if "new_password" in typed:
            self.person.password = f"{NEW_PASSWORD} of mine"
        codes = [item.text.split() for item in page.main if item["class"] == "codes"]
        if codes and len(codes[0]) == 10:
            [self.person.recovery_codes] = codes
        if form.url.endswith("/sign-up"):
            self.person = Person(OTHER, NEW_PASSWORD)


def _rank(name: str) -> tuple[int, str]:
    return max((number for number, part in enumerate(_LAST, 1) if part in name), default=0), name


def _key(url: str) -> str:
    """An address, in which all ids are equal and a message of the session is none."""
    return _ID.sub("{id}", url.replace("?done=now", ""))
