"""Refresh tokens: rotation, the grace period, and reuse detection."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
import time_machine
from sqlalchemy import event
from starlette.requests import HTTPConnection

from authapi.crypto.refresh_tokens import RefreshToken, new_refresh_token, parse_refresh_token
from authapi.domain.email_address import parse_email
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.errors import InvalidCredential, InvalidGrant, InvalidScope
from authapi.services import Services
from authapi.settings import Settings
from authapi.strategies.jwt import JWTStrategy
from authapi.testing import PASSWORD
from tests.storage.rows import in_background, sql

START = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
SCOPES = {"a": "A", "b": "B"}


@dataclass
class Harness:
    """Running services, and a user who logs in with `jwt`."""

    services: Services
    clock: time_machine.Traveller
    alice: User
    url: str

    async def login(self) -> tuple[UUID, str, str]:
        """Log in; return the id of the session, its access token and its first refresh token."""

        proved = await self.services.accounts.authentication.authenticate(
            parse_email(self.alice.email), PASSWORD
        )
        login = self.services.logins.complete_at_once(proved)
        connection = HTTPConnection({"type": "http", "headers": [], "client": None})
        issued = await JWTStrategy(self.services).issue(login, connection)
        return (
            issued.session_id,
            str(issued.body["access_token"]),
            str(issued.body["refresh_token"]),
        )

    async def refresh(self, text: str, **options: Any) -> str:
        return (await self.services.tokens.refresh.refresh(text, **options)).refresh_token

    async def assert_refused(self, text: str) -> None:
        with pytest.raises(InvalidGrant) as caught:
            await self.services.tokens.refresh.refresh(text)
        assert type(caught.value) is InvalidGrant
        assert str(caught.value) == InvalidGrant.title

    def rows(self, what: str) -> list[Any]:
        return [row[0] for row in sql(self.url, what)]

    @property
    def families(self) -> int:
        return len(self.rows("SELECT session_id FROM authapi_refresh_families"))

    @property
    def sessions(self) -> int:
        return len(self.rows("SELECT id FROM authapi_sessions"))

    @property
    def reuses(self) -> int:
        return len(self.rows("SELECT id FROM authapi_events WHERE type = 'refresh_reuse'"))


@asynccontextmanager
async def open_harness(url: str, **settings: Any) -> AsyncIterator[Harness]:

    with time_machine.travel(START, tick=False) as clock:
        services = Services.build(Settings(database_url=url, scopes=SCOPES, **settings))  # type: ignore[arg-type]
        await services.start()
        try:
            alice = await services.accounts.registration.create(
                parse_email("alice@example.com"), PASSWORD
            )
            yield Harness(services, clock, alice, url)
        finally:
            await services.stop()


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[Harness]:
    async with open_harness(database_url) as found:
        yield found


async def test_each_refresh_token_is_used_once(harness: Harness) -> None:
    session_id, _, token = await harness.login()
    seen = [token]
    for _ in range(5):
        harness.clock.shift(MINUTE)
        renewed = await harness.services.tokens.refresh.refresh(seen[-1])
        assert (renewed.session.id, renewed.user.id) == (session_id, harness.alice.id)
        assert renewed.scopes == {"a", "b"}
        assert renewed.at == START + MINUTE * len(seen)
        seen.append(renewed.refresh_token)
    assert len(set(seen)) == 6
    assert (harness.families, harness.sessions, harness.reuses) == (1, 1, 0)


async def test_the_row_contains_no_token_and_no_means_to_derive_one(harness: Harness) -> None:
    _, _, first = await harness.login()
    second = await harness.refresh(first)
    [row] = sql(harness.url, "SELECT * FROM authapi_refresh_families")
    for value in row:
        if isinstance(value, bytes | memoryview):
            data = bytes(value)
            for token in (first, second):
                parsed = parse_refresh_token(token)
                assert parsed
                assert parsed.secret not in data
                assert parsed.family not in data
                assert token.encode() not in data


async def test_a_repeated_refresh_within_the_grace_period_gets_the_same_successor(
    harness: Harness,
) -> None:
    _, _, first = await harness.login()
    second = await harness.refresh(first)
    for _ in range(3):
        harness.clock.shift(10 * SECOND)
        assert await harness.refresh(first) == second, "the same successor"
    assert await harness.refresh(second) != second
    assert (harness.families, harness.sessions, harness.reuses) == (1, 1, 0)


async def test_reuse_after_the_grace_period_ends_the_session(harness: Harness) -> None:
    session_id, access, first = await harness.login()
    await harness.login()
    second = await harness.refresh(first)
    harness.clock.shift(30 * SECOND + timedelta(microseconds=1))
    await harness.assert_refused(first)
    await harness.assert_refused(second)
    await harness.assert_refused(first)
    assert (harness.families, harness.sessions, harness.reuses) == (1, 1, 1), (
        "the other session lives on"
    )
    assert session_id not in [
        session.id for session in await harness.services.sessions.list_for_user(harness.alice.id)
    ]
    [told] = [
        item
        for item in await harness.services.audit.page(harness.alice.id, before=None, limit=50)
        if item.type == "refresh_reuse"
    ]
    assert (told.session_id, told.strategy, told.outcome) == (session_id, "jwt", "refused")
    assert await authenticate_bearer(harness, access) is None, "its access token has ended too"


async def test_an_older_token_is_reuse_even_within_the_grace_period(harness: Harness) -> None:
    _, _, first = await harness.login()
    second = await harness.refresh(first)
    third = await harness.refresh(second)
    await harness.assert_refused(first)
    for token in (second, third):
        await harness.assert_refused(token)
    assert (harness.families, harness.sessions, harness.reuses) == (0, 0, 1)


async def test_a_much_older_token_is_detected_as_reuse(harness: Harness) -> None:
    _, _, token = await harness.login()
    chain = [token]
    for _ in range(20):
        chain.append(await harness.refresh(chain[-1]))
    await harness.assert_refused(chain[3])
    await harness.assert_refused(chain[-1])
    assert harness.reuses == 1


async def test_an_unknown_token_ends_nothing(harness: Harness) -> None:
    _, _, token = await harness.login()
    parsed = parse_refresh_token(token)
    assert parsed
    for text in ("", "x", token[:-1], token + "A", "aat_" + token[4:], "\ud800", "art_" + "é" * 70):
        await harness.assert_refused(text)

    stranger = new_refresh_token()
    await harness.assert_refused(stranger.text)
    await harness.assert_refused(RefreshToken(stranger.family, parsed.secret).text)
    assert (harness.families, harness.sessions, harness.reuses) == (1, 1, 0)
    await harness.refresh(token)


async def test_theft_within_the_grace_period_is_detected_later(harness: Harness) -> None:
    _, _, first = await harness.login()
    second = await harness.refresh(first)
    assert await harness.refresh(first) == second, "the thief came within the grace period"
    harness.clock.shift(MINUTE)
    await harness.refresh(second)
    harness.clock.shift(MINUTE)
    await harness.assert_refused(second)
    assert (harness.sessions, harness.reuses) == (0, 1)


async def test_scopes_may_only_narrow_and_the_session_keeps_its_own(harness: Harness) -> None:
    _, _, token = await harness.login()
    for asked in ({"c"}, {"a", "c"}):
        with pytest.raises(InvalidScope):
            await harness.services.tokens.refresh.refresh(token, scopes=asked)
    renewed = await harness.services.tokens.refresh.refresh(token, scopes={"a"})
    assert renewed.scopes == {"a"}
    again = await harness.services.tokens.refresh.refresh(token, scopes={"b"})
    assert (again.refresh_token, again.scopes) == (
        renewed.refresh_token,
        frozenset({"b"}),
    )
    assert (await harness.services.tokens.refresh.refresh(renewed.refresh_token)).scopes == {
        "a",
        "b",
    }


async def test_idle_time_ends_a_family_and_use_extends_it(harness: Harness) -> None:
    _, _, token = await harness.login()
    for _ in range(4):
        harness.clock.shift(14 * DAY - SECOND)
        token = await harness.refresh(token)
    harness.clock.shift(14 * DAY)
    await harness.assert_refused(token)
    assert await harness.services.sessions.list_for_user(harness.alice.id) == []
    assert harness.reuses == 0, "idle time is no reuse"


async def test_a_family_ends_at_its_absolute_lifetime(harness: Harness) -> None:
    session_id, _, token = await harness.login()
    while True:
        harness.clock.shift(9 * DAY)
        if datetime.now(UTC) >= START + 90 * DAY:
            break
        renewed = await harness.services.tokens.refresh.refresh(token)
        assert renewed.session.id == session_id
        token = renewed.refresh_token
    await harness.assert_refused(token)


async def test_the_last_access_token_expires_with_the_session(database_url: str) -> None:

    lifetimes = {"refresh_idle": 15 * MINUTE, "refresh_absolute": 15 * MINUTE}
    async with open_harness(database_url, **lifetimes) as harness:
        _, _, token = await harness.login()
        harness.clock.shift(10 * MINUTE)
        issued = await JWTStrategy(harness.services).refresh(token, scopes=None)
        assert issued.expires_at == START + 15 * MINUTE
        assert (issued.body["expires_in"], issued.body["refresh_expires_in"]) == (300, 300)


async def authenticate_bearer(harness: Harness, access: str) -> Identity | None:

    connection = HTTPConnection({"type": "http", "headers": [], "client": None})
    try:
        return await JWTStrategy(harness.services).authenticate(access, connection)
    except InvalidCredential:
        return None


async def log_out(harness: Harness, caller: Identity) -> None:
    await harness.services.sessions.logout(caller)


async def end(harness: Harness, caller: Identity) -> None:
    assert caller.session_id
    await harness.services.sessions.end_own(caller.session_id, caller)


async def change_password(harness: Harness, caller: Identity) -> None:
    await harness.services.accounts.passwords.change(
        caller, current=PASSWORD, new="another horse battery staple", new_secret_hash=None
    )


async def set_password(harness: Harness, caller: Identity) -> None:
    await harness.services.accounts.passwords.set(caller.user.id, "another horse battery staple")


async def deactivate(harness: Harness, caller: Identity) -> None:
    await harness.services.accounts.administration.change(caller.user.id, {"is_active": False})


async def delete(harness: Harness, caller: Identity) -> None:
    await harness.services.accounts.deletion.delete_own(caller)


@pytest.mark.parametrize(
    "ending",
    [log_out, end, change_password, set_password, deactivate, delete],
    ids=lambda f: f.__name__,
)
async def test_ending_the_session_ends_the_family(
    harness: Harness, ending: Callable[[Harness, Identity], Awaitable[None]]
) -> None:
    _, access, first = await harness.login()
    second = await harness.refresh(first)
    caller = await authenticate_bearer(harness, access)
    assert caller
    await ending(harness, caller)
    for token in (first, second):
        await harness.assert_refused(token)
    assert (harness.families, harness.reuses) == (0, 0)
    if ending is change_password:
        # The current session lives on until its access token expires.
        assert await authenticate_bearer(harness, access)
        harness.clock.shift(10 * MINUTE)
        assert await harness.services.sessions.list_for_user(harness.alice.id) == []
    assert await authenticate_bearer(harness, access) is None


async def test_fifty_concurrent_refreshes_get_one_successor(harness: Harness) -> None:
    session_id, _, token = await harness.login()
    for _ in range(3):
        found = await asyncio.gather(*(harness.refresh(token) for _ in range(50)))
        [(token, times)] = Counter(found).items()
        assert times == 50
        assert harness.families == 1
    assert harness.reuses == 0
    assert (await harness.services.tokens.refresh.refresh(token)).session.id == session_id


async def test_concurrent_reuses_end_the_session_once(harness: Harness) -> None:
    _, _, first = await harness.login()
    await harness.refresh(first)
    harness.clock.shift(MINUTE)
    answers = await asyncio.gather(
        *(harness.refresh(first) for _ in range(10)), return_exceptions=True
    )
    assert all(type(answer) is InvalidGrant for answer in answers)
    assert (harness.sessions, harness.reuses) == (0, 1)


async def test_without_grace_one_concurrent_refresh_wins_and_the_session_ends(
    database_url: str,
) -> None:
    async with open_harness(database_url, refresh_grace=0) as harness:
        _, _, first = await harness.login()
        second = await harness.refresh(first)
        harness.clock.shift(timedelta(microseconds=1))
        await harness.assert_refused(first)
        await harness.assert_refused(second)


async def test_a_refresh_writes_two_statements_and_no_event(harness: Harness) -> None:

    _, _, token = await harness.login()
    events, seen = harness.rows("SELECT count(*) FROM authapi_events"), []
    database = harness.services.database
    engine, direct = database.engine.sync_engine, database.direct_reads

    def note(statement: str) -> None:
        if not in_background():
            seen.append(statement.split(maxsplit=1)[0])

    def note_of_engine(_: Any, __: Any, statement: str, *___: Any) -> None:
        note(statement)

    event.listen(engine, "before_cursor_execute", note_of_engine)
    if direct is not None:
        direct.observers.append(note)
    await harness.refresh(token)
    event.remove(engine, "before_cursor_execute", note_of_engine)
    assert [word for word in seen if word != "BEGIN"] == ["SELECT", "WITH"]
    assert harness.rows("SELECT count(*) FROM authapi_events") == events


async def test_a_refresh_of_a_session_that_another_transaction_locks(harness: Harness) -> None:
    session, _, token = await harness.login()
    database = harness.services.database
    async with database.transaction() as store:
        # The user is active, the token is current, and yet the statement of a refresh changes none.
        assert await store.sessions.lock(session) is not None
        waiting = asyncio.create_task(harness.refresh(token))
        await asyncio.sleep(0.05)
        assert not waiting.done()
    second = await waiting
    assert second != token
    assert await harness.refresh(second) not in (token, second)
    assert harness.reuses == 0


async def test_a_user_who_is_deactivated_between_the_statements_gets_no_token(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, token = await harness.login()
    database = harness.services.database
    change = database.change

    async def after_deactivation(*args: Any) -> Any:
        users = database.tables.users
        async with database.transaction() as store:
            await store.connection.execute(sa.update(users).values(is_active=False))
        return await change(*args)

    monkeypatch.setattr(database, "change", after_deactivation)
    await harness.assert_refused(token)
    assert (harness.sessions, harness.reuses) == (1, 0)


async def test_a_refresh_counts_as_a_use_of_the_session(harness: Harness) -> None:
    _, _, token = await harness.login()
    harness.clock.shift(DAY)
    await harness.refresh(token)
    [session] = await harness.services.sessions.list_for_user(harness.alice.id)
    assert session.last_seen_at == START + DAY
    await harness.services.last_used.flush()
    [session] = await harness.services.sessions.list_for_user(harness.alice.id)
    assert session.idle_expires_at == START + 15 * DAY
