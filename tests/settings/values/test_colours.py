"""Colours of pages: every colour of an operator leads to readable ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authapi.settings.values.colours import contrast, text_colour, with_contrast

COLOURS = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")
LIGHT, DARK = ("#ffffff", "#f6f7f9"), ("#16181c", "#1e2126")


@pytest.mark.parametrize(
    ("first", "second", "ratio"),
    [
        ("#ffffff", "#000000", 21.0),
        ("#777777", "#777777", 1.0),
        ("#777777", "#ffffff", 4.48),  # the example of WCAG that just fails
        ("#0b57d0", "#ffffff", 6.39),
    ],
)
def test_contrast_is_that_of_wcag(first: str, second: str, ratio: float) -> None:
    assert contrast(first, second) == contrast(second, first)
    assert round(contrast(first, second), 2) == ratio


@given(COLOURS)
def test_text_on_any_colour_is_readable(colour: str) -> None:
    assert contrast(text_colour(colour), colour) >= 4.5


@given(COLOURS, st.sampled_from([3.0, 4.5]))
def test_any_colour_gets_the_contrast(colour: str, least: float) -> None:
    for backgrounds, darker in ((LIGHT, True), (DARK, False)):
        found = with_contrast(colour, backgrounds, least, darker=darker)
        assert all(contrast(found, background) >= least for background in backgrounds)


def test_a_colour_with_contrast_stays() -> None:
    assert with_contrast("#0b57d0", LIGHT, 4.5, darker=True) == "#0b57d0"


def test_a_derived_colour_keeps_its_hue() -> None:
    found = with_contrast("#0b57d0", DARK, 4.5, darker=False)
    red, green, blue = (int(found[start : start + 2], 16) for start in (1, 3, 5))
    assert red < green < blue
    olive = with_contrast("#ffff00", LIGHT, 4.5, darker=True)
    assert abs(int(olive[1:3], 16) - int(olive[3:5], 16)) < 0x10
    assert int(olive[5:7], 16) < 0x10
