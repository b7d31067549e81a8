"""Accounts of other systems, brought in from JSON lines: all of them, or none.

Every line is looked at before the first account is made. Then they are made in batches, each with
its events in one transaction; a run that breaks off in the middle is begun again, for an address
that somebody has is passed over. Memory does not grow with the number of lines. No mail is sent.
"""

from collections.abc import Callable, Iterator, Sequence
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
from authapi.crypto.passwords import PasswordHash, foreign_hash
from authapi.errors import HashRefused, InvalidInput, LineRefused
from authapi.identity import EventType, User
from authapi.services.addresses import EmailAddress, parse_email
from authapi.services.audit import Audit
from authapi.services.names import is_name, is_printable
from authapi.settings import Settings
from authapi.settings.mail import is_locale
from authapi.storage import Database
from authapi.storage.conflicts import retried
from authapi.storage.tables.users import Newcomer

MAX_LINE = 16_384
"""Bytes of one line, without its end."""
_BATCH = 200
"""Accounts in one transaction, which other writers wait for on SQLite."""
_OURS = "refused"
"""What pydantic calls the rules that are not its own; nobody is told."""
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


def _address(value: object) -> EmailAddress:
    try:
        return parse_email(value if isinstance(value, str) else "")
    except InvalidInput as refusal:
        raise _wrong(refusal.errors[0].message) from None


def _hash(value: object) -> PasswordHash | None:
    if value is None:
        return None
    try:
        return foreign_hash(value if isinstance(value, str) else "")
    except HashRefused as refusal:
        raise _wrong(str(refusal)) from None


def _name(value: str) -> str:
    if not is_printable(value):
        raise _wrong("must not hold control characters")
    if not is_name(value):
        raise _wrong("must have a character that can be seen")
    return value


def _locale(value: str) -> str:
    if not is_locale(value):
        raise _wrong("must be a language tag such as en, ko or pt-BR")
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
        message = "must be a time since 1970 that is over, with its zone: 2026-01-31T12:00:00Z"
        raise _wrong(message) from None


def _confirmed(value: object) -> datetime | None:
    if isinstance(value, bool):
        return now() if value else None
    return _time(value)


def _wrong(reason: str) -> PydanticCustomError:
    return PydanticCustomError(_OURS, "{reason}", {"reason": reason})


_Moment = Annotated[datetime, BeforeValidator(_time)]
_Role = Annotated[str, Field(max_length=40)]


class _Line(BaseModel):
    """What a line may say of an account, and what is so where it says nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)

    email: Annotated[EmailAddress, PlainValidator(_address)]
    password_hash: Annotated[PasswordHash | None, PlainValidator(_hash)] = None
    name: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_name)] | None = None
    email_confirmed: Annotated[datetime | None, PlainValidator(_confirmed)] = None
    is_active: bool = True
    is_superuser: bool = False
    locale: Annotated[str, AfterValidator(_locale)] | None = None
    roles: Annotated[list[_Role], Field(max_length=20)] = []
    created_at: _Moment | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of the lines of an import."""

    lines: int
    added: int
    skipped: int
    """Of which somebody has the address, who stays as they are."""
    refused: int
    """If there are any, nothing was added."""


class Importing:
    """One import. Superusers are only made if that is said."""

    def __init__(
        self,
        database: Database,
        audit: Audit,
        settings: Settings,
        *,
        allow_superusers: bool = False,
    ) -> None:
        self._database = database
        self._audit = audit
        self._roles = settings.roles
        self._allow_superusers = allow_superusers

    async def run(
        self,
        file: BinaryIO,
        refused: Callable[[int, str, str], None],
        *,
        dry_run: bool = False,
    ) -> Summary:
        """Look at every line of `file`, and make the accounts if none is refused.

        `file` is read twice, from its beginning, and must not change meanwhile. `refused` is told
        the number of a line, the field, if it is one that is wrong, and why. A dry run says what
        would be added, counting an address twice that is in two lines far apart.
        """
        lines = bad = 0
        for lines, line in enumerate(_lines(file), 1):
            try:
                self.read(line)
            except LineRefused as refusal:
                bad += 1
                for field, reason in refusal.faults:
                    refused(lines, field, reason)
        if bad:
            return Summary(lines=lines, added=0, skipped=0, refused=bad)
        added, rest = 0, _lines(file)
        make = self._would_add if dry_run else self._add
        while batch := [self.read(line) for line in islice(rest, _BATCH)]:
            added += await make(batch)
        return Summary(lines=lines, added=added, skipped=lines - added, refused=0)

    def read(self, line: bytes) -> Newcomer:
        """The account that a line describes. Raises LineRefused, with all that is wrong."""
        if len(line) > MAX_LINE:
            raise LineRefused(("", f"is longer than {MAX_LINE} bytes"))
        try:
            members = strict_json.loads(line, max_depth=3)
            if not isinstance(members, dict):
                raise ValueError
            found = _Line.model_validate(members)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False)
            raise LineRefused(*map(_fault, problems)) from None
        except ValueError:
            reason = "is not one JSON object in UTF-8 that names each member once"
            raise LineRefused(("", reason)) from None
        if found.is_superuser and not self._allow_superusers:
            reason = "superusers are only imported with --allow-superusers"
            raise LineRefused(("is_superuser", reason))
        if not self._roles.keys() >= set(found.roles):
            raise LineRefused(("roles", "names a role that AUTHAPI_ROLES does not have"))
        return _newcomer(found)

    @retried
    async def _add(self, batch: Sequence[Newcomer]) -> int:
        emails = {newcomer.email for newcomer in batch}
        async with self._database.transaction() as store:
            await store.users.wait_for_addresses(*emails)
            added = await store.users.add_missing(batch)
            # Asked after the insert, which waits for accounts that leave one of these addresses.
            reserved = await store.one_time_secrets.reserved(emails, now=now())
            for newcomer in batch:
                if newcomer.email in reserved and newcomer.user.id in added:
                    added.remove(newcomer.user.id)
                    await store.users.delete(newcomer.user.id)
            await self._audit.record_each(store, EventType.ACCOUNT_IMPORTED, sorted(added))
        return len(added)

    async def _would_add(self, batch: Sequence[Newcomer]) -> int:
        emails = {newcomer.email for newcomer in batch}
        async with self._database.read() as store:
            reserved = await store.one_time_secrets.reserved(emails, now=now())
            return len(emails - reserved - await store.users.taken(emails))


def _fault(problem: ErrorDetails) -> tuple[str, str]:
    is_extra = problem["type"] == "extra_forbidden"
    reason = "is nothing that a line says of an account" if is_extra else problem["msg"]
    return ".".join(map(str, problem["loc"])), reason


def _newcomer(line: _Line) -> Newcomer:
    at = now()
    user = User(
        id=new_id(),
        email=line.email.given,
        name=line.name,
        is_active=line.is_active,
        is_superuser=line.is_superuser,
        email_confirmed_at=line.email_confirmed,
        created_at=line.created_at or at,
        updated_at=at,
        locale=line.locale,
        roles=frozenset(line.roles),
    )
    return Newcomer(user, line.email.canonical, line.password_hash)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    # Of a line without end no more is held than shows that it is too long.
    file.seek(0)
    while line := file.readline(MAX_LINE + 2):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE)
        yield line.removesuffix(b"\n")
