"""What code of an application does with accounts, and transactions with tables of its own."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from authapi import (
    AuthAPI,
    EmailTaken,
    EventType,
    InvalidInput,
    LastSuperuser,
    NotFound,
    Settings,
)
from authapi.domain.events import EventFilter
from tests.facade.notes import Note, texts

PASSWORD = "correct horse battery staple"


async def events_of(auth: AuthAPI) -> list[EventType]:
    """The recorded events, the newest first."""
    async with auth.runtime.services.database.read() as store:
        found = await store.events.search(EventFilter(), before=None, limit=100)
    return [event.type for event in found]


async def test_a_script_creates_finds_changes_and_deletes_an_account(auth: AuthAPI) -> None:
    async with auth.running() as service:
        accounts = service.accounts
        user = await accounts.create("Alice@example.com", PASSWORD, name="Alice")
        assert (user.email, user.name) == ("Alice@example.com", "Alice")
        assert (await accounts.find(user.id)) == user
        assert (await accounts.find_by_email("alice@example.com")).id == user.id
        assert (await accounts.rename(user.id, None)).name is None
        assert (await accounts.confirm_email(user.id)).email_confirmed_at is not None
        moved = await accounts.change_email(user.id, "alice@example.org")
        assert moved.email == "alice@example.org"
        assert moved.email_confirmed_at is not None
        await accounts.set_password(user.id, PASSWORD + "!")
        assert await accounts.end_sessions(user.id) == 0
        assert not (await accounts.deactivate(user.id)).is_active
        assert (await accounts.activate(user.id)).is_active
        assert (await accounts.set_superuser(user.id, True)).is_superuser
        with pytest.raises(LastSuperuser):
            await accounts.delete(user.id)
        await accounts.create("root@example.com", is_superuser=True)
        await accounts.delete(user.id)
        with pytest.raises(NotFound):
            await accounts.find(user.id)


@pytest.mark.parametrize("email", ["", "alice", "alice@", None, 7])
async def test_a_wrong_address_is_invalid_input(email: Any, sqlite_url: str) -> None:
    async with AuthAPI(Settings(database_url=sqlite_url)).running() as service:  # type: ignore[arg-type]
        with pytest.raises(InvalidInput):
            await service.accounts.create(email, PASSWORD)


async def test_other_wrong_input_is_a_clear_error(sqlite_url: str) -> None:
    async with AuthAPI(Settings(database_url=sqlite_url)).running() as service:  # type: ignore[arg-type]
        for name in ("", "\u200b", "a\nb", "x" * 201):
            with pytest.raises(InvalidInput):
                await service.accounts.create("a@example.com", PASSWORD, name=name)
        with pytest.raises(InvalidInput):
            await service.accounts.create("a@example.com", "short")
        user = await service.accounts.create("a@example.com", PASSWORD)
        with pytest.raises(InvalidInput):
            await service.accounts.set_roles(user.id, ["pilot"])
        with pytest.raises(TypeError, match="user_id must be a UUID, not str"):
            await service.accounts.find(str(user.id))  # type: ignore[arg-type]  # deliberately
        with pytest.raises(NotFound):
            await service.accounts.change_email(uuid4(), "b@example.com")


async def test_a_taken_address_is_refused(auth: AuthAPI) -> None:
    async with auth.running() as service:
        await service.accounts.create("a@example.com", PASSWORD)
        other = await service.accounts.create("b@example.com", PASSWORD)
        with pytest.raises(EmailTaken):
            await service.accounts.create("A@EXAMPLE.com", PASSWORD)
        with pytest.raises(EmailTaken):
            await service.accounts.change_email(other.id, "a@example.com")


async def test_a_transaction_commits_both_sides(auth: AuthAPI, database_url: str) -> None:
    async with auth.running() as service:
        async with auth.transaction() as tx:
            user = await tx.accounts.create("a@example.com", PASSWORD)
            tx.session.add(Note(text=str(user.id)))
            await tx.execute(sa.insert(Note).values(text="core"))
            assert (await tx.accounts.find(user.id)) == user  # sees its own changes
        assert (await service.accounts.find(user.id)) == user
    assert texts(database_url) == [str(user.id), "core"]


async def test_an_error_undoes_both_sides(auth: AuthAPI, database_url: str) -> None:
    async with auth.running() as service:

        async def fail() -> None:
            async with auth.transaction() as tx:
                await tx.accounts.create("a@example.com", PASSWORD)
                tx.session.add(Note(text="lost"))
                await tx.session.flush()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        with pytest.raises(NotFound):
            await service.accounts.find_by_email("a@example.com")
        assert not await events_of(auth)
    assert texts(database_url) == []


async def test_a_refusal_that_is_caught_undoes_its_own_call_only(
    auth: AuthAPI, database_url: str
) -> None:
    async with auth.running() as service:
        await service.accounts.create("taken@example.com", PASSWORD)
        async with auth.transaction() as tx:
            tx.session.add(Note(text="kept"))
            with pytest.raises(EmailTaken):
                await tx.accounts.create("taken@example.com", PASSWORD)
            user = await tx.accounts.create("free@example.com", PASSWORD)
        assert (await service.accounts.find(user.id)) == user
        assert await events_of(auth) == [EventType.ACCOUNT_REGISTERED] * 2
    assert texts(database_url) == ["kept"]


async def test_calls_beside_the_transaction_are_refused_and_not_deadlocked(auth: AuthAPI) -> None:
    async with auth.running() as service:
        async with auth.transaction() as tx:
            with pytest.raises(RuntimeError, match=r"call tx\.accounts instead"):
                await service.accounts.create("a@example.com", PASSWORD)
            with pytest.raises(RuntimeError, match="open already"):
                async with auth.transaction():
                    pass
        with pytest.raises(RuntimeError, match="has ended"):
            await tx.accounts.create("a@example.com", PASSWORD)


async def test_a_transaction_needs_open_services(auth: AuthAPI) -> None:
    with pytest.raises(RuntimeError, match=r"use auth\.running"):
        async with auth.transaction():
            pass


async def test_nested_and_concurrent_scripts_share_the_services(auth: AuthAPI) -> None:
    async def seed(number: int) -> None:
        async with auth.running() as service, auth.running():
            await service.accounts.create(f"user{number}@example.com", PASSWORD)

    await asyncio.gather(*(seed(number) for number in range(5)))
    async with auth.running() as service:
        assert (await service.accounts.find_by_email("user4@example.com")).is_active


async def test_each_event_loop_can_open_the_services_in_turn(sqlite_url: str) -> None:
    auth = AuthAPI(Settings(database_url=sqlite_url))  # type: ignore[arg-type]

    async def seed(number: int) -> None:
        async with auth.running() as service:
            await service.accounts.create(f"user{number}@example.com", PASSWORD)

    for number in range(2):
        await asyncio.to_thread(asyncio.run, seed(number))
    async with auth.running():
        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, seed(3))
