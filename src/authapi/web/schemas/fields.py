"""Field types of the models, with their limits, formats and examples."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from authapi.crypto.password_normalization import MAX_INPUT_LENGTH, is_too_long
from authapi.crypto.password_normalization import MAX_LENGTH as MAX_PASSWORD_LENGTH
from authapi.domain.display_names import (
    DISPLAY_NAME_PATTERN,
    DOCUMENTED_NAME_PATTERN,
    SINGLE_LINE_PATTERN,
)
from authapi.domain.email_address import MAX_LENGTH as MAX_EMAIL_LENGTH
from authapi.domain.email_address import EmailAddress, parse_email
from authapi.domain.username import MAX_LENGTH as MAX_USERNAME_LENGTH
from authapi.domain.username import MIN_LENGTH as MIN_USERNAME_LENGTH
from authapi.domain.username import LoginIdentifier, Username, parse_username
from authapi.errors import InputError, InvalidInput

_allows_reserved: ContextVar[bool] = ContextVar("authapi_allows_reserved", default=False)


@contextmanager
def reserved_addresses_allowed() -> Iterator[None]:
    """Makes `Email` accept reserved addresses inside the block.

    The models of bodies are the same for all applications; the setting belongs to one of them.
    """
    token = _allows_reserved.set(True)
    try:
        yield
    finally:
        _allows_reserved.reset(token)


def _email(value: object) -> EmailAddress:
    if isinstance(value, EmailAddress):
        return value
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "Input should be a valid string")
    try:
        return parse_email(value, allow_reserved=_allows_reserved.get())
    except InvalidInput as refusal:
        problem = refusal.errors[0]
        raise PydanticCustomError(
            "email_invalid", "{reason}", {"reason": problem.message}
        ) from None


def _username(value: object) -> Username:
    if isinstance(value, Username):
        return value
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "Input should be a valid string")
    try:
        return parse_username(value)
    except InvalidInput as refusal:
        problem = refusal.errors[0]
        raise PydanticCustomError(
            "username_invalid", "{reason}", {"reason": problem.message}
        ) from None


def _password(value: str) -> str:
    # The value is not normalized: imported hashes are also verified against the typed text.
    if is_too_long(value):
        reason = "String should have at most {max_length} characters"
        raise PydanticCustomError("string_too_long", reason, {"max_length": MAX_PASSWORD_LENGTH})
    return value


def format_time(value: datetime) -> str:
    """Returns a time as the API writes it (RFC 3339, in UTC)."""
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


LIMIT = "x-authapi-limit"
"""Marks what a setting decides in a schema. The finished document does not have it."""
LOGIN = "login"
"""The mark of the result of a login, which depends on the strategies."""


def limit(name: str) -> dict[str, JsonValue]:
    """Marks a field whose limit is a setting. `web/documents` replaces it with the value."""
    return {LIMIT: name}


Email = Annotated[
    EmailAddress,
    BeforeValidator(_email),
    WithJsonSchema(
        {
            "type": "string",
            "format": "email",
            "maxLength": MAX_EMAIL_LENGTH,
            "examples": ["alice@example.com"],
            "description": "One address with an ASCII local part.",
        }
    ),
]
UserName = Annotated[
    Username,
    BeforeValidator(_username),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": MIN_USERNAME_LENGTH,
            "maxLength": MAX_USERNAME_LENGTH,
            "pattern": r"^[^\u0000-\u0020@]+$",
            "examples": ["alice"],
            "description": "Letters of one script, digits, `.`, `_` and `-`. Case does not matter.",
        }
    ),
]
NewUserName = Annotated[UserName | None, Field(json_schema_extra=limit("new_username"))]
"""The user name of a new account."""
OwnUserName = Annotated[
    UserName | None,
    Field(
        description="Null removes it. A name that you gave up stays reserved for you for 90 days.",
        json_schema_extra=limit("username"),
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
        max_length=MAX_INPUT_LENGTH,
        json_schema_extra=_PASSWORD,
        examples=["correct horse battery staple"],
    ),
    _LENGTH,
]
NewPassword = Annotated[
    str,
    Field(
        max_length=MAX_INPUT_LENGTH,
        # Only for the OpenAPI document: `Passwords.check_policy` enforces it, with its own codes.
        json_schema_extra={**_PASSWORD, **limit("new_password"), "pattern": SINGLE_LINE_PATTERN},
        examples=["correct horse battery staple"],
    ),
    _LENGTH,
]
NAME_IN_DOCUMENT: dict[str, JsonValue] = {"pattern": DOCUMENTED_NAME_PATTERN}
"""What the OpenAPI document says of a field with `DISPLAY_NAME_PATTERN`."""
Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=DISPLAY_NAME_PATTERN,
        examples=["Alice Example"],
        json_schema_extra=NAME_IN_DOCUMENT,
    ),
]
Locale = Annotated[
    str, Field(min_length=2, max_length=35, pattern="^[a-z][A-Za-z0-9-]+$", examples=["en"])
]
OwnLocale = Annotated[
    Locale | None,
    Field(
        description="The language of mails; null for the default language of the service.",
        json_schema_extra=limit("locale"),
    ),
]
_MAX_CODE = 64
_MAX_TICKET = 128
Code = Annotated[
    str,
    Field(
        min_length=1,
        max_length=_MAX_CODE,
        pattern=SINGLE_LINE_PATTERN,
        examples=["123456"],
        description="The six digits that the authenticator app shows.",
    ),
]
RecoveryCode = Annotated[
    str,
    Field(
        min_length=1,
        max_length=_MAX_CODE,
        pattern=SINGLE_LINE_PATTERN,
        examples=["7K2M-Q4XP-9RTD-3WHN"],
        description="A recovery code. Case, dashes and spaces do not matter.",
    ),
]
Ticket = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=_MAX_TICKET,
        pattern=SINGLE_LINE_PATTERN,
        examples=["dGhlIHRpY2tldCBvZiB0aGUgZmlyc3Qgc3RlcC4uLi4"],
        description="The ticket of the first step. A browser has a cookie instead.",
    ),
]
StrategyName = Annotated[
    str | None,
    Field(
        max_length=64,
        pattern="^[a-z][a-z0-9_]*$",
        description="The strategy that issues the credential. The operator sets the default.",
        json_schema_extra=limit("strategy"),
    ),
]
Remember = Annotated[
    bool,
    Field(description="Keep the cookie after the browser is closed (strategy `session` only)."),
]
OneTimeSecret = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="The token from the link in the mail. It can be used once.",
        examples=["vGf5C2n1q0bIu3Jp8mX7sYkLw4TzRdEaHhNoPiQrStU"],
    ),
]
TokenName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=100,
        pattern=DISPLAY_NAME_PATTERN,
        examples=["backup script"],
        json_schema_extra=NAME_IN_DOCUMENT,
    ),
]
Scope = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$")]
Time = Annotated[
    datetime,
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema(
        {"type": "string", "format": "date-time", "examples": ["2026-11-23T08:00:00.000000Z"]}
    ),
]


def no_duplicates(value: list[str]) -> list[str]:
    """Returns `value`, or raises PydanticCustomError (`duplicate_items`) if it has duplicates."""
    if len(set(value)) != len(value):
        raise PydanticCustomError("duplicate_items", "contains an item twice")
    return value


def _integer(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# JSON has one number type: 60 and 60.0 are the same number (JSON Schema Core, section 4.2.2).
Seconds = Annotated[int, Field(ge=1, le=10**10, examples=[2592000]), BeforeValidator(_integer)]


class Input(BaseModel):
    """Base of request bodies: unknown members are refused, and values are not converted."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)


class Output(BaseModel):
    """Base of response bodies: they contain only the declared members.

    The schemas do not say so: a later version may add members, and clients must accept these.
    """

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        found = handler.resolve_ref_schema(schema)
        if found.get("additionalProperties") is False:
            del found["additionalProperties"]
        return schema


def disabled_member(name: str) -> InputError:
    """Returns the error of a member that the settings do not allow: that of an unknown member."""
    return InputError(("body", name), "extra_forbidden", "Extra inputs are not permitted")


def check_username_member(body: Input, accepted: LoginIdentifier) -> None:
    """Raises InvalidInput if `body` has a user name, and accounts have none."""
    if accepted == "email" and "username" in body.model_fields_set:
        raise InvalidInput(disabled_member("username"))
