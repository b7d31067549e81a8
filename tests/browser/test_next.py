"""Where a sign-in may lead, by the URL parser of Chromium: never to an origin that is not named."""

import random
from typing import TypeAlias

import pytest
from playwright.sync_api import Browser

from authapi.web.pages.next import safe_next
from tests.web.pages.test_next import ORIGINS, TRICKS

pytestmark = pytest.mark.browser

OWN = ("https://auth.example.com", "http://localhost:8000")
PAGES = tuple(f"{origin}/account/sign-in" for origin in OWN)

# Beside those of tests/web/pages/test_next.py: what browsers read in another way than it looks.
MORE_TRICKS = [
    *("/\\/evil.example", "/\\\\evil.example", "\\\\evil.example", "\\evil.example"),
    *("//\\evil.example", "////evil.example", "//evil.example:443", "//a@evil.example"),
    *("/\r/evil.example", "/\t\\evil.example", "\t//evil.example", "\n//evil.example"),
    *("\x00//evil.example", "\x1f//evil.example", " //evil.example", "//evil.example\t"),
    *("/\u200b/evil.example", "/\ufeff/evil.example", "\u00a0//evil.example"),
    *("\uff0f\uff0fevil.example", "/\uff0fevil.example", "/\u2215/evil.example"),
    *("//evil\u3002example", "//evil\uff0eexample", "//evil\uff61example", "//\u24d4vil.example"),
    *("//[::1]", "//[::ffff:127.0.0.1]/", "http://[::1]:3000", "//0x7f.1", "//2130706433"),
    *("/.//evil.example/..", "/./\\evil.example", "/%2e//evil.example", "/.%2e//evil.example"),
    *("/%09/evil.example", "/%0a/evil.example", "/%5C%5Cevil.example", "/%2f%2fevil.example"),
    *("/;//evil.example", "/a;//evil.example", "/:///evil.example", "/@evil.example"),
    *("https:\\\\evil.example", "https:/\\evil.example", "https:\\evil.example"),
    *("http:\\\\localhost:3000@evil.example", "https://evil.example\\@app.example.com"),
    *("https://app.example.com:80", "https://app.example.com:0443", "https://app.example.com:443"),
    *("https://app.example.com.", "https://app.example.com..", "https://app.example.com%00"),
    *("https://app.example.com%40evil.example", "https://app.example.com#@evil.example"),
    *("https://app.example.com?@evil.example", "https://app.example.com/@evil.example"),
    *("https://app.example.com;evil.example", "https://app.example.com,evil.example"),
    *("https://app.example.com\u2024evil.example", "https://app.example.com\u3002evil.example"),
    *(
        "https://app.example\u3002com",
        "https://\uff41pp.example.com",
        "https://app\xad.example.com",
    ),
    *("https://user:pw@app.example.com", "https://:@app.example.com", "https://@app.example.com"),
    *("http://localhost:3000@evil.example", "http://localhost:3000:80", "http://localhost:3000."),
    *("http://127.1:3000", "http://localhost:+3000", "http://localhost:03000"),
    *("javascript://app.example.com/%0aalert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)"),
    *(
        "\x01javascript:alert(1)",
        "javascript&colon;alert(1)",
        "vbscript:x",
        "data:,x",
        "about:blank",
    ),
    *(
        "ws://app.example.com",
        "wss://app.example.com",
        "ftp://app.example.com",
        "filesystem:https://x",
    ),
    *(
        "blob:https://app.example.com/a",
        "intent://evil.example#Intent;end",
        "tel:1",
        "///",
        "//",
        "\\",
    ),
]
KEPT = [
    *("/", "/account", "/account?a=//evil.example", "/account#//evil.example", "/a/./b", "/a/../b"),
    *("/..", "/.", "/%2e%2e/x", "/%20/evil.example", "/@evil.example", "/:443"),
    *("https://app.example.com", "https://app.example.com/", "https://app.example.com/a//b"),
    *("https://app.example.com?x", "https://app.example.com#//evil.example"),
    *("http://localhost:3000", "http://localhost:3000/..//evil.example"),
]
PARTS = [
    *(
        "/",
        "/",
        "//",
        "\\",
        ":",
        "@",
        "?",
        "#",
        ".",
        "..",
        "%2f",
        "%5c",
        "%2e",
        "%09",
        "\t",
        "\n",
        " ",
    ),
    *("https:", "http:", "javascript:", "data:", "https://", "app.example.com", "evil.example"),
    *(
        "https://app.example.com",
        "http://localhost:3000",
        "localhost",
        ":3000",
        ":443",
        "[::1]",
        "a",
    ),
    *(
        "\uff0f",
        "\u3002",
        "\u2215",
        "\xad",
        "\x00",
        "\x7f",
        "\u200b",
        "%",
        "%00",
        ";",
        ",",
        "&",
        "=",
    ),
]
RANDOM_TEXTS = 20_000

# The origin of each text as the address of a link on each page; null if it is no address. Other
# schemes than http have the origin "null".
PARSE = """([texts, pages]) => texts.map((text) => pages.map((page) => {
    try {
        return new URL(text, page).origin;
    } catch {
        return null;
    }
}))"""

Parsed: TypeAlias = list[list[str | None]]


@pytest.fixture(scope="module")
def parsed(browser: Browser) -> dict[str, list[str | None]]:
    """What Chromium makes of each text, on each page."""
    chance = random.Random(1)
    texts = dict.fromkeys([*TRICKS, *MORE_TRICKS, *KEPT])
    while len(texts) < RANDOM_TEXTS:
        head = chance.choice(["/", "", *ORIGINS])
        texts[head + "".join(chance.choices(PARTS, k=chance.randint(1, 5)))] = None
    page = browser.new_page()
    found: Parsed = page.evaluate(PARSE, [list(texts), list(PAGES)])
    page.close()
    return dict(zip(texts, found, strict=True))


def test_chromium_stays_with_the_allowed_origins(parsed: dict[str, list[str | None]]) -> None:
    accepted = [text for text in parsed if safe_next(text, ORIGINS) is not None]
    assert len(accepted) > 500
    astray = {
        text: origins
        for text in accepted
        for origins in [parsed[text]]
        if not all(origin in {own, *ORIGINS} for own, origin in zip(OWN, origins, strict=True))
    }
    assert astray == {}


def test_the_tricks_are_tricks(parsed: dict[str, list[str | None]]) -> None:
    """Most of them lead away if they are followed; all that do are ignored."""
    tricks = dict.fromkeys([*TRICKS, *MORE_TRICKS])
    assert len(tricks) >= 120
    away = [
        text
        for text in tricks
        if any(
            origin not in {None, own, *ORIGINS}
            for own, origin in zip(OWN, parsed[text], strict=True)
        )
    ]
    assert len(away) >= 60
    assert [text for text in away if safe_next(text, ORIGINS) is not None] == []


@pytest.mark.parametrize("text", KEPT)
def test_plain_addresses_are_kept(text: str) -> None:
    assert safe_next(text, ORIGINS) == text
