"""A backup is restored, and what had ended since is live again: the commands end it once more."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.secrets import hash_secret, new_secret
from authapi.domain.email_address import parse_email
from authapi.domain.email_token import Purpose
from authapi.domain.events import EventFilter, EventType
from authapi.domain.factors.values import LoginTicket, TicketPurpose
from authapi.domain.session import SessionKind
from authapi.errors import InvalidCredentials, InvalidGrant, InvalidOneTimeSecret
from authapi.services import Services
from authapi.services.restores import AllSessions, EventReplay, Replayed, read_events
from authapi.storage.snapshots.postgres import PostgresSnapshot
from authapi.storage.snapshots.sqlite import SQLiteSnapshot
from authapi.testing import PASSWORD
from authapi.web.answers.event_files import EVENT_FILE_FORMATS
from tests.services.operations import Harness, Person, open_harness

NEW_PASSWORD = "another correct horse battery"


def backup(url: str) -> Callable[[], None]:
    """Backs the database up; returns a function that restores it."""
    if url.startswith("sqlite"):
        return SQLiteSnapshot(Path(url.removeprefix("sqlite:///"))).restore
    with psycopg.connect(url) as connection:
        connection.execute("DROP SCHEMA IF EXISTS authapi_test_rows CASCADE")
    snapshot = PostgresSnapshot(url)

    def restore() -> None:
        snapshot.restore()
        snapshot.close()
        with psycopg.connect(url) as connection:
            connection.execute("DROP SCHEMA authapi_test_rows CASCADE")

    return restore


async def live(services: Services, person: Person) -> set[str]:
    """Returns which credentials of a person work. Refreshes nothing."""
    works = set()
    for kind, secret in ((SessionKind.SESSION, person.cookie), (SessionKind.TOKEN, person.opaque)):
        services.identity_cache.clear()
        found = await services.sessions.identify_by_secret(
            hash_secret(secret), kind, strategy=kind.value
        )
        if found is not None and found.user.is_active:
            works.add(kind.value)
    if await services.tokens.personal.list_of(person.id):
        works.add("personal")
    try:
        await services.accounts.authentication.authenticate(
            parse_email(person.user.email), PASSWORD
        )
    except InvalidCredentials:
        pass
    else:
        works.add("password")
    return works


ALL = {"session", "token", "personal", "password"}


async def is_link_live(services: Services, link: str) -> bool:
    try:
        await services.accounts.mailed_links.find(link, Purpose.RESET)
    except InvalidOneTimeSecret:
        return False
    return True


async def export(services: Services, path: Path, form: str) -> None:
    chosen = EVENT_FILE_FORMATS[form]
    parts = [part async for part in services.audit.export(EventFilter(), chosen.write)]
    text = chosen.head + "".join(parts)
    path.write_text(text, encoding="utf-8", newline="")  # noqa: ASYNC240  # a small file


async def reapply(services: Services, path: Path, since: datetime) -> Replayed:
    events, bad = read_events(path, since=since)
    assert bad == []
    replay = EventReplay(services.database, services.audit, services.hooks, services.settings)
    return await replay.run(events, since=since)


async def count(services: Services, kind: EventType, user_id: UUID | None = None) -> int:
    async with services.database.read() as store:
        found = await store.events.search(
            EventFilter(type=kind, user_id=user_id), before=None, limit=100
        )
    return len(found)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
async def test_a_restored_backup_is_brought_up_to_date(
    database_url: str, tmp_path: Path, form: str
) -> None:
    async with open_harness(database_url) as harness:
        services = harness.services
        people = {
            name: await harness.person()
            for name in (
                *("logged out", "deactivated", "deleted", "changed", "reset", "ended", "idle"),
                *("back", "demoted"),
            )
        }
        administration = services.accounts.administration
        await administration.change(people["demoted"].id, {"is_superuser": True})
        link = await harness.link(people["reset"], Purpose.RESET)
        stolen = people["idle"].refresh
        restore, since = backup(database_url), now()

        await services.sessions.logout(people["logged out"].caller)
        await administration.change(people["deactivated"].id, {"is_active": False})
        await administration.change(people["back"].id, {"is_active": False})
        await administration.change(people["back"].id, {"is_active": True})
        await administration.change(people["demoted"].id, {"is_superuser": False})
        await services.accounts.deletion.delete(people["deleted"].id)
        await services.accounts.passwords.set(people["changed"].id, NEW_PASSWORD)
        await services.accounts.passwords.reset(link, NEW_PASSWORD)
        await services.sessions.end_all(people["ended"].id)
        await services.tokens.refresh.refresh(stolen)
        path = tmp_path / f"events.{form}"
        await export(services, path, form)

        restore()
        # The experiment: everything that had ended is live again, the used link too.
        assert {name: await live(services, person) for name, person in people.items()} == (
            dict.fromkeys(people, ALL)
        )
        assert await is_link_live(services, link)

        result = await reapply(services, path, since)
        assert result.refused == []
        found = {name: await live(services, person) for name, person in people.items()}
        assert found == {
            "logged out": ALL - {"session"},
            "deactivated": set(),
            "deleted": set(),
            "changed": set(),
            "reset": set(),
            "ended": {"password"},
            "idle": ALL,
            "back": {"password"},
            "demoted": {"password"},
        }
        assert not await is_link_live(services, link)
        async with services.database.read() as store:
            demoted = await store.users.find(people["demoted"].id)
            assert demoted is not None
            assert not demoted.is_superuser
            assert await store.users.find(people["deleted"].id) is None
        # The owner of a changed password chooses one, and logs in.
        again = await harness.link(people["changed"], Purpose.RESET)
        await services.accounts.passwords.reset(again, NEW_PASSWORD)
        proved = await services.accounts.authentication.authenticate(
            parse_email(people["changed"].user.email), NEW_PASSWORD
        )
        assert proved.user.id == people["changed"].id

        # Repeated, it changes nothing: the new password stays.
        repeated = await reapply(services, path, since)
        assert repeated.applied.total() == 0
        assert repeated.known + repeated.without_account == result.applied.total()
        await services.accounts.authentication.authenticate(
            parse_email(people["changed"].user.email), NEW_PASSWORD
        )
        assert await count(services, EventType.EVENTS_REAPPLIED) == 2
        assert await count(services, EventType.ACCOUNT_DEACTIVATED, people["deactivated"].id) == 1


async def a_ticket(harness: Harness, person: Person) -> None:
    at = now()
    ticket = LoginTicket(
        id=new_id(),
        user_id=person.id,
        purpose=TicketPurpose.SECOND_FACTOR,
        strategy="session",
        remember=False,
        scopes=None,
        amr=("pwd",),
        credentials_version=person.version,
        attempts=0,
        created_at=at,
        expires_at=at + timedelta(minutes=5),
    )
    async with harness.services.database.transaction() as store:
        await store.users.lock(person.id)
        await store.login_tickets.add(ticket, hash_secret(new_secret()), browser=None)


async def rows(services: Services) -> dict[str, int]:
    """Returns the numbers of rows of what ends."""
    async with services.database.read() as store:
        found = {}
        tables = store.tables
        for table in (
            *(tables.sessions, tables.refresh_families, tables.email_tokens),
            *(tables.login_tickets, tables.outbox),
        ):
            query = table.select().with_only_columns(table.c[0])
            found[table.name] = len((await store.connection.execute(query)).all())
    return found


async def test_everything_ends_without_a_false_alarm(database_url: str) -> None:
    async with open_harness(database_url) as harness:
        services = harness.services
        one, two = await harness.person(), await harness.person()
        link = await harness.link(two, Purpose.RESET)
        await harness.link(one, Purpose.REVERT_EMAIL_CHANGE)
        restore = backup(database_url)
        newer = (await services.tokens.refresh.refresh(one.refresh)).refresh_token
        newer = (await services.tokens.refresh.refresh(newer)).refresh_token

        restore()
        await a_ticket(harness, one)
        await services.accounts.administration.send_reset_link(two.id)
        assert await live(services, one) == await live(services, two) == ALL
        steps: list[int] = []
        ended = await AllSessions(services.database, services.audit).end(
            on_progress=lambda done: steps.append(done.sessions)
        )
        assert set((await rows(services)).values()) == {0}
        assert ended.sessions == 8
        assert ended.one_time_secrets == 3
        assert ended.outbox_entries >= 1
        assert steps
        assert await live(services, one) == await live(services, two) == {"password"}
        assert not await is_link_live(services, link)
        for token in (one.refresh, newer):
            with pytest.raises(InvalidGrant):
                await services.tokens.refresh.refresh(token)
        assert await count(services, EventType.REFRESH_REUSE) == 0
        assert await count(services, EventType.ALL_SESSIONS_ENDED) == 1

        # Logins since then are not touched by a run for what is older.
        moment = now()
        await harness.create_session(replace(one.login, auth_time=now()), SessionKind.JWT)
        again = await AllSessions(services.database, services.audit).end(before=moment)
        assert (again.sessions, again.one_time_secrets) == (0, 0)
        assert (await rows(services))[f"{services.database.tables.sessions.name}"] == 1


async def test_tokens_are_kept(database_url: str) -> None:
    async with open_harness(database_url) as harness:
        services = harness.services
        one = await harness.person()
        every = AllSessions(services.database, services.audit)
        assert await every.count() == (3, 1)
        assert await every.count(keep_tokens=True) == (3, 0)
        assert await every.count(before=datetime(2000, 1, 1, tzinfo=UTC)) == (0, 0)
        await every.end(keep_tokens=True)
        assert await live(services, one) == {"personal", "password"}


async def test_every_process_hears_of_the_ends(database_url: str) -> None:
    async with open_harness(database_url) as harness:
        services = harness.services
        people = [await harness.person() for _ in range(3)]
        changed: set[UUID] = set()
        notify = services.database.notifications.notify

        async def record(connection: object, users: set[UUID]) -> None:
            changed.update(users)
            await notify(connection, users)  # type: ignore[arg-type]  # passed on

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(services.database.notifications, "notify", record)
            await AllSessions(services.database, services.audit).end()
        assert changed == {person.id for person in people}


async def test_a_run_that_was_interrupted_goes_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authapi.services.restores.ending._ACCOUNTS", 1)
    async with open_harness(database_url) as harness:
        services = harness.services
        for _ in range(3):
            await harness.person()
        every = AllSessions(services.database, services.audit)

        def interrupt(_: object) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await every.end(on_progress=interrupt)
        assert await every.count() == (6, 2)
        assert (await every.end()).sessions == 8
        assert await every.count() == (0, 0)
