"""A browser without JavaScript: it opens links, fills forms in, and checks each page it gets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode, urljoin, urlsplit

import httpx

from authapi.testing import Client
from tests.web.pages.anatomy import MAX_HTML, page_of
from tests.web.pages.checks import CSP
from tests.web.pages.documents import Element

CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 "
    "Safari/537.36"
)
_MAX_REDIRECTS = 5


@dataclass(frozen=True, eq=False)
class Page:
    """A page that the browser shows."""

    url: str
    status: int
    root: Element
    answer: httpx.Response = field(repr=False)

    @property
    def main(self) -> Element:
        [main] = self.root.all("main")
        return main

    @property
    def text(self) -> str:
        return self.main.text

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    def forms(self) -> "list[Form]":
        """Each form of the page, once for each of its buttons that send it."""
        return [
            Form(self, form, button)
            for form in self.root.all("form")
            for button in form.all("button")
            if button["type"] != "button"
        ]


@dataclass(frozen=True, eq=False)
class Form:
    """A form of a page, sent by one of its buttons."""

    page: Page
    form: Element
    button: Element

    @property
    def url(self) -> str:
        return urljoin(self.page.url, self.form["action"] or self.page.url)

    @property
    def method(self) -> str:
        return self.form["method"]

    @property
    def values(self) -> dict[str, str]:
        """What the browser sends if the person types nothing."""
        found: dict[str, str] = {}
        for item in self.form.all("input", "select", "textarea"):
            if "name" not in item or "disabled" in item:
                continue
            if item.name == "select":
                options = item.all("option")
                chosen = next((option for option in options if "selected" in option), options[0])
                found[item["name"]] = chosen.attributes.get("value", chosen.text)
            elif item.name == "textarea":
                found[item["name"]] = item.text
            elif item["type"] not in {"checkbox", "radio"} or "checked" in item:
                found[item["name"]] = item["value"]
        if "name" in self.button:
            found[self.button["name"]] = self.button["value"]
        return found

    @property
    def typed(self) -> "list[Element]":
        """The fields that the person types into."""
        return [
            item
            for item in self.form.all("input")
            if not item.is_hidden and item["type"] not in {"checkbox", "radio"} and "name" in item
        ]


@dataclass(eq=False)
class Browser:
    """Sends what Chromium sends, and follows redirects. Each page is checked."""

    client: Client
    language: str = "en"
    csp: str = CSP
    limit: int = MAX_HTML
    on_page: Callable[[Page], None] = lambda _: None
    visited: "list[tuple[str, int]]" = field(default_factory=list)
    """Each request, with the status of its response."""

    @property
    def origin(self) -> str:
        return str(self.client.base_url).rstrip("/")

    async def open(self, url: str) -> Page:
        """The page at a URL, or where it leads."""
        answer = await self.request("GET", url)
        return await self._arrive(answer)

    async def send(self, form: Form, **typed: str) -> Page:
        """The page that a form leads to, with `typed` in its fields."""
        values = form.values | typed
        if form.method == "get":
            return await self.open(urljoin(form.url, f"?{urlencode(values)}"))
        return await self._arrive(await self.request("POST", form.url, values))

    async def request(
        self,
        method: str,
        url: str,
        values: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """The response to a request as Chromium sends it, without following a redirect."""
        sent = {
            "accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "accept-language": self.language,
            "user-agent": CHROME,
            "sec-fetch-site": "same-origin",
            "sec-fetch-mode": "navigate",
            "sec-fetch-dest": "document",
        }
        content = None
        if values is not None:
            sent |= {"content-type": "application/x-www-form-urlencoded", "origin": self.origin}
            content = urlencode(values)
        answer = await self.client.request(
            method, urljoin(self.origin, url), headers={**sent, **(headers or {})}, content=content
        )
        self.visited.append((f"{method} {urlsplit(url).path}", answer.status_code))
        assert answer.status_code < 500 or answer.status_code == 503, answer.text
        return answer

    async def _arrive(self, answer: httpx.Response) -> Page:
        for _ in range(_MAX_REDIRECTS):
            if answer.status_code != 303:
                return self.show(answer)
            location = answer.headers["location"]
            assert answer.content == b""
            assert answer.headers.get_list("cache-control") == ["no-store"]
            target = urljoin(str(answer.url), location)
            assert target.startswith(f"{self.origin}/"), location
            answer = await self.request("GET", target)
        raise AssertionError(f"redirects without an end: {answer.url}")

    def show(self, answer: httpx.Response) -> Page:
        """The page of a response."""
        root = page_of(answer, csp=self.csp, limit=self.limit)
        page = Page(str(answer.url), answer.status_code, root, answer)
        self.on_page(page)
        return page
