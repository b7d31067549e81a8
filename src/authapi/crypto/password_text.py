"""Passwords as text: the one form in which they are hashed and compared.

Keyboards and operating systems encode the same character in different ways: macOS and some Korean
input methods send `é` or `한` as several code points, most others as one. The OpaqueString profile
(RFC 8265, section 4.2) gives both the same form. It changes no case and folds no characters that
look alike.

RFC 8265 also refuses every code point outside of the FreeformClass (RFC 8264, section 4.3). Here
only control characters, line and paragraph separators and surrogates are refused, and only in new
passwords: the rest of that class depends on the version of Unicode, and it excludes the joiners and
variation selectors that emoji are typed with.
"""

import unicodedata

MAX_LENGTH = 1024
"""Characters of the normal form; a longer password is refused before it is hashed."""

MAX_TYPED = 4 * MAX_LENGTH
"""Characters as they are sent: no character decomposes into more than four (Unicode NFD)."""

_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})


def opaque_string(password: str) -> str:
    """The normal form of `password`: spaces are U+0020, and all of it is NFC.

    Applies the mapping and normalization rules of OpaqueString. Applying it again changes nothing.
    """
    if password.isascii():
        return password
    spaced = "".join(" " if unicodedata.category(c) == "Zs" else c for c in password)
    return unicodedata.normalize("NFC", spaced)


def is_too_long(password: str) -> bool:
    """Whether the normal form of `password` has more than `MAX_LENGTH` characters."""
    return len(password) > MAX_TYPED or len(opaque_string(password)) > MAX_LENGTH


def has_control_characters(password: str) -> bool:
    """Whether `password` holds what no new password may: a character that moves or ends a line."""
    return any(unicodedata.category(character) in _REFUSED for character in password)
