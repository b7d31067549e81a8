"""The name of an account, as a form has it."""

from authapi.domain.display_names import is_display_name
from authapi.errors import InputError, InvalidInput

MAX_LENGTH = 200
"""Characters of a name, as in the API."""


def optional_name(text: str) -> str | None:
    """Returns the name in `text`; None if it is empty. Raises InvalidInput."""
    name = text.strip()
    if not name:
        return None
    if len(name) > MAX_LENGTH or not is_display_name(name):
        raise InvalidInput(InputError(("body", "name"), "name_invalid", "is not valid"))
    return name
