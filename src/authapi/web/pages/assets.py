"""The files of the pages: stylesheet, theme, scripts, icon and logo.

Their addresses have a hash of the content, so browsers keep them until they change.
"""

import html
from collections.abc import Mapping
from pathlib import Path

from authapi.errors import ConfigurationError
from authapi.settings import Settings
from authapi.settings.pages import MAX_CSS_BYTES, MAX_LOGO_BYTES
from authapi.settings.values.colours import (
    CONTROL_CONTRAST,
    TEXT_CONTRAST,
    text_colour,
    with_contrast,
)
from authapi.web.documents.files import Asset

_STATIC = Path(__file__).parent / "static"
_SVG = "image/svg+xml"
_PNG = b"\x89PNG\r\n\x1a\n"
_LIGHT = ("#ffffff", "#f6f7f9")
"""The backgrounds of the light theme in `page.css`: `--back` and `--surface`."""
_DARK = ("#1e2126", "#16181c")
"""The backgrounds of the dark theme."""


def load_assets(settings: Settings) -> Mapping[str, Asset]:
    """Returns the files by their names in addresses.

    Raises ConfigurationError if a file of the operator cannot be used.
    """
    assets = {
        "page.css": Asset.of((_STATIC / "page.css").read_bytes(), "text/css"),
        "console.css": Asset.of((_STATIC / "console.css").read_bytes(), "text/css"),
        "theme.css": Asset.of(_theme(settings), "text/css"),
        "passkeys.js": Asset.of((_STATIC / "passkeys.js").read_bytes(), "text/javascript"),
        "ui.js": Asset.of((_STATIC / "ui.js").read_bytes(), "text/javascript"),
    }
    if settings.brand_logo is not None:
        logo = _read(settings.brand_logo, "AUTHAPI_BRAND_LOGO", MAX_LOGO_BYTES)
        assets["logo"] = assets["icon"] = Asset.of(logo, _image_type(logo))
    else:
        icon = icon_svg(settings.service_name, settings.brand_colour)
        assets["icon"] = Asset.of(icon.encode(), _SVG)
    return assets


def _theme(settings: Settings) -> bytes:
    css = theme_css(settings.brand_colour).encode()
    if settings.brand_css is None:
        return css
    own = _read(settings.brand_css, "AUTHAPI_BRAND_CSS", MAX_CSS_BYTES)
    try:
        own.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError("AUTHAPI_BRAND_CSS is not text in UTF-8") from None
    return css + own


def icon_svg(name: str, colour: str) -> str:
    """Returns the icon of a service without a logo: the first letter of its name, as on pages."""
    letter = name[:1].upper()
    # An attacker cannot choose the name, but a `<` in it would break the file.
    text = html.escape(letter) if letter.isprintable() else ""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
        f'<rect width="32" height="32" rx="8" fill="{colour}"/>'
        f'<text x="16" y="22.5" fill="{text_colour(colour)}" font-family="system-ui,sans-serif" '
        f'font-size="18" font-weight="700" text-anchor="middle">{text}</text></svg>'
    )


def theme_css(colour: str) -> str:
    """Returns the custom properties of the brand, for light and dark screens."""
    light = _properties(colour, _LIGHT, darker=True)
    dark = _properties(colour, _DARK, darker=False)
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"


def _properties(colour: str, backgrounds: tuple[str, ...], *, darker: bool) -> str:
    edge = with_contrast(colour, backgrounds, CONTROL_CONTRAST, darker=darker)
    link = with_contrast(colour, backgrounds, TEXT_CONTRAST, darker=darker)
    return f"--key: {colour}; --on-key: {text_colour(colour)}; --key-edge: {edge}; --link: {link};"


def _image_type(content: bytes) -> str:
    if content.startswith(_PNG):
        return "image/png"
    if b"<svg" in content[:1000]:
        return _SVG
    raise ConfigurationError("AUTHAPI_BRAND_LOGO is neither an SVG nor a PNG file")


def _read(path: Path, variable: str, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ConfigurationError(f"{variable} cannot be read: {error.strerror}") from None
    if len(content) > limit:
        raise ConfigurationError(f"{variable} has more than {limit} bytes")
    return content
