"""The fields that JSON is made of, with their limits, formats and examples."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from authapi.crypto.password_text import MAX_LENGTH as MAX_PASSWORD_LENGTH
from authapi.crypto.password_text import MAX_TYPED, is_too_long
from authapi.errors import InvalidInput
from authapi.services.addresses import MAX_LENGTH as MAX_EMAIL_LENGTH
from authapi.services.addresses import EmailAddress, parse_email
from authapi.services.names import NAME, PRINTABLE


def _email(value: object) -> EmailAddress:
    if isinstance(value, EmailAddress):
        return value
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "Input should be a valid string")
    try:
        return parse_email(value)
    except InvalidInput as refusal:
        problem = refusal.errors[0]
        raise PydanticCustomError(
            "email_invalid", "{reason}", {"reason": problem.message}
        ) from None


def _password(value: str) -> str:
    # As it was typed: hashes of other systems are verified in that form too.
    if is_too_long(value):
        reason = "String should have at most {max_length} characters"
        raise PydanticCustomError("string_too_long", reason, {"max_length": MAX_PASSWORD_LENGTH})
    return value


def _rfc3339(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def limit(name: str) -> dict[str, JsonValue]:
    """Marks a field whose limit is a setting: `web/openapi.py` writes it into the document."""
    return {"x-limit": name}


Email = Annotated[
    EmailAddress,
    BeforeValidator(_email),
    WithJsonSchema(
        {
            "type": "string",
            "format": "email",
            "maxLength": MAX_EMAIL_LENGTH,
            "examples": ["alice@example.com"],
            "description": "One address; its local part is ASCII.",
        }
    ),
]
_LENGTH = AfterValidator(_password)
_PASSWORD: dict[str, JsonValue] = {
    "format": "password",
    "writeOnly": True,
    "maxLength": MAX_PASSWORD_LENGTH,
}
Password = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_TYPED,
        json_schema_extra=_PASSWORD,
        examples=["correct horse battery staple"],
    ),
    _LENGTH,
]
NewPassword = Annotated[
    str,
    Field(
        max_length=MAX_TYPED,
        # `Passwords.check_new` holds it against this, with a code of its own.
        json_schema_extra={**_PASSWORD, **limit("new_password"), "pattern": PRINTABLE},
        examples=["correct horse battery staple"],
    ),
    _LENGTH,
]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=NAME, examples=["Alice Example"])]
Locale = Annotated[
    str, Field(min_length=2, max_length=35, pattern="^[a-z][A-Za-z0-9-]+$", examples=["en"])
]
OneTimeSecret = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="What the link in the mail ends in; it works once.",
        examples=["vGf5C2n1q0bIu3Jp8mX7sYkLw4TzRdEaHhNoPiQrStU"],
    ),
]
TokenName = Annotated[
    str, Field(min_length=1, max_length=100, pattern=NAME, examples=["backup script"])
]
Scope = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$")]
Time = Annotated[
    datetime,
    PlainSerializer(_rfc3339, return_type=str),
    WithJsonSchema(
        {"type": "string", "format": "date-time", "examples": ["2026-11-23T08:00:00.000000Z"]}
    ),
]


def no_duplicates(value: list[str]) -> list[str]:
    """`value`, if it names nothing twice."""
    if len(set(value)) != len(value):
        raise PydanticCustomError("duplicate_items", "names an item twice")
    return value


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# JSON has one kind of number: 60 and 60.0 are the same (JSON Schema, core, section 4.2.2).
Seconds = Annotated[int, Field(ge=1, le=10**10, examples=[2592000]), BeforeValidator(_whole)]


class Input(BaseModel):
    """What comes in."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)


class Output(BaseModel):
    """What goes out."""

    model_config = ConfigDict(extra="forbid")
