"""Rules for names that users choose, such as the name of an account or of a token.

Names are displayed in lists, mail and pages. They contain no control characters and no line breaks,
and at least one visible character.
"""

import re

_CONTROL = r"\u0000-\u001f\u007f-\u009f\u2028\u2029"
_INVISIBLE = (
    # White space (Unicode, PropList, White_Space), except for the characters above.
    r"\u0020\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
    # Format characters (general category Cf) and default-ignorable code points
    # (DerivedCoreProperties, Default_Ignorable_Code_Point): joiners, direction marks, Hangul
    # fillers, variation selectors, tags.
    r"\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5"
    r"\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    r"\ufff0-\ufffb\ufffe\uffff"
    # Symbols without a visible glyph: blank Braille pattern.
    r"\u2800"
)
_INVISIBLE_ABOVE_16_BITS = (
    # The same categories, and the symbols null note head and Khitan filler.
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
    "\U0001d159\U00016fe4"
)
SINGLE_LINE_PATTERN = rf"^[^{_CONTROL}]+$"
"""A single line of text. The expression has the same meaning in JSON Schema, pydantic and `re`."""
DISPLAY_NAME_PATTERN = (
    rf"^[^{_CONTROL}]*[^{_CONTROL}{_INVISIBLE}{_INVISIBLE_ABOVE_16_BITS}][^{_CONTROL}]*$"
)
"""A single line of text with at least one visible character."""
DOCUMENTED_NAME_PATTERN = rf"^[^{_CONTROL}]*[^{_CONTROL}{_INVISIBLE}][^{_CONTROL}]*$"
"""As `DISPLAY_NAME_PATTERN`, for the OpenAPI document: it takes any character above 16 bits for a
visible one. Many programs in JavaScript read a pattern in units of 16 bits, and fail at others."""

_single_line, _display_name, _surrogate = (
    re.compile(SINGLE_LINE_PATTERN[:-1] + r"\Z"),
    re.compile(DISPLAY_NAME_PATTERN[:-1] + r"\Z"),
    re.compile(r"[\ud800-\udfff]"),
)


def is_single_line(text: str) -> bool:
    """Whether `text` is a single line of at least one character, without lone surrogates."""
    return _single_line.match(text) is not None and not _has_surrogate(text)


def is_display_name(text: str) -> bool:
    """Whether `text` is a single line with at least one visible character."""
    return _display_name.match(text) is not None and not _has_surrogate(text)


def _has_surrogate(text: str) -> bool:
    return _surrogate.search(text) is not None
