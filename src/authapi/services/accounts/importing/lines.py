"""The format of an import file: one JSON object in each line that is not blank."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Annotated, BinaryIO
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from authapi.clock import now, parse_time
from authapi.crypto import strict_json
from authapi.crypto.ids import new_ids
from authapi.crypto.passwords import PasswordHash, imported_hash
from authapi.domain.display_names import is_display_name, is_single_line
from authapi.domain.email_address import EmailAddress, EmailParser
from authapi.domain.user import User
from authapi.domain.username import LoginIdentifier, Username, parse_username
from authapi.errors import InvalidImportLine, InvalidInput, UnsupportedHash
from authapi.services.own_columns import ProfileModels
from authapi.services.usernames import check_username
from authapi.settings.mail import is_locale
from authapi.storage.tables.users import NewUser

MAX_LINE = 16_384
"""Bytes of one line, without the line feed."""
_MAX_DEPTH = 3
"""Levels of JSON in a line."""
_MAX_PROFILE_DEPTH = 20
"""The same, in a line with own columns."""
_ERROR_TYPE = "invalid"
"""The pydantic error type of the rules below. It is not shown to users."""
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_ID = 255
"""Characters of an id of the other system."""
_IDS_AHEAD = 100
"""New ids that are made at once: the random source is a system call."""
_UUID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_RESERVED_UUIDS = frozenset({0, (1 << 128) - 1})
"""The nil and the max UUID (RFC 9562, 5.9 and 5.10), which stand for no id."""
_BOM = b"\xef\xbb\xbf"


class Ids(Enum):
    """What an import does with the ids of its lines."""

    NEW = auto()
    """Lines have no ids."""
    KEPT = auto()
    """The ids are UUIDs, and become the ids of the accounts."""
    MAPPED = auto()
    """The ids are written to a file, with the new ids of the accounts."""


@dataclass(frozen=True, slots=True)
class ParsedLine:
    """The account that a line describes."""

    number: int
    new: NewUser
    old_id: str | None
    """The id of the line. Its text is the same for every spelling of a UUID that is kept."""


def _id(value: object) -> str | None:
    if value is None:
        return None
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or len(text) > _MAX_ID or not is_single_line(text):
        raise _error(f"must be a number or a text of 1 to {_MAX_ID} characters in one line")
    return text


def _address(value: object, info: ValidationInfo) -> EmailAddress:
    parser: EmailParser = info.context["emails"]  # type: ignore[index]  # parse() passes it
    try:
        return parser.parse(value if isinstance(value, str) else "")
    except InvalidInput as error:
        raise _error(error.errors[0].message) from None


def _username(value: object) -> Username | None:
    if value is None:
        return None
    try:
        return parse_username(value if isinstance(value, str) else "")
    except InvalidInput as error:
        raise _error(error.errors[0].message) from None


def _hash(value: object) -> PasswordHash | None:
    if value is None:
        return None
    try:
        return imported_hash(value if isinstance(value, str) else "")
    except UnsupportedHash as error:
        raise _error(str(error)) from None


def _name(value: str) -> str:
    if not is_single_line(value):
        raise _error("must not contain control characters")
    if not is_display_name(value):
        raise _error("must contain a visible character")
    return value


def _locale(value: str) -> str:
    if not is_locale(value):
        raise _error("must be a language tag such as en, ko or pt-BR")
    return value


def _time(value: object) -> datetime:
    try:
        if not isinstance(value, str):
            raise ValueError
        at = parse_time(value)
        if not _EARLIEST <= at <= now():
            raise ValueError
        return at
    except ValueError:
        message = "must be a time between 1970 and now with a time zone: 2026-01-31T12:00:00Z"
        raise _error(message) from None


def _confirmed_at(value: object) -> datetime | None:
    if isinstance(value, bool):
        return now() if value else None
    return _time(value)


def _error(reason: str) -> PydanticCustomError:
    return PydanticCustomError(_ERROR_TYPE, "{reason}", {"reason": reason})


_Time = Annotated[datetime, BeforeValidator(_time)]
_Role = Annotated[str, Field(max_length=40)]


class Line(BaseModel):
    """The members of a line, with their defaults."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Annotated[str | None, PlainValidator(_id)] = None
    email: Annotated[EmailAddress, PlainValidator(_address)]
    password_hash: Annotated[PasswordHash | None, PlainValidator(_hash)] = None
    name: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_name)] | None = None
    username: Annotated[Username | None, PlainValidator(_username)] = None
    email_confirmed: Annotated[datetime | None, PlainValidator(_confirmed_at)] = None
    is_active: bool = True
    is_superuser: bool = False
    locale: Annotated[str, AfterValidator(_locale)] | None = None
    roles: Annotated[list[_Role], Field(max_length=20, default_factory=list)]
    created_at: _Time | None = None


class LineParser:
    """Parses lines. Superusers are only accepted with `allow_superusers`, reserved addresses only
    with `allow_reserved`.

    `login_identifier` is the setting, which says whether a line must or may have a user name. With
    `profiles`, the models of own columns, a line may have the member `profile`.
    """

    def __init__(
        self,
        roles: Mapping[str, object],
        *,
        login_identifier: LoginIdentifier = "email",
        allow_superusers: bool = False,
        allow_reserved: bool = False,
        ids: Ids = Ids.NEW,
        profiles: ProfileModels | None = None,
    ) -> None:
        self._roles = roles
        self._login_identifier = login_identifier
        self._allow_superusers = allow_superusers
        self._context = {"emails": EmailParser(allow_reserved=allow_reserved)}
        self._ids = ids
        self._profiles = profiles
        self._new_ids: list[UUID] = []

    def parse(self, text: bytes, number: int = 1) -> ParsedLine:
        """Returns the account of a line. Raises InvalidImportLine with all errors of the line."""
        if len(text) > MAX_LINE:
            raise InvalidImportLine(("", f"is longer than {MAX_LINE} bytes"))
        wrong: Sequence[tuple[str, str]] = ()
        max_depth = _MAX_DEPTH if self._profiles is None else _MAX_PROFILE_DEPTH
        try:
            members = strict_json.loads(text, max_depth=max_depth)
            if not isinstance(members, dict):
                raise ValueError
            profile, wrong = self._profile(members)
            line = Line.model_validate(members, context=self._context)
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
            raise InvalidImportLine(*map(_field_error, details), *wrong) from None
        except ValueError:
            reason = "must be one JSON object in UTF-8 without repeated members"
            raise InvalidImportLine(("", reason)) from None
        if wrong:
            raise InvalidImportLine(*wrong)
        if line.is_superuser and not self._allow_superusers:
            reason = "superusers are only imported with --allow-superusers"
            raise InvalidImportLine(("is_superuser", reason))
        if not self._roles.keys() >= set(line.roles):
            reason = "includes a role that AUTHAPI_ROLES does not define"
            raise InvalidImportLine(("roles", reason))
        try:
            check_username(line.username, self._login_identifier, loc=("username",))
        except InvalidInput as error:
            raise InvalidImportLine(("username", error.errors[0].message)) from None
        user_id = self._user_id(line.id)
        old_id = str(user_id) if self._ids is Ids.KEPT else line.id
        user = _new_user(line, user_id)
        new = NewUser(user, line.email.canonical, line.password_hash, profile)
        return ParsedLine(number, new, old_id)

    def _profile(
        self, members: dict[str, object]
    ) -> tuple[Mapping[str, object] | None, Sequence[tuple[str, str]]]:
        """Removes the member `profile`; returns its values, and its errors by field."""
        if self._profiles is None:
            return None, ()
        try:
            return self._profiles.new(members.pop("profile", {})).values, ()
        except InvalidInput as error:
            return None, profile_errors(error)

    def _user_id(self, text: str | None) -> UUID:
        if self._ids is Ids.NEW:
            if text is not None:
                raise InvalidImportLine(("id", "needs --keep-ids or --ids-out"))
        elif text is None:
            raise InvalidImportLine(("id", "is required with --keep-ids and --ids-out"))
        elif self._ids is Ids.KEPT:
            return _kept_id(text)
        if not self._new_ids:
            self._new_ids = new_ids(_IDS_AHEAD)
        return self._new_ids.pop()


def profile_errors(refusal: InvalidInput) -> Sequence[tuple[str, str]]:
    """Returns the errors of the own columns of a line: each field, and the reason."""
    return [
        (".".join(map(str, error.loc[1:])), _reason(error.code, error.message))
        for error in refusal.errors
    ]


def numbered_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yields the lines of `file` from its start with their numbers, without blank lines.

    A byte order mark at the start is not part of the first line. A line that is too long is cut
    just above `MAX_LINE`.
    """
    file.seek(0)
    if file.read(len(_BOM)) != _BOM:
        file.seek(0)
    number = 0
    while line := file.readline(MAX_LINE + 2):
        number += 1
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE)
        if line.strip() or len(line) > MAX_LINE:
            yield number, line.removesuffix(b"\n")


def _kept_id(text: str) -> UUID:
    if not _UUID.fullmatch(text):
        raise InvalidImportLine(("id", "must be a UUID to be kept: use --ids-out for other ids"))
    user_id = UUID(text)
    if user_id.int in _RESERVED_UUIDS:
        raise InvalidImportLine(("id", "is the nil or the max UUID, which stands for no account"))
    return user_id


def _field_error(details: ErrorDetails) -> tuple[str, str]:
    return ".".join(map(str, details["loc"])), _reason(details["type"], details["msg"])


def _reason(code: str, message: str) -> str:
    return "unknown field" if code == "extra_forbidden" else message


def _new_user(line: Line, user_id: UUID) -> User:
    at = now()
    return User(
        id=user_id,
        email=line.email.original,
        name=line.name,
        is_active=line.is_active,
        is_superuser=line.is_superuser,
        email_confirmed_at=line.email_confirmed,
        created_at=line.created_at or at,
        updated_at=at,
        locale=line.locale,
        username=None if line.username is None else line.username.original,
        roles=frozenset(line.roles),
    )
