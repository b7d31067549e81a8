"""Values as files and shells hand them over: line ends, white space, NUL, `~`, percent-encoding."""

from pathlib import Path
from urllib.parse import unquote

from pydantic import SecretStr


def without_line_ends(values: object) -> object:
    """`values` by name, each text without line ends around it: editors and `echo` add one."""
    if not isinstance(values, dict):
        return values
    return {
        name: value.strip("\r\n") if isinstance(value, str) else value
        for name, value in values.items()
    }


def secret_text(value: SecretStr | None) -> SecretStr | None:
    """A secret without line ends around it, None for an empty one.

    Raises ValueError for one that holds a line end or a NUL, which none does on purpose.
    """
    if value is None:
        return None
    text = value.get_secret_value().strip("\r\n")
    if any(character in "\r\n\0" for character in text):
        raise ValueError("must not hold a line end or a NUL")
    return SecretStr(text) if text else None


def url_text(value: SecretStr | None) -> SecretStr | None:
    """A URL without white space around it, its scheme in lower case (RFC 3986, section 3.1).

    None for an empty one. Raises ValueError for one with control characters, as they are or
    percent-encoded: a NUL ends a text where C libraries read it.
    """
    if value is None:
        return None
    text = value.get_secret_value().strip()
    if not all(character.isprintable() or character == " " for character in text):
        raise ValueError("must not hold line ends or other control characters")
    if "\0" in decoded(text):
        raise ValueError("must not hold a NUL (%00)")
    scheme, colon, rest = text.partition(":")
    return SecretStr(f"{scheme.lower()}{colon}{rest}") if text else None


def decoded(text: str) -> str:
    """`text` without percent-encoding. Raises ValueError if it is not UTF-8 then."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("must be UTF-8 where it is percent-encoded") from None


def is_homeless(value: Path) -> bool:
    """Whether a path begins with the home folder of a user who has none (see `expanded`)."""
    return value.parts[:1] == ("~",)


def expanded(value: Path) -> Path:
    """A path with `~` replaced by the home folder, or as it is where none is known.

    Raises ValueError for one with a NUL.
    """
    if "\0" in str(value):
        raise ValueError("must not hold a NUL")
    try:
        return value.expanduser()
    except RuntimeError:  # HOME is not set, and the user has no entry in the password database
        return value
