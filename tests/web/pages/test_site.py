"""The looks of an operator: files, colours, templates and policies."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from authapi import create_app
from authapi.errors import ConfigurationError
from authapi.testing import Client, client
from authapi.web.pages.assets import theme_css
from authapi.web.pages.site import TEMPLATES
from tests.conftest import SettingsFactory
from tests.web.pages.checks import CSP

SVG = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
FILES = {
    "page.css": "text/css; charset=utf-8",
    "theme.css": "text/css; charset=utf-8",
    "ui.js": "text/javascript; charset=utf-8",
    "icon": "image/svg+xml",
}


@pytest.mark.parametrize("name", FILES)
async def test_files_are_kept_while_their_address_is_the_same(api: Client, name: str) -> None:
    page = await api.get("/account/sign-in")
    [address] = re.findall(rf'"({re.escape(name)}\?v=[0-9a-f]+)"', page.text)
    answer = await api.get(f"/account/{address}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == FILES[name]
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "set-cookie" not in answer.headers
    for other in (name, f"{name}?v=0123456789ab"):
        answer = await api.get(f"/account/{other}")
        assert answer.headers["cache-control"] == "no-cache"


async def test_files_are_small_and_load_nothing(api: Client) -> None:
    css = (await api.get("/account/page.css")).text
    theme = (await api.get("/account/theme.css")).text
    script = (await api.get("/account/ui.js")).text
    assert len((css + theme).encode()) <= 14 * 1024
    assert len(script.encode()) <= 6 * 1024
    for text in (css, theme, script):
        assert not re.search(r"url\(|@import|https?://|\bimport\b|fetch\(", text)
    # Trusted Types: nothing is parsed as HTML, and nothing is evaluated.
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|\.style\b", script
    )
    assert (await api.get("/account/logo")).status_code == 404


async def test_the_brand_is_on_each_page(make_settings: SettingsFactory, tmp_path: Path) -> None:
    logo, css = tmp_path / "logo.svg", tmp_path / "own.css"
    logo.write_text(SVG)
    css.write_text(":root { --radius: 0 }")
    settings = make_settings(
        brand_name="Acme <Tools>",
        brand_logo=logo,
        brand_css=css,
        brand_colour="#FFCC00",
        home_url="https://app.example.com/start",
        terms_url="https://acme.example/terms",
        privacy_url="https://acme.example/privacy",
        support_url="mailto:help@acme.example",
    )
    async with client(create_app(settings)) as api:
        page = await api.get("/account/sign-in")
        assert "<title>Sign in - Acme &lt;Tools&gt;</title>" in page.text
        assert '<a class="brand" href="https://app.example.com/start">' in page.text
        for link in ("https://acme.example/terms", "mailto:help@acme.example"):
            assert f'<a href="{link}">' in page.text
        [source] = re.findall(r'<img class="logo" src="([^"]+)" alt=""', page.text)
        image = await api.get(f"/account/{source}")
        assert (image.text, image.headers["content-type"]) == (SVG, "image/svg+xml")
        assert "sandbox" in image.headers["content-security-policy"]
        assert "script-src" not in image.headers["content-security-policy"]
        assert f'<link rel="icon" href="{source}">' in page.text
        for path in ("/account/icon", "/favicon.ico"):
            icon = await api.get(path)
            assert (icon.text, icon.headers["content-type"]) == (SVG, "image/svg+xml")
            assert "sandbox" in icon.headers["content-security-policy"]
        theme = (await api.get("/account/theme.css")).text
        assert theme == theme_css("#ffcc00") + ":root { --radius: 0 }"
        sign_up = await api.get("/account/sign-up")
        assert 'accept the <a href="https://acme.example/terms">terms</a>.' in sign_up.text
        await api.post("/register", json={"email": "a@example.com", "password": "x" * 40 + "yz"})


@pytest.mark.parametrize(
    ("name", "letter"), [("acme", "A"), ("<b>", "<"), ("&", "&"), ("'x", "'"), ("가나", "가")]
)
async def test_without_a_logo_the_icon_is_a_letter_in_the_colour(
    make_settings: SettingsFactory, name: str, letter: str
) -> None:
    async with client(create_app(make_settings(brand_name=name, brand_colour="#FFCC00"))) as api:
        page = await api.get("/account/sign-in")
        [address] = re.findall(r'<link rel="icon" href="([^"]+)">', page.text)
        icon = await api.get(f"/account/{address}")
        svg = ElementTree.fromstring(icon.text)
        [rectangle, text] = svg
        assert rectangle.get("fill") == "#ffcc00"
        assert (text.text, text.get("fill")) == (letter, "#000000")
        assert "set-cookie" not in icon.headers


async def test_a_form_may_lead_to_the_origins_of_the_settings(
    make_settings: SettingsFactory,
) -> None:
    for changes, targets in (
        ({}, ""),
        ({"allowed_origins": ("https://a.example",)}, " https://a.example"),
        (
            {
                "allowed_origins": ("https://a.example",),
                "return_origins": ("https://b.example",),
                "home_url": "https://c.example:8443/x",
            },
            " https://b.example https://c.example:8443",
        ),
    ):
        async with client(create_app(make_settings(**changes))) as api:
            page = await api.get("/account/sign-in")
            expected = CSP.replace("form-action 'self'", f"form-action 'self'{targets}")
            assert page.headers["content-security-policy"] == expected


async def test_templates_of_the_operator_come_first(
    make_settings: SettingsFactory, tmp_path: Path
) -> None:
    own = "{% extends 'base.html' %}{% block title %}Mine{% endblock %}"
    (tmp_path / "sign-in.html").write_text(own)
    (tmp_path / "elements.html").write_text(
        (TEMPLATES / "elements.html").read_text().replace('class="mark"', 'class="theirs"')
    )
    async with client(create_app(make_settings(page_templates=tmp_path))) as api:
        assert "<h1>Mine</h1>" in (await api.get("/account/sign-in")).text
        page = await api.get("/account/sign-up")
        assert "<h1>Create an account</h1>" in page.text
        assert 'class="theirs"' in page.text


@pytest.mark.parametrize(
    ("setting", "content", "message"),
    [
        ("brand_logo", b"GIF89a", "AUTHAPI_BRAND_LOGO is neither an SVG nor a PNG file"),
        ("brand_logo", b"<svg" + b" " * 65536, "AUTHAPI_BRAND_LOGO has more than 65536 bytes"),
        ("brand_logo", None, "AUTHAPI_BRAND_LOGO cannot be read: No such file or directory"),
        ("brand_css", b"\xff", "AUTHAPI_BRAND_CSS is not text in UTF-8"),
        ("page_templates", None, "AUTHAPI_PAGE_TEMPLATES is not a folder"),
    ],
    ids=range(5),
)
async def test_unusable_files_refuse_the_start(
    make_settings: SettingsFactory,
    tmp_path: Path,
    setting: str,
    content: bytes | None,
    message: str,
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}"):
        async with client(create_app(make_settings(**{setting: path}))):
            pass
