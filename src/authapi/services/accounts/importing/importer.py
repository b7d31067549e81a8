"""Import of the accounts of another system, from a file of JSON lines.

All lines are validated first; if one is invalid, no account is created. The accounts are then
inserted in batches, each with its events in one transaction. An interrupted import can be repeated,
because lines with an address that already has an account are skipped. Memory use depends on the
number of lines only by their user names. No mail is sent.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO
from uuid import UUID

from authapi.clock import now
from authapi.domain.events import EventType
from authapi.errors import InvalidImportLine, InvalidInput, UsernameTaken
from authapi.services.accounts.importing.id_map import IdMap
from authapi.services.accounts.importing.lines import (
    Ids,
    LineParser,
    ParsedLine,
    numbered_lines,
    profile_errors,
)
from authapi.services.audit import Audit
from authapi.services.own_columns import OwnColumns, ProfileInput
from authapi.services.usernames import (
    ImportedUsernames,
    claim_imported,
    drop_claims,
    find_lost_claims,
)
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict
from authapi.storage.imports.seen import SeenLine, SeenLines
from authapi.storage.imports.sources import fastapi_users

_BATCH = 500
"""Accounts in one transaction. On SQLite, other writers wait for it."""
_BATCH_WITH_HOOKS = 20
"""The same, if a hook of the application runs for each account: a transaction has a time limit."""
_LINES_IN_A_ROW = 50
"""Lines that are parsed before the event loop gets a turn."""

Report = Callable[[int, str, str], None]
"""Gets each error of a line: the number of the line, the field (empty for errors of the whole line)
and the reason."""
OnProgress = Callable[[int, int | None], None]
"""Gets the number of lines that are done, and of all lines: None while the lines are validated."""
_LineError = tuple[int, str, str]
"""The arguments of a `Report`."""
_NAME_TAKEN = "belongs to another account, or did until recently"


@dataclass(frozen=True, slots=True)
class Summary:
    """The number of lines of an import, by result. Blank lines do not count."""

    lines: int
    added: int
    skipped: int
    """Lines with an address that already has an account, which is left unchanged."""
    refused: int
    """Invalid lines. If there are any, no account was added."""


class _Conflicts(Exception):
    """Ids, addresses, user names or unique own columns of lines belong to other accounts.

    Also if the database refuses another value of own columns.
    """

    def __init__(self, errors: Sequence[_LineError]) -> None:
        super().__init__()
        self.errors = errors


def lines_from_fastapi_users(
    url: str, table: str = "user", *, with_ids: bool = False
) -> Iterator[bytes]:
    """Yields a line for each account of a fastapi-users database, for `AccountImporter.run`.

    Raises ConfigurationError if `url` or `table` is invalid or the table cannot be read.
    """
    for account in fastapi_users(url, table, with_ids=with_ids):
        yield json.dumps(account, default=str).encode() + b"\n"


class AccountImporter:
    """Imports accounts. Superusers are only imported with `allow_superusers`.

    With `keep_ids`, each line has a UUID, which becomes the id of its account. With `id_map`, each
    line has an id of any kind, which is written there with the new id of its account. With
    `own_columns`, a line may have the member `profile`.
    """

    def __init__(
        self,
        database: Database,
        audit: Audit,
        settings: Settings,
        *,
        allow_superusers: bool = False,
        ids: Ids = Ids.NEW,
        id_map: IdMap | None = None,
        own_columns: OwnColumns | None = None,
    ) -> None:
        self._database = database
        self._audit = audit
        self._ids = ids
        self._id_map = id_map
        self._own_columns = own_columns
        self._parser = LineParser(
            settings.roles,
            login_identifier=settings.login_identifier,
            allow_superusers=allow_superusers,
            allow_reserved=settings.allow_reserved_addresses,
            ids=ids,
            profiles=None if own_columns is None else own_columns.models,
        )

    async def run(
        self,
        file: BinaryIO,
        report: Report,
        *,
        dry_run: bool = False,
        on_progress: OnProgress = lambda *_: None,
    ) -> Summary:
        """Validates all lines of `file`, and imports the accounts if every line is valid.

        `file` is read twice from its start, and must not change in between. `report` is called for
        each error of a line, `on_progress` after each batch of lines. A dry run only counts; it may
        count an address that occurs twice in the file twice. If another process takes a kept id or
        a user name during the import, or the database refuses a profile, the import ends with that
        line as refused, and the batches before stay imported.

        Raises StorageUnavailable if the database does not answer, ConfigurationError if the file
        of the ids or a temporary file cannot be written, and the errors of the hooks. The batches
        before stay imported.
        """
        lines, refused = await self._validate(file, report, on_progress)
        if refused:
            return Summary(lines=lines, added=0, skipped=0, refused=refused)
        read = added = 0
        remaining = (self._parser.parse(text, n) for n, text in numbered_lines(file))
        add = self._count_new if dry_run else self._add
        has_hooks = self._audit.has_hooks(EventType.ACCOUNT_IMPORTED)
        size = _BATCH_WITH_HOOKS if has_hooks and not dry_run else _BATCH
        following = await _next_batch(remaining, size)
        while batch := following:
            adding = asyncio.create_task(add(batch))
            try:
                # The next lines are parsed while the database works.
                following = await _next_batch(remaining, size)
            except BaseException:
                adding.cancel()
                await asyncio.wait({adding})
                raise
            try:
                added += await adding
            except _Conflicts as conflicts:
                refused = _report_conflicts(conflicts.errors, report)
                return Summary(lines=lines, added=added, skipped=read - added, refused=refused)
            read += len(batch)
            on_progress(read, lines)
        if self._id_map is not None:
            self._id_map.finish()
        return Summary(lines=lines, added=added, skipped=lines - added, refused=0)

    async def _validate(
        self, file: BinaryIO, report: Report, on_progress: OnProgress
    ) -> tuple[int, int]:
        # Returns the number of lines and of refused lines.
        lines = refused = 0
        batch: list[ParsedLine] = []
        names = ImportedUsernames()
        with nullcontext() if self._ids is Ids.NEW else SeenLines() as seen:
            for number, text in numbered_lines(file):
                lines += 1
                if lines % _BATCH == 0:
                    on_progress(lines, None)
                try:
                    line = self._parser.parse(text, number)
                    if seen is not None:
                        _require_unseen(line, seen)
                except InvalidImportLine as error:
                    refused += 1
                    for field, reason in error.field_errors:
                        report(number, field, reason)
                    continue
                if self._ids is Ids.KEPT or line.new.user.username is not None:
                    batch.append(line)
                if len(batch) == _BATCH:
                    refused += await self._report_taken(batch, names, report)
                    batch.clear()
        return lines, refused + await self._report_taken(batch, names, report)

    async def _report_taken(
        self, batch: Sequence[ParsedLine], names: ImportedUsernames, report: Report
    ) -> int:
        async with self._database.read() as store:
            taken = set(await names.find_taken(store, [line.new for line in batch]))
            errors = [
                (line.number, "username", _NAME_TAKEN)
                for line in batch
                if line.new.user.id in taken
            ]
            if self._ids is Ids.KEPT:
                errors += await self._conflicts(store, batch)
        return _report_conflicts(errors, report)

    async def _conflicts(self, store: Store, batch: Sequence[ParsedLine]) -> Sequence[_LineError]:
        # Returns the number of each line whose id or address belongs to another account. A reserved
        # address is skipped with any id.
        emails = {line.new.email for line in batch}
        owners = await store.users.find_owners({line.new.user.id for line in batch}, emails)
        email_of, id_of = dict(owners), {email: user_id for user_id, email in owners}
        errors = []
        for line in batch:
            user_id, email = line.new.user.id, line.new.email
            if id_of.get(email, user_id) != user_id:
                errors.append((line.number, "id", "is not the id of the account with this address"))
            elif email_of.get(user_id, email) != email:
                errors.append((line.number, "id", "is the id of an account with another address"))
        if errors:
            reserved = await store.email_tokens.find_reserved(emails, now=now())
            skipped = {line.number for line in batch if line.new.email in reserved}
            return [error for error in errors if error[0] not in skipped]
        return errors

    @retry_on_conflict
    async def _add(self, batch: Sequence[ParsedLine]) -> int:
        emails = {line.new.email for line in batch}
        async with self._database.transaction() as store:
            await store.plan_each_statement()
            await store.users.lock_addresses(*emails)
            claims = await self._claim_usernames(store, batch)
            added = await store.users.add_missing([line.new for line in batch])
            # After the insert, which has waited for transactions that free one of these addresses.
            reserved = await store.email_tokens.find_reserved(emails, now=now())
            for new in (line.new for line in batch):
                if new.email in reserved and new.user.id in added:
                    added.remove(new.user.id)
                    await store.users.delete(new.user.id)
            if self._ids is Ids.KEPT:
                others = [line for line in batch if line.new.user.id not in added]
                if others and (conflicts := await self._conflicts(store, others)):
                    raise _Conflicts(conflicts)
            await drop_claims(store, claims, except_for=added)
            for line in batch:
                if line.new.user.id in added:
                    await self._add_profile(store, line)
            await self._audit.record_each(store, EventType.ACCOUNT_IMPORTED, sorted(added))
            if self._id_map is not None:
                # Before the commit, so that no account is without its row.
                self._id_map.write(
                    (line.old_id, line.new.user.id)
                    for line in batch
                    if line.old_id is not None and line.new.user.id in added
                )
        if self._id_map is not None:
            self._id_map.commit()
        return len(added)

    async def _add_profile(self, store: Store, line: ParsedLine) -> None:
        new = line.new
        if self._own_columns is None or new.profile is None:
            return
        try:
            await self._own_columns.add(store, new.user, ProfileInput(None, new.profile))
        except InvalidInput as refusal:
            errors = [(line.number, *error) for error in profile_errors(refusal)]
            raise _Conflicts(errors) from None

    async def _claim_usernames(
        self, store: Store, batch: Sequence[ParsedLine]
    ) -> Mapping[str, UUID]:
        try:
            return await claim_imported(store, [line.new for line in batch])
        except UsernameTaken:
            lost = await find_lost_claims(store, [line.new for line in batch])
            raise _Conflicts(
                [
                    (line.number, "username", _NAME_TAKEN)
                    for line in batch
                    if line.new.user.id in lost
                ]
            ) from None

    async def _count_new(self, batch: Sequence[ParsedLine]) -> int:
        emails = {line.new.email for line in batch}
        async with self._database.read() as store:
            reserved = await store.email_tokens.find_reserved(emails, now=now())
            return len(emails - reserved - await store.users.find_existing_emails(emails))


async def _next_batch(lines: Iterator[ParsedLine], size: int) -> Sequence[ParsedLine]:
    batch: list[ParsedLine] = []
    for line in islice(lines, size):
        batch.append(line)
        if len(batch) % _LINES_IN_A_ROW == 0:
            await asyncio.sleep(0)
    return batch


def _require_unseen(line: ParsedLine, seen: SeenLines) -> None:
    if line.old_id is None:
        return
    earlier = seen.add(SeenLine(line.old_id, line.new.email, line.number))
    if earlier is None:
        return
    if earlier.id != line.old_id:
        reason = f"is the address of line {earlier.line}, which has another id"
        raise InvalidImportLine(("email", reason))
    if earlier.email != line.new.email:
        reason = f"is the id of line {earlier.line}, which has another address"
        raise InvalidImportLine(("id", reason))


def _report_conflicts(errors: Sequence[_LineError], report: Report) -> int:
    # Returns the number of lines.
    for error in errors:
        report(*error)
    return len({number for number, *_ in errors})
