"""What a name may hold: what people are called, what a token is for.

A name is shown to people: in lists, in mail, on pages. So it has no control character, no end of a
line, and at least one character that leaves a mark.
"""

import re

_UNPRINTABLE = r"\u0000-\u001f\u007f-\u009f\u2028\u2029"
_INVISIBLE = (
    # White space (Unicode, PropList, White_Space) besides what is unprintable.
    r"\u0020\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
    # Format characters (general category Cf), and what is to be ignored where it cannot be shown
    # (DerivedCoreProperties, Default_Ignorable_Code_Point): joiners, signs of direction, Hangul
    # fillers, variation selectors, tags.
    r"\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5"
    r"\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    r"\ufff0-\ufffb\ufffe\uffff"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
    # Symbols without a mark: blank Braille pattern, null note head, Khitan filler.
    r"\u2800"
    "\U0001d159\U00016fe4"
)
PRINTABLE = rf"^[^{_UNPRINTABLE}]+$"
"""A text in one line, as a regular expression that JSON Schema, pydantic and `re` read alike."""
NAME = rf"^[^{_UNPRINTABLE}]*[^{_UNPRINTABLE}{_INVISIBLE}][^{_UNPRINTABLE}]*$"
"""The same, with something to see."""

_IS_PRINTABLE, _IS_NAME = re.compile(PRINTABLE[:-1] + r"\Z"), re.compile(NAME[:-1] + r"\Z")


def is_printable(text: str) -> bool:
    """Whether `text` is one line, and holds no half of a surrogate pair."""
    return _IS_PRINTABLE.match(text) is not None and not _has_surrogate(text)


def is_name(text: str) -> bool:
    """Whether `text` is that, and there is something to see of it."""
    return _IS_NAME.match(text) is not None and not _has_surrogate(text)


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
