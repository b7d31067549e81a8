"""Refresh families: rotated once, the same successor for a moment, and theft after that."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import time_machine
from sqlalchemy import event
from starlette.requests import HTTPConnection

from authapi.crypto.refresh import RefreshToken, new_refresh_token, parse_refresh_token
from authapi.errors import InvalidCredential, InvalidGrant, InvalidScope
from authapi.identity import Identity, User
from authapi.services import Services
from authapi.services.addresses import parse_email
from authapi.settings import Settings
from authapi.strategies.jwt import JWTStrategy
from authapi.testing import PASSWORD
from tests.storage.rows import in_background, sql

START = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
SCOPES = {"a": "A", "b": "B"}


@dataclass
class House:
    """Running services, and one login with `jwt` in them."""

    services: Services
    clock: time_machine.Traveller
    alice: User
    url: str

    async def login(self) -> tuple[UUID, str, str]:
        """A session, its access token and its first refresh token."""

        proved = await self.services.accounts.prove(parse_email(self.alice.email), PASSWORD)
        connection = HTTPConnection({"type": "http", "headers": [], "client": None})
        issued = await JWTStrategy(self.services).issue(proved, connection)
        return (
            issued.session_id,
            str(issued.body["access_token"]),
            str(issued.body["refresh_token"]),
        )

    async def exchange(self, text: str, **options: Any) -> str:
        return (await self.services.refresh_tokens.exchange(text, **options)).refresh_token

    async def refused(self, text: str) -> None:
        with pytest.raises(InvalidGrant) as caught:
            await self.services.refresh_tokens.exchange(text)
        assert type(caught.value) is InvalidGrant
        assert str(caught.value) == InvalidGrant.title

    def rows(self, what: str) -> list[Any]:
        return [row[0] for row in sql(self.url, what)]

    @property
    def families(self) -> int:
        return len(self.rows("SELECT session_id FROM refresh_families"))

    @property
    def sessions(self) -> int:
        return len(self.rows("SELECT id FROM sessions"))

    @property
    def reuses(self) -> int:
        return len(self.rows("SELECT id FROM events WHERE type = 'refresh_reuse'"))


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[House]:

    with time_machine.travel(START, tick=False) as clock:
        services = Services.build(Settings(database_url=url, scopes=SCOPES, **settings))  # type: ignore[arg-type]
        await services.start()
        try:
            alice = await services.accounts.create(parse_email("alice@example.com"), PASSWORD)
            yield House(services, clock, alice, url)
        finally:
            await services.stop()


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with opened(database_url) as found:
        yield found


async def test_each_is_good_once_and_gives_the_next(house: House) -> None:
    session_id, _, token = await house.login()
    seen = [token]
    for _ in range(5):
        house.clock.shift(MINUTE)
        renewed = await house.services.refresh_tokens.exchange(seen[-1])
        assert (renewed.session.id, renewed.user.id) == (session_id, house.alice.id)
        assert renewed.scopes == {"a", "b"}
        assert renewed.at == START + MINUTE * len(seen)
        seen.append(renewed.refresh_token)
    assert len(set(seen)) == 6
    assert (house.families, house.sessions, house.reuses) == (1, 1, 0)


async def test_the_row_holds_no_token_and_nothing_to_make_one_of(house: House) -> None:
    _, _, first = await house.login()
    second = await house.exchange(first)
    [row] = sql(house.url, "SELECT * FROM refresh_families")
    for value in row:
        if isinstance(value, bytes | memoryview):
            data = bytes(value)
            for token in (first, second):
                parsed = parse_refresh_token(token)
                assert parsed
                assert parsed.secret not in data
                assert parsed.family not in data
                assert token.encode() not in data


async def test_a_lost_answer_is_given_again(house: House) -> None:
    _, _, first = await house.login()
    second = await house.exchange(first)
    for _ in range(3):
        house.clock.shift(10 * SECOND)
        assert await house.exchange(first) == second, "the same successor, to the letter"
    assert await house.exchange(second) != second
    assert (house.families, house.sessions, house.reuses) == (1, 1, 0)


async def test_the_window_ends_and_a_replay_is_theft(house: House) -> None:
    session_id, access, first = await house.login()
    await house.login()
    second = await house.exchange(first)
    house.clock.shift(30 * SECOND + timedelta(microseconds=1))
    await house.refused(first)
    await house.refused(second)
    await house.refused(first)
    assert (house.families, house.sessions, house.reuses) == (1, 1, 1), "the other login lives on"
    assert session_id not in [
        session.id for session in await house.services.sessions.list_of(house.alice.id)
    ]
    [told] = [
        item
        for item in await house.services.audit.page(house.alice.id, before=None, limit=50)
        if item.type == "refresh_reuse"
    ]
    assert (told.session_id, told.strategy, told.outcome) == (session_id, "jwt", "refused")
    assert await who(house, access) is None, "its access token is dead as well"


async def test_an_older_one_is_theft_even_within_the_window(house: House) -> None:
    _, _, first = await house.login()
    second = await house.exchange(first)
    third = await house.exchange(second)
    await house.refused(first)
    for token in (second, third):
        await house.refused(token)
    assert (house.families, house.sessions, house.reuses) == (0, 0, 1)


async def test_one_from_long_ago_is_still_known_as_theft(house: House) -> None:
    _, _, token = await house.login()
    chain = [token]
    for _ in range(20):
        chain.append(await house.exchange(chain[-1]))
    await house.refused(chain[3])
    await house.refused(chain[-1])
    assert house.reuses == 1


async def test_a_strangers_text_ends_nothing(house: House) -> None:
    _, _, token = await house.login()
    parsed = parse_refresh_token(token)
    assert parsed
    for text in ("", "x", token[:-1], token + "A", "aat_" + token[4:], "\ud800", "art_" + "é" * 70):
        await house.refused(text)

    stranger = new_refresh_token()
    await house.refused(stranger.text)
    await house.refused(RefreshToken(stranger.family, parsed.secret).text)
    assert (house.families, house.sessions, house.reuses) == (1, 1, 0)
    await house.exchange(token)


async def test_a_thief_and_the_owner_within_the_window_meet_later(house: House) -> None:
    _, _, first = await house.login()
    second = await house.exchange(first)
    assert await house.exchange(first) == second, "the thief was quick"
    house.clock.shift(MINUTE)
    await house.exchange(second)
    house.clock.shift(MINUTE)
    await house.refused(second)
    assert (house.sessions, house.reuses) == (0, 1)


async def test_scopes_may_only_narrow_and_the_family_keeps_its_own(house: House) -> None:
    _, _, token = await house.login()
    for asked in ({"c"}, {"a", "c"}):
        with pytest.raises(InvalidScope):
            await house.services.refresh_tokens.exchange(token, scopes=asked)
    renewed = await house.services.refresh_tokens.exchange(token, scopes={"a"})
    assert renewed.scopes == {"a"}
    again = await house.services.refresh_tokens.exchange(token, scopes={"b"})
    assert (again.refresh_token, again.scopes) == (
        renewed.refresh_token,
        frozenset({"b"}),
    )
    assert (await house.services.refresh_tokens.exchange(renewed.refresh_token)).scopes == {
        "a",
        "b",
    }


async def test_idleness_ends_a_family_and_use_does_not(house: House) -> None:
    _, _, token = await house.login()
    for _ in range(4):
        house.clock.shift(14 * DAY - SECOND)
        token = await house.exchange(token)
    house.clock.shift(14 * DAY)
    await house.refused(token)
    assert await house.services.sessions.list_of(house.alice.id) == []
    assert house.reuses == 0, "nobody stole anything"


async def test_a_family_ends_however_much_it_is_used(house: House) -> None:
    session_id, _, token = await house.login()
    while True:
        house.clock.shift(9 * DAY)
        if datetime.now(UTC) >= START + 90 * DAY:
            break
        renewed = await house.services.refresh_tokens.exchange(token)
        assert renewed.session.id == session_id
        token = renewed.refresh_token
    await house.refused(token)


async def test_the_last_access_token_ends_with_the_session(database_url: str) -> None:

    lifetimes = {"refresh_idle": 15 * MINUTE, "refresh_absolute": 15 * MINUTE}
    async with opened(database_url, **lifetimes) as house:
        _, _, token = await house.login()
        house.clock.shift(10 * MINUTE)
        issued = await JWTStrategy(house.services).refresh(token, scopes=None)
        assert issued.expires_at == START + 15 * MINUTE
        assert (issued.body["expires_in"], issued.body["refresh_expires_in"]) == (300, 300)


async def who(house: House, access: str) -> Identity | None:

    raw = [(b"authorization", f"Bearer {access}".encode())]
    connection = HTTPConnection({"type": "http", "headers": raw, "client": None})
    try:
        return await JWTStrategy(house.services).authenticate(connection)
    except InvalidCredential:
        return None


async def log_out(house: House, caller: Identity) -> None:
    await house.services.sessions.logout(caller)


async def end(house: House, caller: Identity) -> None:
    assert caller.session_id
    await house.services.sessions.end_own(caller.session_id, caller)


async def change_password(house: House, caller: Identity) -> None:
    await house.services.accounts.change_password(
        caller, current=PASSWORD, new="another horse battery staple", renewed=None
    )


async def set_password(house: House, caller: Identity) -> None:
    await house.services.accounts.set_password(caller.user.id, "another horse battery staple")


async def deactivate(house: House, caller: Identity) -> None:
    await house.services.accounts.set_active(caller.user.id, False)


async def delete(house: House, caller: Identity) -> None:
    await house.services.accounts.delete(caller.user.id, caller=caller)


@pytest.mark.parametrize(
    "ending",
    [log_out, end, change_password, set_password, deactivate, delete],
    ids=lambda f: f.__name__,
)
async def test_what_ends_the_login_ends_the_family(
    house: House, ending: Callable[[House, Identity], Awaitable[None]]
) -> None:
    _, access, first = await house.login()
    second = await house.exchange(first)
    caller = await who(house, access)
    assert caller
    await ending(house, caller)
    for token in (first, second):
        await house.refused(token)
    assert (house.families, house.reuses) == (0, 0)
    if ending is change_password:
        # The session in use lives on, for as long as the access token in hand.
        assert await who(house, access)
        house.clock.shift(10 * MINUTE)
        assert await house.services.sessions.list_of(house.alice.id) == []
    assert await who(house, access) is None


async def test_fifty_at_once_are_given_one_successor(house: House) -> None:
    session_id, _, token = await house.login()
    for _ in range(3):
        found = await asyncio.gather(*(house.exchange(token) for _ in range(50)))
        [(token, times)] = Counter(found).items()
        assert times == 50
        assert house.families == 1
    assert house.reuses == 0
    assert (await house.services.refresh_tokens.exchange(token)).session.id == session_id


async def test_two_thieves_at_once_end_it_once(house: House) -> None:
    _, _, first = await house.login()
    await house.exchange(first)
    house.clock.shift(MINUTE)
    answers = await asyncio.gather(
        *(house.exchange(first) for _ in range(10)), return_exceptions=True
    )
    assert all(type(answer) is InvalidGrant for answer in answers)
    assert (house.sessions, house.reuses) == (0, 1)


async def test_without_grace_one_of_many_wins_and_the_family_ends(database_url: str) -> None:
    async with opened(database_url, refresh_grace=0) as house:
        _, _, first = await house.login()
        second = await house.exchange(first)
        house.clock.shift(timedelta(microseconds=1))
        await house.refused(first)
        await house.refused(second)


async def test_a_refresh_writes_two_statements_and_no_event(house: House) -> None:

    _, _, token = await house.login()
    events, seen = house.rows("SELECT count(*) FROM events"), []
    engine = house.services.database.engine.sync_engine

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        if not in_background():
            seen.append(statement.split(maxsplit=1)[0])

    event.listen(engine, "before_cursor_execute", note)
    await house.exchange(token)
    event.remove(engine, "before_cursor_execute", note)
    assert [word for word in seen if word != "BEGIN"] == ["SELECT", "UPDATE"]
    assert house.rows("SELECT count(*) FROM events") == events


async def test_a_refresh_counts_as_a_use_of_the_session(house: House) -> None:
    _, _, token = await house.login()
    house.clock.shift(DAY)
    await house.exchange(token)
    [session] = await house.services.sessions.list_of(house.alice.id)
    assert session.last_seen_at == START + DAY
    await house.services.activity.flush()
    [session] = await house.services.sessions.list_of(house.alice.id)
    assert session.idle_expires_at == START + 15 * DAY
