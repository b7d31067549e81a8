"""Unicode normalization of passwords before they are hashed or verified.

Keyboards and operating systems encode the same character in different ways: macOS and some Korean
input methods send `é` or `한` as several code points, most others as one. The OpaqueString profile
(RFC 8265, section 4.2) maps both to the same form. It does not change case, and does not unify
characters that look alike.

RFC 8265 also rejects every code point outside of the FreeformClass (RFC 8264, section 4.3). This
module rejects only control characters, line and paragraph separators and surrogates, and only in
new passwords: the rest of that class depends on the version of Unicode, and it excludes the joiners
and variation selectors of emoji.
"""

import unicodedata

MAX_LENGTH = 1024
"""Characters of the normalized form. A longer password is rejected before it is hashed."""

MAX_INPUT_LENGTH = 4 * MAX_LENGTH
"""Characters before normalization: a character decomposes into at most four (Unicode NFD)."""

_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})


def opaque_string(password: str) -> str:
    """Returns the normalized form of `password`: NFC, with every space as U+0020.

    Applies the mapping and normalization rules of OpaqueString, and is idempotent.
    """
    if password.isascii():
        return password
    spaced = "".join(" " if unicodedata.category(c) == "Zs" else c for c in password)
    return unicodedata.normalize("NFC", spaced)


def is_too_long(password: str) -> bool:
    """Returns whether the normalized form of `password` has more than `MAX_LENGTH` characters."""
    return len(password) > MAX_INPUT_LENGTH or len(opaque_string(password)) > MAX_LENGTH


def has_control_characters(password: str) -> bool:
    """Returns whether `password` contains a control character, line separator or surrogate."""
    return any(unicodedata.category(character) in _REFUSED for character in password)
