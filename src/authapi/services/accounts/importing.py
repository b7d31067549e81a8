"""Import of the accounts of another system, from a file of JSON lines.

All lines are validated first; if one is invalid, no account is created. The accounts are then
inserted in batches, each with its events in one transaction. An interrupted import can be repeated,
because lines with an address that already has an account are skipped. Memory use does not depend on
the number of lines. No mail is sent.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, BinaryIO

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from authapi.clock import now, parse_time
from authapi.crypto import strict_json
from authapi.crypto.ids import new_id
from authapi.crypto.passwords import PasswordHash, imported_hash
from authapi.domain.display_names import is_display_name, is_single_line
from authapi.domain.email_address import EmailAddress, parse_email
from authapi.domain.events import EventType
from authapi.domain.user import User
from authapi.errors import ConfigurationError, InvalidImportLine, InvalidInput, UnsupportedHash
from authapi.services.audit import Audit
from authapi.services.own_columns import OwnColumns, ProfileInput, ProfileModels
from authapi.settings import Settings
from authapi.settings.mail import is_locale
from authapi.storage import Database, Store
from authapi.storage.conflicts import retry_on_conflict
from authapi.storage.import_sources import fastapi_users
from authapi.storage.tables.users import NewUser

MAX_LINE = 16_384
"""Bytes of one line, without the line feed."""
_BATCH = 200
"""Accounts in one transaction. On SQLite, other writers wait for it."""
_BATCH_WITH_HOOKS = 20
"""The same, if a hook of the application runs for each account: a transaction has a time limit."""
_MAX_PROFILE_DEPTH = 20
"""Levels of JSON in a line with own columns."""
_ERROR_TYPE = "invalid"
"""The pydantic error type of the rules below. It is not shown to users."""
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


def _address(value: object) -> EmailAddress:
    try:
        return parse_email(value if isinstance(value, str) else "")
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


class _Line(BaseModel):
    """The members of a line, with their defaults."""

    model_config = ConfigDict(extra="forbid", strict=True)

    email: Annotated[EmailAddress, PlainValidator(_address)]
    password_hash: Annotated[PasswordHash | None, PlainValidator(_hash)] = None
    name: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_name)] | None = None
    email_confirmed: Annotated[datetime | None, PlainValidator(_confirmed_at)] = None
    is_active: bool = True
    is_superuser: bool = False
    locale: Annotated[str, AfterValidator(_locale)] | None = None
    roles: Annotated[list[_Role], Field(max_length=20)] = []
    created_at: _Time | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """The number of lines of an import, by result."""

    lines: int
    added: int
    skipped: int
    """Lines with an address that already has an account, which is left unchanged."""
    refused: int
    """Invalid lines. If there are any, no account was added."""


def lines_from_fastapi_users(url: str) -> Iterator[bytes]:
    """Yields a line for each account of a fastapi-users database, for `AccountImporter.run`.

    Raises ConfigurationError if `url` is invalid or the table of users cannot be read.
    """
    for account in fastapi_users(url):
        yield json.dumps(account, default=str).encode() + b"\n"


class AccountImporter:
    """Imports accounts. Superusers are only imported with `allow_superusers`.

    With `own_columns`, a line may have the member `profile`.
    """

    def __init__(
        self,
        database: Database,
        audit: Audit,
        settings: Settings,
        *,
        allow_superusers: bool = False,
        own_columns: OwnColumns | None = None,
    ) -> None:
        self._database = database
        self._audit = audit
        self._roles = settings.roles
        self._allow_superusers = allow_superusers
        self._own_columns = own_columns

    async def run(
        self,
        file: BinaryIO,
        report: Callable[[int, str, str], None],
        *,
        dry_run: bool = False,
    ) -> Summary:
        """Validates all lines of `file`, and imports the accounts if every line is valid.

        `file` is read twice from its start, and must not change in between. `report` is called for
        each error of a line, with the number of the line, the field (empty for errors of the whole
        line) and the reason. A dry run only counts; it may count an address that occurs twice in
        the file twice.

        Raises StorageUnavailable if the database does not answer, ConfigurationError if it refuses
        a profile, and the errors of the hooks. The batches before stay imported.
        """
        lines = invalid = 0
        for lines, line in enumerate(_lines(file), 1):
            try:
                self.read(line)
            except InvalidImportLine as error:
                invalid += 1
                for field, reason in error.field_errors:
                    report(lines, field, reason)
        if invalid:
            return Summary(lines=lines, added=0, skipped=0, refused=invalid)
        added, remaining = 0, _lines(file)
        add = self._count_new if dry_run else self._add
        has_hooks = self._audit.has_hooks(EventType.ACCOUNT_IMPORTED)
        size = _BATCH_WITH_HOOKS if has_hooks and not dry_run else _BATCH
        while batch := [self.read(line) for line in islice(remaining, size)]:
            added += await add(batch)
        return Summary(lines=lines, added=added, skipped=lines - added, refused=0)

    def read(self, line: bytes) -> NewUser:
        """Parses a line. Raises InvalidImportLine with all errors of the line."""
        if len(line) > MAX_LINE:
            raise InvalidImportLine(("", f"is longer than {MAX_LINE} bytes"))
        wrong: Sequence[tuple[str, str]] = ()
        try:
            members = strict_json.loads(line, max_depth=self._max_depth)
            if not isinstance(members, dict):
                raise ValueError
            profile, wrong = self._profile(members)
            parsed = _Line.model_validate(members)
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
            raise InvalidImportLine(*map(_field_error, details), *wrong) from None
        except ValueError:
            reason = "must be one JSON object in UTF-8 without repeated members"
            raise InvalidImportLine(("", reason)) from None
        if wrong:
            raise InvalidImportLine(*wrong)
        if parsed.is_superuser and not self._allow_superusers:
            reason = "superusers are only imported with --allow-superusers"
            raise InvalidImportLine(("is_superuser", reason))
        if not self._roles.keys() >= set(parsed.roles):
            reason = "includes a role that AUTHAPI_ROLES does not define"
            raise InvalidImportLine(("roles", reason))
        return NewUser(_new_user(parsed), parsed.email.canonical, parsed.password_hash, profile)

    @property
    def _max_depth(self) -> int:
        return 3 if self._models is None else _MAX_PROFILE_DEPTH

    @property
    def _models(self) -> ProfileModels | None:
        return None if self._own_columns is None else self._own_columns.models

    def _profile(
        self, members: dict[str, object]
    ) -> tuple[Mapping[str, object] | None, Sequence[tuple[str, str]]]:
        """Removes the member `profile`; returns its values, and its errors by field."""
        if self._models is None:
            return None, ()
        try:
            return self._models.new(members.pop("profile", {})).values, ()
        except InvalidInput as error:
            return None, [
                (".".join(map(str, item.loc[1:])), _reason(item.code, item.message))
                for item in error.errors
            ]

    @retry_on_conflict
    async def _add(self, batch: Sequence[NewUser]) -> int:
        emails = {new.email for new in batch}
        async with self._database.transaction() as store:
            await store.users.lock_addresses(*emails)
            added = await store.users.add_missing(batch)
            # After the insert, which has waited for transactions that free one of these addresses.
            reserved = await store.email_tokens.find_reserved(emails, now=now())
            for new in batch:
                if new.email in reserved and new.user.id in added:
                    added.remove(new.user.id)
                    await store.users.delete(new.user.id)
            for new in batch:
                if new.profile is not None and new.user.id in added:
                    await self._add_profile(store, new)
            await self._audit.record_each(store, EventType.ACCOUNT_IMPORTED, sorted(added))
        return len(added)

    async def _add_profile(self, store: Store, new: NewUser) -> None:
        if self._own_columns is None or new.profile is None:
            return
        try:
            await self._own_columns.add(store, new.user, ProfileInput(None, new.profile))
        except InvalidInput as error:
            # The refusal does not say which line it is.
            details = "; ".join(f"{item.loc[-1]} {item.message}" for item in error.errors)
            raise ConfigurationError(f"the profile of {new.email}: {details}") from None

    async def _count_new(self, batch: Sequence[NewUser]) -> int:
        emails = {new.email for new in batch}
        async with self._database.read() as store:
            reserved = await store.email_tokens.find_reserved(emails, now=now())
            return len(emails - reserved - await store.users.find_existing_emails(emails))


def _field_error(details: ErrorDetails) -> tuple[str, str]:
    return ".".join(map(str, details["loc"])), _reason(details["type"], details["msg"])


def _reason(code: str, message: str) -> str:
    return "unknown field" if code == "extra_forbidden" else message


def _new_user(line: _Line) -> User:
    at = now()
    return User(
        id=new_id(),
        email=line.email.original,
        name=line.name,
        is_active=line.is_active,
        is_superuser=line.is_superuser,
        email_confirmed_at=line.email_confirmed,
        created_at=line.created_at or at,
        updated_at=at,
        locale=line.locale,
        roles=frozenset(line.roles),
    )


def _lines(file: BinaryIO) -> Iterator[bytes]:
    # Too long a line is cut just above the limit, so that memory use stays bounded.
    file.seek(0)
    while line := file.readline(MAX_LINE + 2):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE)
        yield line.removesuffix(b"\n")
