"""A rolling change of the secret: processes with either secret, and with both, side by side."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import pytest

from authapi.clock import now
from authapi.domain.email_address import parse_email
from authapi.domain.factors.passkeys import ChallengePurpose
from authapi.domain.user import User
from authapi.errors import ConfigurationError
from authapi.services import Services
from authapi.settings import Settings
from tests.second_factors import SecondFactors, add_second_factors
from tests.storage.rows import a_session

OLD, NEW = {"secret": "x" * 32}, {"secret": "y" * 32}
BOTH = {**NEW, "secret_previous": "x" * 32}


@asynccontextmanager
async def running(url: str, settings: Mapping[str, str]) -> AsyncIterator[Services]:
    """A process; its keys are as it has read them at the start, or since."""
    services = Services.build(Settings(database_url=url, **settings))  # type: ignore[arg-type]
    await services.start()
    try:
        yield services
    finally:
        await services.stop()


async def exchange(writer: Services, reader: Services, user: User) -> SecondFactors:
    """What one process writes or signs, the other reads. Returns second factors of `user`."""
    at = now()
    signed = await writer.keys.sign_access_token(
        user, a_session(user), issued=at, expires=at + timedelta(minutes=5)
    )
    reader.identity_cache.clear()
    await reader.keys.verify_access_token(signed, now=at)

    async with writer.database.transaction() as store:
        key = await writer.outbox.enqueue(store, "test", "test", {"a": 1})
    async with reader.database.read() as store:
        [entry] = [entry for entry in await store.outbox.page(limit=100) if entry.id == key]
    assert reader.outbox.decrypt_payload(entry) == {"a": 1}

    login = ChallengePurpose.LOGIN
    challenge = writer.keys.challenges.issue(login, "browser", at=at)
    reader.keys.challenges.check(challenge, login, "browser", at=at)

    return await add_second_factors(writer, user)


async def new_user(services: Services, name: str) -> User:
    return await services.accounts.registration.create(parse_email(f"{name}@example.com"), None)


async def test_processes_with_either_secret_and_with_both_agree(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        old = await enter(running(database_url, OLD))
        both = await enter(running(database_url, BOTH))
        one, two, three = [await new_user(old, name) for name in ("one", "two", "three")]
        # 1. Processes with the old secret only, beside those with both. Both may restart.
        hers = await exchange(old, both, one)
        his = await exchange(both, old, two)
        for reader in (old, both):
            await reader.factors.proofs.check(hers.user, code=hers.code())
        await old.factors.proofs.check(his.user, code=his.code())
        await both.keys.rotate(early=True)
        old.identity_cache.clear()
        await exchange(old, await enter(running(database_url, OLD)), three)
        again = await enter(running(database_url, BOTH))

        # 2. All processes have both secrets.
        rows = await both.keys.lifecycle.finish_change()
        assert rows == 2 + 3 + 3  # keys, authenticator apps, entries
        assert await both.keys.lifecycle.finish_change() == 0
        again.identity_cache.clear()
        await again.keys.key_set()
        await exchange(both, again, await new_user(both, "four"))

        # 3. Beside processes with the new secret only.
        new = await enter(running(database_url, NEW))
        await exchange(both, new, await new_user(both, "five"))
        theirs = await exchange(new, again, await new_user(new, "six"))
        await new.keys.rotate(early=True)
        again.identity_cache.clear()
        assert (await again.keys.key_set()).signing is not None
        await again.factors.proofs.check(theirs.user, code=theirs.code())
        await new.factors.proofs.check(his.user, code=his.code())
        with pytest.raises(ConfigurationError, match="another secret"):
            async with running(database_url, OLD):
                pass


async def test_a_process_that_has_not_heard_of_it_writes_what_others_read(
    sqlite_url: str,
) -> None:
    async with running(sqlite_url, OLD) as old:
        user = await new_user(old, "one")
    async with running(sqlite_url, BOTH) as first, running(sqlite_url, BOTH) as second:
        await first.keys.lifecycle.finish_change()
        late = await add_second_factors(second, user)  # its transaction looks at the keys
        async with second.database.transaction() as store:
            await second.outbox.enqueue(store, "test", "test", {"a": 1})
        assert await first.keys.lifecycle.finish_change() <= 2
        assert await first.keys.lifecycle.finish_change() == 0
    async with running(sqlite_url, NEW) as new:
        await new.factors.proofs.check(late.user, code=late.code())
        async with new.database.read() as store:
            for entry in await store.outbox.page(limit=10):
                new.outbox.decrypt_payload(entry)


async def test_the_change_can_be_taken_back(sqlite_url: str) -> None:
    async with running(sqlite_url, OLD) as old:
        signer = await new_user(old, "one")
    back = {"secret": "x" * 32, "secret_previous": "y" * 32}
    async with running(sqlite_url, BOTH) as both:
        assert await both.keys.lifecycle.finish_change() == 2
    async with running(sqlite_url, back) as returned:
        assert await returned.keys.lifecycle.finish_change() == 2
    async with running(sqlite_url, OLD) as old:
        await exchange(old, old, signer)


async def test_a_new_database_is_under_the_configured_secret(sqlite_url: str) -> None:
    async with running(sqlite_url, BOTH):
        pass
    async with running(sqlite_url, NEW):
        pass
