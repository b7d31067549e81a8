"""Normalizes values from files and shells: line ends, white space, NUL, `~`, percent-encoding."""

from pathlib import Path
from urllib.parse import unquote

from pydantic import SecretStr


def strip_line_ends(values: object) -> object:
    """Strips line ends from each string: editors and `echo` append one."""
    if not isinstance(values, dict):
        return values
    return {
        name: value.strip("\r\n") if isinstance(value, str) else value
        for name, value in values.items()
    }


def clean_secret(value: SecretStr | None) -> SecretStr | None:
    """Strips line ends from a secret. Returns None if it is empty.

    Raises ValueError if it contains a line end or a NUL, which is a mistake.
    """
    if value is None:
        return None
    text = value.get_secret_value().strip("\r\n")
    if any(character in "\r\n\0" for character in text):
        raise ValueError("must not contain a line end or a NUL")
    return SecretStr(text) if text else None


def clean_url(value: SecretStr | None) -> SecretStr | None:
    """Strips white space from a URL and lowers its scheme (RFC 3986, section 3.1).

    Returns None if it is empty. Raises ValueError if it contains control characters or a
    percent-encoded NUL, at which C libraries would end the string.
    """
    if value is None:
        return None
    text = value.get_secret_value().strip()
    if not all(character.isprintable() or character == " " for character in text):
        raise ValueError("must not contain line ends or other control characters")
    if "\0" in percent_decode(text):
        raise ValueError("must not contain a NUL (%00)")
    scheme, colon, rest = text.partition(":")
    return SecretStr(f"{scheme.lower()}{colon}{rest}") if text else None


def percent_decode(text: str) -> str:
    """Decodes percent-encoding. Raises ValueError if the result is not UTF-8."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("must be percent-encoded UTF-8") from None


def has_unexpanded_home(value: Path) -> bool:
    """Whether a path still begins with `~`, because no home folder is known (see `expand_home`)."""
    return value.parts[:1] == ("~",)


def expand_home(value: Path) -> Path:
    """Replaces `~` by the home folder. Returns the path unchanged if no home folder is known.

    Raises ValueError if the path contains a NUL.
    """
    if "\0" in str(value):
        raise ValueError("must not contain a NUL")
    try:
        return value.expanduser()
    except RuntimeError:  # HOME is not set, and the user has no entry in the password database
        return value
