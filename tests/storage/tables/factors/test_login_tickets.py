"""Queries on logins that wait for a second factor, on both databases."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from authapi.crypto.ids import first_id_at, new_id
from authapi.crypto.secrets import hash_secret
from authapi.domain.factors.values import LoginTicket, TicketPurpose
from authapi.domain.user import User
from authapi.storage import Database
from tests.storage.emptied import emptied_postgres_url, shared_postgres_url
from tests.storage.rows import AT, a_user, store_user

__all__ = ["emptied_postgres_url", "shared_postgres_url"]

MINUTE = timedelta(minutes=1)
END = AT + 5 * MINUTE
SECRET, BROWSER = hash_secret("ticket"), hash_secret("browser")


@pytest.fixture
def postgres_url(emptied_postgres_url: str) -> str:
    return emptied_postgres_url


def a_ticket(user: User, **changes: Any) -> LoginTicket:
    ticket = LoginTicket(
        id=new_id(),
        user_id=user.id,
        purpose=TicketPurpose.SECOND_FACTOR,
        strategy="session",
        remember=True,
        scopes=frozenset({"b", "a"}),
        amr=("pwd",),
        credentials_version=3,
        attempts=0,
        created_at=AT,
        expires_at=END,
    )
    return replace(ticket, **changes)


@pytest.mark.parametrize("scopes", [None, frozenset[str](), frozenset({"a", "b"})])
async def test_a_ticket_is_found_by_its_secret(
    database: Database, scopes: frozenset[str] | None
) -> None:
    ticket = a_ticket(await store_user(database, a_user()), scopes=scopes)
    async with database.transaction() as store:
        await store.login_tickets.add(ticket, SECRET, browser=None)
        assert await store.login_tickets.find_by_secret(SECRET, now=AT) == ticket
        assert await store.login_tickets.find_by_secret(BROWSER, now=AT) is None
        assert await store.login_tickets.find_by_browser(SECRET, now=AT) is None
        assert await store.login_tickets.find_by_secret(SECRET, now=END) is None


async def test_a_ticket_of_a_browser_is_found_by_its_cookie_only(database: Database) -> None:
    user = await store_user(database, a_user())
    first = a_ticket(user, id=first_id_at(AT))
    second = a_ticket(user, id=first_id_at(AT + MINUTE))
    async with database.transaction() as store:
        await store.login_tickets.add(first, SECRET, browser=BROWSER)
        assert await store.login_tickets.find_by_secret(SECRET, now=AT) is None
        await store.login_tickets.add(second, hash_secret("other"), browser=BROWSER)
        assert await store.login_tickets.find_by_browser(BROWSER, now=AT) == second
        assert await store.login_tickets.find_by_browser(BROWSER, now=END) is None
        await store.login_tickets.end_of_browser(BROWSER)
        assert await store.login_tickets.find_by_browser(BROWSER, now=AT) is None


async def test_of_many_attempts_at_once_five_are_allowed(database: Database) -> None:
    ticket = a_ticket(await store_user(database, a_user()))
    async with database.transaction() as store:
        await store.login_tickets.add(ticket, SECRET, browser=None)

    async def attempt() -> LoginTicket | None:
        async with database.transaction() as store:
            return await store.login_tickets.count_attempt(ticket.id, limit=5, now=AT)

    counted = [found for found in await asyncio.gather(*(attempt() for _ in range(30))) if found]
    assert sorted(found.attempts for found in counted) == [1, 2, 3, 4, 5]
    assert {replace(found, attempts=0) for found in counted} == {ticket}


async def test_an_expired_ticket_allows_no_attempt(database: Database) -> None:
    ticket = a_ticket(await store_user(database, a_user()))
    async with database.transaction() as store:
        await store.login_tickets.add(ticket, SECRET, browser=None)
        assert await store.login_tickets.count_attempt(ticket.id, limit=5, now=END) is None
        assert not await store.login_tickets.consume(ticket.id, now=END)


async def test_a_ticket_is_used_once(database: Database) -> None:
    ticket = a_ticket(await store_user(database, a_user()))
    async with database.transaction() as store:
        await store.login_tickets.add(ticket, SECRET, browser=None)

    async def consume() -> bool:
        async with database.transaction() as store:
            return await store.login_tickets.consume(ticket.id, now=AT)

    assert sorted(await asyncio.gather(*(consume() for _ in range(20)))) == [False] * 19 + [True]


async def test_tickets_end_with_their_account_and_when_they_expire(database: Database) -> None:
    alice = await store_user(database, a_user(), email="a@x.org")
    bob = await store_user(database, a_user(), email="b@x.org")
    async with database.transaction() as store:
        for number, user in enumerate((alice, alice, bob, bob)):
            ticket = a_ticket(user, expires_at=END + number * MINUTE)
            await store.login_tickets.add(ticket, hash_secret(str(number)), browser=None)

        async def left() -> list[str]:
            return [
                str(number)
                for number in range(4)
                if await store.login_tickets.find_by_secret(hash_secret(str(number)), now=AT)
            ]

        assert await store.login_tickets.prune(now=AT, limit=9) == 0
        assert await store.login_tickets.prune(now=END, limit=9) == 1
        assert await left() == ["1", "2", "3"]
        await store.login_tickets.end_all(alice.id)
        assert await left() == ["2", "3"]
        await store.users.delete(bob.id)
        assert await left() == []
