"""Colours with a sufficient contrast, derived from one colour of the operator.

The contrast is that of WCAG 2.2, section 1.4.3. A derived colour keeps the hue: its lightness
changes in OKLCH, where equal steps look equal (Björn Ottosson, "A perceptual color space for image
processing", 2020).
"""

import math
from collections.abc import Iterable
from typing import TypeAlias

TEXT_CONTRAST = 4.5
"""The least contrast of text (WCAG 2.2, section 1.4.3)."""
CONTROL_CONTRAST = 3.0
"""The least contrast of the edge of a control (WCAG 2.2, section 1.4.11)."""

RGB: TypeAlias = tuple[float, float, float]
"""Red, green and blue from 0 to 1."""

_STEP = 0.01
_GREY = 0.0005
"""A chroma below this is a grey."""


def contrast(first: str, second: str) -> float:
    """Returns the contrast of two colours, from 1 to 21."""
    darker, lighter = sorted((_luminance(first), _luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def text_colour(background: str) -> str:
    """Returns white or black, whichever has the greater contrast on `background`.

    One of the two always has a contrast of 4.5.
    """
    return max(("#ffffff", "#000000"), key=lambda colour: contrast(colour, background))


def with_contrast(colour: str, backgrounds: Iterable[str], least: float, *, darker: bool) -> str:
    """Returns the colour next to `colour` that has the contrast `least` on all `backgrounds`.

    It gets darker, or lighter, in small steps. Black or white is the last one.
    """
    behind = tuple(backgrounds)
    lightness, chroma, hue = _to_oklch(_parse(colour))
    found = colour
    while any(contrast(found, background) < least for background in behind):
        lightness += -_STEP if darker else _STEP
        if not 0 < lightness < 1:
            return "#000000" if darker else "#ffffff"
        found = _format(_in_gamut(lightness, chroma, hue))
    return found


def _parse(colour: str) -> RGB:
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return red, green, blue


def _format(rgb: RGB) -> str:
    return "#" + "".join(f"{round(min(max(channel, 0), 1) * 255):02x}" for channel in rgb)


def _luminance(colour: str) -> float:
    red, green, blue = map(_linear, _parse(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4


def _encoded(channel: float) -> float:
    return channel * 12.92 if channel <= 0.0031308 else 1.055 * channel ** (1 / 2.4) - 0.055


def _to_oklch(rgb: RGB) -> tuple[float, float, float]:
    red, green, blue = map(_linear, rgb)
    long = math.cbrt(0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue)
    medium = math.cbrt(0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue)
    short = math.cbrt(0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue)
    lightness = 0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short
    a = 1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short
    b = 0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short
    return lightness, math.hypot(a, b), math.atan2(b, a)


def _to_rgb(lightness: float, chroma: float, hue: float) -> RGB:
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        _encoded(4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short),
        _encoded(-1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short),
        _encoded(-0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short),
    )


def _in_gamut(lightness: float, chroma: float, hue: float) -> RGB:
    # A very light or dark colour of this chroma does not exist in sRGB. Clipping its channels would
    # change the hue.
    while True:
        rgb = _to_rgb(lightness, chroma, hue)
        if all(-0.001 <= channel <= 1.001 for channel in rgb) or chroma < _GREY:
            return rgb
        chroma *= 0.95
