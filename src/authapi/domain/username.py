"""Parses user names into a canonical form, by which they are unique and looked up.

The canonical form is that of the PRECIS profile UsernameCaseMapped (RFC 8265, section 3.3): width
and case are mapped, and the result is in NFC. Two spellings of one name are therefore one name, and
the canonical form of a canonical form is itself. Only this module computes it.

Names have fewer characters than PRECIS allows. An `@` would make a name look like an address. A mix
of scripts, such as a Cyrillic letter in a Latin word, would make two names look the same: as in
UTS 39 ("highly restrictive"), only the scripts of Chinese, Japanese and Korean may be mixed, with
one another and with Latin.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from precis_i18n import get_profile

from authapi.domain.email_address import EmailAddress, parse_email
from authapi.errors import InputError, InvalidInput

MIN_LENGTH, MAX_LENGTH = 3, 40
"""Characters, of the name as entered, normalized and in its canonical form."""
PUNCTUATION = frozenset("._-")
_PLAIN = re.compile(rf"[A-Za-z0-9._-]{{{MIN_LENGTH},{MAX_LENGTH}}}")
"""Names that need no Unicode: the profiles change only their case."""

LoginIdentifier = Literal["email", "username", "both"]
"""What a login names the account by."""

_case_mapped, _case_preserved = (
    get_profile("UsernameCaseMapped"),
    get_profile("UsernameCasePreserved"),
)
_MIXED_SCRIPTS = (
    frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA"}),
    frozenset({"LATIN", "CJK", "BOPOMOFO"}),
    frozenset({"LATIN", "CJK", "HANGUL"}),
)
_NO_SCRIPT = frozenset({"DIGIT", "MODIFIER", "COMBINING", "IDEOGRAPHIC"})
"""First words of the names of characters that belong to no script or to several."""


@dataclass(frozen=True, slots=True)
class Username:
    """A name in the case that its owner chose (`original`), and its `canonical` form."""

    original: str
    canonical: str


def parse_username(text: str, *, loc: tuple[str, ...] = ("body", "username")) -> Username:
    """Parses `text`, without trimming it. The original is normalized, except for its case.

    Raises InvalidInput with the location `loc` if `text` is not a user name.
    """
    try:
        return _parse(text)
    except ValueError:
        raise InvalidInput(InputError(loc, "username_invalid", USERNAME_RULE)) from None


USERNAME_RULE = (
    f"must be a user name: {MIN_LENGTH} to {MAX_LENGTH} letters of one script, digits, '.', '_'"
    " and '-'"
)
"""The message of `username_invalid`."""


def canonical_username_prefix(text: str) -> str:
    """The canonical form of `text`, the beginning of a user name.

    A text that no name can begin with is returned unchanged and matches no name.
    """
    try:
        return _case_mapped.enforce(text)
    except ValueError:
        return text


def parse_login_name(
    text: str,
    accepted: LoginIdentifier,
    *,
    loc: tuple[str, ...] = ("body", "username"),
    allow_reserved: bool = False,
) -> EmailAddress | Username:
    """Parses what a login names the account by.

    If both are accepted, a text with an `@` is an address; `allow_reserved` is that of
    `parse_email`. Raises InvalidInput with the location
    `loc` if `text` is not what is accepted.
    """
    is_address = accepted == "email" or (accepted == "both" and "@" in text)
    if not is_address:
        return parse_username(text, loc=loc)
    return parse_email(text, loc=loc, allow_reserved=allow_reserved)


def _parse(text: str) -> Username:
    if _PLAIN.fullmatch(text):
        return Username(text, text.lower())
    return _parse_any(text)


def _parse_any(text: str) -> Username:
    if len(text) > MAX_LENGTH:
        raise ValueError
    original = _case_preserved.enforce(text)
    name = Username(original, _case_mapped.enforce(original))
    for form in (name.original, name.canonical):
        if not MIN_LENGTH <= len(form) <= MAX_LENGTH or not all(map(_is_allowed, form)):
            raise ValueError
    scripts = {script for script in map(_script, name.canonical) if script not in _NO_SCRIPT}
    if len(scripts) > 1 and not any(scripts <= mixed for mixed in _MIXED_SCRIPTS):
        raise ValueError
    if unicodedata.category(name.canonical[0])[0] == "M":
        raise ValueError  # a mark would join the character before the name
    return name


def _is_allowed(character: str) -> bool:
    category = unicodedata.category(character)
    # Letters of many scripts need marks (M).
    return character in PUNCTUATION or category[0] in "LM" or category == "Nd"


def _script(character: str) -> str:
    """The script of a letter or digit: the first word of its name in the Unicode database."""
    if character in PUNCTUATION:
        return "DIGIT"
    words = unicodedata.name(character).replace("-", " ").split()
    return words[1] if words[0] in {"EXTENDED", "SMALL"} and len(words) > 1 else words[0]
