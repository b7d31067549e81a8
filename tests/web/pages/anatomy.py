"""What every page has: its headers, landmarks, names of fields, and a way on."""

from collections import Counter
from urllib.parse import urlsplit

import httpx

from tests.web.pages.checks import CSP
from tests.web.pages.documents import Element, parse

MAX_HTML = 12 * 1024
"""Bytes of a page with twenty rows."""
POLICIES = {
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "referrer-policy": "strict-origin",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
ALLOWED_FEATURES = {
    "publickey-credentials-get": "(self)",
    "publickey-credentials-create": "(self)",
    "clipboard-write": "(self)",
}
FORBIDDEN_FEATURES = ("camera", "geolocation", "microphone", "payment", "usb")
_NAMELESS = {"a", "button", "input", "select", "textarea"}


def page_of(answer: httpx.Response, *, csp: str = CSP, limit: int = MAX_HTML) -> Element:
    """Returns the document of a page. Raises AssertionError if it lacks what every page has."""
    _check_headers(answer, csp)
    assert len(answer.content) <= limit, f"{answer.url}: {len(answer.content)} bytes"
    root = parse(answer.content.decode())
    _check_head(answer, root)
    _check_landmarks(root)
    _check_headings(root)
    for element in root:
        _check_name(element, root)
        _check_source(element)
    for form in root.all("form"):
        _check_form(form)
    _check_way_on(root)
    return root


def title_of(root: Element) -> str:
    [heading] = root.all("h1")
    return heading.text


def alerts_of(root: Element) -> list[str]:
    """The texts that a screen reader speaks at once, since the form was refused."""
    return [item.text for item in root if item["role"] == "alert"]


def _check_headers(answer: httpx.Response, csp: str) -> None:
    for name, value in {**POLICIES, "content-security-policy": csp}.items():
        assert answer.headers.get_list(name) == [value], name
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert len(answer.headers.get_list("x-request-id")) == 1
    [policy] = answer.headers.get_list("permissions-policy")
    features = dict(item.split("=") for item in policy.split(", "))
    allowed = {name: value for name, value in features.items() if value != "()"}
    assert allowed == ALLOWED_FEATURES
    assert {*FORBIDDEN_FEATURES} < features.keys()
    if answer.status_code == 401:
        assert "www-authenticate" in answer.headers
    if answer.status_code in {429, 503}:
        assert int(answer.headers["retry-after"]) > 0


def _check_head(answer: httpx.Response, root: Element) -> None:
    assert root["lang"]
    assert answer.headers.get_list("content-language") == [root["lang"]]
    [title] = root.all("title")
    name, _, brand = title.text.rpartition(" - ")
    assert name == title_of(root)
    assert brand
    names = [item["name"] or "charset" for item in root.all("meta")]
    # The script of passkeys reads where they work.
    has_passkeys = any("passkeys.js" in script["src"] for script in root.all("script"))
    assert names == ["charset", "viewport", "robots", *["passkey-origins"] * has_passkeys]


def _check_landmarks(root: Element) -> None:
    [body] = root.all("body")
    assert [child.name for child in body.children] == ["a", "header", "main", "footer"]
    skip, _, main, _ = body.children
    assert skip["href"] == f"#{main['id']}"
    labels = Counter(nav["aria-label"] for nav in root.all("nav"))
    assert "" not in labels
    assert set(labels.values()) <= {1}


def _check_headings(root: Element) -> None:
    levels = [int(item.name[1]) for item in root.all("h1", "h2")]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(item.text for item in root.all("h1", "h2"))


def _check_name(element: Element, root: Element) -> None:
    """Fields have a label, and buttons and links a text."""
    if element.name not in _NAMELESS or element.is_hidden:
        return
    labels = [
        item.text for item in root.all("label") if item["for"] and item["for"] == element["id"]
    ]
    name = element["aria-label"] or " ".join(labels)
    if element.name in {"a", "button"}:
        name = name or element.text
    assert name, f"<{element.name}> without a name: {element.attributes}"


def _check_source(element: Element) -> None:
    """Nothing runs and nothing looks like anything but by files of this origin."""
    assert "style" not in element
    assert not [name for name in element.attributes if name.startswith("on")]
    if element.name in {"link", "script", "img"}:
        parts = urlsplit(element["href"] or element["src"])
        assert (parts.scheme, parts.netloc) == ("", "")
        assert parts.query.startswith("v=")
    if element.name == "a" and "download" not in element:
        assert urlsplit(element["href"]).scheme in {"", "http", "https", "mailto"}
    if element.name == "form":
        parts = urlsplit(element["action"])
        assert (parts.scheme, parts.netloc) == ("", "")


def _check_form(form: Element) -> None:
    assert form["method"] in {"get", "post"}
    fields = [item for item in form.all("input", "select") if item["type"] != "radio"]
    names = Counter(item["name"] for item in fields if "name" in item)
    assert set(names.values()) <= {1}, names
    assert form.all("button"), "a form without a button"
    for item in fields:
        if item["type"] in {"email", "password"}:
            assert item["autocomplete"], item.attributes


def _check_way_on(root: Element) -> None:
    """The content has a link or a form that leads to another page."""
    [main] = root.all("main")
    links = [item for item in main.all("a") if not item["href"].startswith("#")]
    ways = [item for item in links if "download" not in item] + list(main.all("form"))
    assert ways, f"a dead end: {title_of(root)}"
