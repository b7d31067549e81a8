"""Queries on authenticator apps, on both databases."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.exc import IntegrityError

from authapi.crypto.ids import new_id
from authapi.domain.factors.values import TOTPFactor
from authapi.domain.user import User
from authapi.storage import Database
from tests.storage.emptied import emptied_postgres_url, shared_postgres_url
from tests.storage.rows import AT, a_user, store_user

__all__ = ["emptied_postgres_url", "shared_postgres_url"]

MINUTE = timedelta(minutes=1)


@pytest.fixture
def postgres_url(emptied_postgres_url: str) -> str:
    return emptied_postgres_url


def an_enrolment(user: User, **changes: Any) -> TOTPFactor:
    enrolment = TOTPFactor(
        id=new_id(),
        user_id=user.id,
        secret=b"sealed",
        last_step=-1,
        session_id=new_id(),
        credentials_version=3,
        failures=0,
        owner_told_at=None,
        created_at=AT,
        confirmed_at=None,
        last_used_at=None,
        expires_at=AT + 10 * MINUTE,
    )
    return replace(enrolment, **changes)


async def stored(database: Database, factor: TOTPFactor) -> TOTPFactor:
    async with database.transaction() as store:
        await store.totp_factors.add(factor)
    return factor


async def confirmed(database: Database, user: User, *, step: int = 100) -> TOTPFactor:
    factor = await stored(database, an_enrolment(user))
    async with database.transaction() as store:
        assert await store.totp_factors.confirm(factor.id, step=step, at=AT)
        found = await store.totp_factors.find(user.id)
    assert found is not None
    return found


async def test_an_enrolment_is_no_factor(database: Database) -> None:
    user = await store_user(database, a_user())
    enrolment = await stored(database, an_enrolment(user))
    async with database.read() as store:
        assert await store.totp_factors.find(user.id) is None
        assert await store.totp_factors.find_enrolment(user.id, now=AT) == enrolment
        late = AT + 10 * MINUTE
        assert await store.totp_factors.find_enrolment(user.id, now=late) is None
    assert "sealed" not in repr(enrolment)


async def test_an_enrolment_replaces_an_earlier_one(database: Database) -> None:
    user = await store_user(database, a_user())
    first = await stored(database, an_enrolment(user))
    second = await stored(database, an_enrolment(user))
    async with database.transaction() as store:
        assert not await store.totp_factors.confirm(first.id, step=1, at=AT)
        assert await store.totp_factors.confirm(second.id, step=1, at=AT)
        assert not await store.totp_factors.confirm(second.id, step=2, at=AT)


async def test_a_confirmation_uses_the_step_up_and_forgets_wrong_codes(database: Database) -> None:
    user = await store_user(database, a_user())
    enrolment = await stored(database, an_enrolment(user, failures=4))
    async with database.transaction() as store:
        late = AT + 10 * MINUTE
        assert not await store.totp_factors.confirm(enrolment.id, step=7, at=late)
        assert await store.totp_factors.confirm(enrolment.id, step=7, at=AT)
        found = await store.totp_factors.find(user.id)
    assert found == replace(
        enrolment, confirmed_at=AT, last_used_at=AT, last_step=7, failures=0, expires_at=None
    )
    assert found.context == f"totp {enrolment.id}"


async def test_an_account_has_one_confirmed_factor(database: Database) -> None:
    user = await store_user(database, a_user())
    await confirmed(database, user)
    second = await stored(database, an_enrolment(user))
    with pytest.raises(IntegrityError):
        async with database.transaction() as store:
            await store.totp_factors.confirm(second.id, step=1, at=AT)


async def test_steps_are_used_once_in_increasing_order(database: Database) -> None:
    factor = await confirmed(database, await store_user(database, a_user()), step=100)

    async def use(step: int) -> bool:
        async with database.transaction() as store:
            return await store.totp_factors.use(factor.id, step=step, at=AT + MINUTE)

    assert [await use(step) for step in (99, 100, 102, 101, 102, 103)] == [
        *(False, False, True, False, False, True)
    ]
    results = await asyncio.gather(*(use(104) for _ in range(20)))
    assert sorted(results) == [False] * 19 + [True]


async def test_a_step_of_an_enrolment_is_not_used(database: Database) -> None:
    enrolment = await stored(database, an_enrolment(await store_user(database, a_user())))
    async with database.transaction() as store:
        assert not await store.totp_factors.use(enrolment.id, step=5, at=AT)


async def test_wrong_codes_are_counted_until_a_right_one(database: Database) -> None:
    user = await store_user(database, a_user())
    factor = await confirmed(database, user)
    async with database.transaction() as store:
        count = partial(store.totp_factors.count_attempt, limit=3)
        assert [await count(factor.id) for _ in range(4)] == [1, 2, 3, None]
        assert await count(new_id()) is None
        await store.totp_factors.reset_failures(user.id)
        assert await count(factor.id) == 1
        await store.totp_factors.use(factor.id, step=200, at=AT)
        assert await count(factor.id) == 1


async def test_of_many_codes_at_once_no_more_are_counted_than_allowed(database: Database) -> None:
    factor = await confirmed(database, await store_user(database, a_user()))

    async def count() -> int | None:
        async with database.transaction() as store:
            return await store.totp_factors.count_attempt(factor.id, limit=3)

    counted = await asyncio.gather(*(count() for _ in range(20)))
    assert sorted(one for one in counted if one is not None) == [1, 2, 3]


async def test_the_owner_is_told_at_most_once_in_a_time(database: Database) -> None:
    factor = await confirmed(database, await store_user(database, a_user()))

    async def tell(minutes: int) -> bool:
        at = AT + minutes * MINUTE
        async with database.transaction() as store:
            return await store.totp_factors.set_owner_told(factor.id, at=at, before=at - MINUTE)

    assert [await tell(0), await tell(0), await tell(1)] == [True, False, True]


async def test_removal_tells_whether_a_factor_was_confirmed(database: Database) -> None:
    alice = await store_user(database, a_user(), email="a@x.org")
    bob = await store_user(database, a_user(), email="b@x.org")
    await confirmed(database, alice)
    await stored(database, an_enrolment(bob))
    async with database.transaction() as store:
        assert not await store.totp_factors.remove_all(bob.id)
        assert await store.totp_factors.find(alice.id) is not None
        assert await store.totp_factors.remove_all(alice.id)
        assert not await store.totp_factors.remove_all(alice.id)
        assert await store.totp_factors.find(alice.id) is None


@pytest.mark.parametrize(("since", "is_removed"), [(0, True), (1, False), (-1, True)])
async def test_removal_of_what_was_confirmed_since(
    database: Database, since: int, is_removed: bool
) -> None:
    user = await store_user(database, a_user())
    await confirmed(database, user)
    async with database.transaction() as store:
        assert await store.totp_factors.remove_since(user.id, AT + since * MINUTE) is is_removed
        assert (await store.totp_factors.find(user.id) is None) is is_removed


async def test_removal_of_what_was_added_since_ends_enrolments(database: Database) -> None:
    user = await store_user(database, a_user())
    await stored(database, an_enrolment(user))
    async with database.transaction() as store:
        assert not await store.totp_factors.remove_since(user.id, AT + MINUTE)
        assert await store.totp_factors.find_enrolment(user.id, now=AT) is None


async def test_pages_have_all_factors_and_enrolments(database: Database) -> None:
    ids = list[UUID]()
    for number in range(5):
        user = await store_user(database, a_user(), email=f"{number}@x.org")
        ids.append((await stored(database, an_enrolment(user))).id)
    found, last = list[UUID](), None
    async with database.transaction() as store:
        while page := await store.totp_factors.page(after=last, limit=2):
            assert len(page) <= 2
            last = page[-1].id
            found += [factor.id for factor in page]
        assert found == sorted(ids)
        await store.totp_factors.reencrypt(ids[0], b"other")
        secrets = [factor.secret for factor in await store.totp_factors.page(after=None, limit=9)]
    assert sorted(secrets) == [b"other", *[b"sealed"] * 4]


async def test_expired_enrolments_are_deleted(database: Database) -> None:
    for number in range(3):
        user = await store_user(database, a_user(), email=f"{number}@x.org")
        await stored(database, an_enrolment(user))
    kept = await confirmed(database, await store_user(database, a_user(), email="c@x.org"))
    at = AT + 10 * MINUTE
    async with database.transaction() as store:
        assert await store.totp_factors.prune(now=at - MINUTE, limit=9) == 0
        assert await store.totp_factors.prune(now=at, limit=2) == 2
        assert await store.totp_factors.prune(now=at, limit=2) == 1
        assert await store.totp_factors.page(after=None, limit=9) == [kept]


async def test_factors_end_with_their_account(database: Database) -> None:
    user = await store_user(database, a_user())
    await confirmed(database, user)
    async with database.transaction() as store:
        await store.users.delete(user.id)
        assert await store.totp_factors.page(after=None, limit=9) == []
