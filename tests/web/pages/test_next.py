"""Where a sign-in may lead: never to an origin that the operator has not named."""

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authapi.web.pages.next import MAX_LENGTH, safe_next

OWN = "https://auth.example.com"
ORIGINS = ("https://app.example.com", "http://localhost:3000")


@pytest.mark.parametrize(
    "text",
    [
        "/",
        "/account",
        "/account/sign-in?next=%2Faccount#top",
        "/authorize?redirect_uri=https%3A%2F%2Fapp.example.com%2F",
        "/a?x=//b",
        "https://app.example.com",
        "https://app.example.com/",
        "https://app.example.com?x=1",
        "https://app.example.com#x",
        "https://app.example.com/a//b",
        "http://localhost:3000/x",
    ],
)
def test_own_paths_and_named_origins_are_kept(text: str) -> None:
    assert safe_next(text, ORIGINS) == text


TRICKS = [
    "",
    "account",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\/evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    " /account",
    "/account ",
    "/%2fevil.example",
    "/%2Fevil.example",
    "/%5cevil.example",
    "/%5Cevil.example",
    "/.//evil.example",
    "/..//evil.example",
    "/%2e%2e//evil.example",
    "/a/..//evil.example",
    "/가",
    "/\x7f",
    "/\x00",
    "http:evil.example",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "https://evil.example",
    "https://evil.example/https://app.example.com",
    "https://app.example.com.evil.example",
    "https://app.example.com@evil.example",
    "https://app.example.com:443@evil.example",
    "https://app.example.com:444",
    "https://app.example.com:",
    "https://app.example.com\\@evil.example",
    "https://app.example.com%2eevil.example",
    "https://app.example.comx/",
    "https://app.example.co",
    "https://APP.example.com/",
    "HTTPS://app.example.com/",
    "http://app.example.com/",
    "https://localhost:3000",
    "http://localhost:30001",
    "http://localhost",
    "javascript:alert(1)",
    "java\nscript:alert(1)",
    "data:text/html,x",
    "blob:https://app.example.com/x",
    "file:///etc/passwd",
    "mailto:a@example.com",
    "view-source:https://app.example.com",
    "@evil.example",
    "?next=/",
    "#/account",
    ".",
    "..",
    "./account",
    "*",
    "https://",
    "://app.example.com",
    "x" * 10,
    "/" + "x" * MAX_LENGTH,
]


@pytest.mark.parametrize("text", TRICKS)
def test_other_texts_are_ignored(text: str) -> None:
    assert safe_next(text, ORIGINS) is None


def test_nothing_is_no_address() -> None:
    assert safe_next(None, ORIGINS) is None


PARTS = st.sampled_from(
    [
        *("/", "//", "\\", ":", "@", "?", "#", ".", "..", "%2f", "%5c", "%2e", "\t", "\n", " "),
        *("https:", "http:", "javascript:", "https://", "app.example.com", "evil.example"),
        *("https://app.example.com", "http://localhost:3000", "localhost", ":3000", "a", "가"),
    ]
)


@given(st.lists(PARTS, max_size=6).map("".join) | st.text(max_size=30))
@example("/a/../..//evil.example")
def test_no_accepted_text_leaves_the_origins(text: str) -> None:
    found = safe_next(text, ORIGINS)
    if found is None:
        return
    assert found == text
    # The same as a browser does with the header Location.
    target = urlsplit(urljoin(f"{OWN}/account/sign-in", found))
    assert f"{target.scheme}://{target.netloc}" in {OWN, *ORIGINS}
    assert "\\" not in found
    assert found.isascii()
    assert found.isprintable()
