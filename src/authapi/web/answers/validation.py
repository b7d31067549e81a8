"""The errors of pydantic as a refusal whose text repeats no input of the client."""

from collections.abc import Collection, Mapping
from typing import Any

from fastapi.exceptions import ValidationException

from authapi.errors import InputError, InvalidInput
from authapi.web.schemas.fields import disabled_member

_MAX_ERRORS = 100
_MESSAGES = {
    "uuid_parsing": "must be a UUID",
    "union_tag_invalid": "must be one of the defined kinds",
    "literal_error": "must be one of the defined values",
}
"""Replace pydantic's messages, which repeat parts of the input."""


def invalid_input(error: ValidationException, *, disabled: Collection[str] = ()) -> InvalidInput:
    """Returns the refusal for input that does not match the parameters of a route.

    The members `disabled` of a body count as unknown, because the settings do not allow them.
    """
    # A body with thousands of unknown members must not cause a response of that size.
    found = list(map(_input_error, error.errors()[:_MAX_ERRORS]))
    for index, item in enumerate(found):
        if item.loc[:1] == ("body",) and item.loc[1:2] and item.loc[1] in disabled:
            found[index] = disabled_member(str(item.loc[1]))
    return InvalidInput(*found)


def _input_error(error: Mapping[str, Any]) -> InputError:
    loc, code = tuple(error["loc"]), error["type"]
    if code == "extra_forbidden":
        # The name of an unknown member is input of the client.
        loc = (*loc[:-1], "?")
    message = _MESSAGES.get(code) or error["msg"].removeprefix("Value error, ")
    return InputError(loc, code, message)
