"""Codes of an authenticator app and recovery codes, as people type them into a form."""

from authapi.web.routes.pages.flow import invalid

_DIGITS = 6
_MAX_DIGITS = 9
"""Characters of a code of an app with its spaces."""
_MAX_LENGTH = 100
"""Characters of a recovery code with its spaces and dashes."""


def digits_of(text: str) -> str:
    """Returns the code of an app without its spaces. Raises InvalidInput for another text."""
    code = "".join(text.split())
    if len(code) != _DIGITS or not code.isascii() or not code.isdigit():
        raise invalid("code", "code_invalid")
    return code


def recovery_code_of(text: str, *, field: str = "recovery_code") -> str:
    """Returns a recovery code. Raises InvalidInput for a text that is none."""
    code = text.strip()
    if not code or len(code) > _MAX_LENGTH or not code.isascii() or not code.isprintable():
        raise invalid(field, "recovery_code_invalid")
    return code


def code_of(text: str) -> tuple[str | None, str | None]:
    """Returns the code of an app, or else the recovery code, that was typed into one field.

    Raises InvalidInput for a text that is neither.
    """
    if len(text.strip()) > _MAX_DIGITS or any(character.isalpha() for character in text):
        return None, recovery_code_of(text, field="code")
    return digits_of(text), None
