"""Open connections that end with the session behind them, on both real databases.

`tests/web/sockets` has WebSockets of two processes. Here each `Services` represents a process.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from authapi.clock import now
from authapi.crypto.secrets import hash_secret
from authapi.domain.identity import Identity
from authapi.domain.session import SessionKind
from authapi.errors import StorageUnavailable
from authapi.services import Lifetime, Login, Services
from authapi.services.sessions.liveness import Liveness
from authapi.services.sessions.watch import Ending, SessionWatch
from authapi.settings import Settings
from authapi.testing import Authenticator
from tests.storage.rows import a_user, store_user

DAY = timedelta(days=1)
WITHIN = 10.0
"""Seconds that a busy machine may take."""


@dataclass
class Connection:
    """A connection that records its end."""

    ending: Ending | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def on_end(self, ending: Ending) -> asyncio.Task[None]:
        assert self.ending is None
        self.ending = ending
        return asyncio.create_task(self._close())

    async def _close(self) -> None:
        self.ended.set()

    async def wait(self) -> Ending | None:
        """Returns why it has ended."""
        async with asyncio.timeout(WITHIN):
            await self.ended.wait()
        return self.ending


@asynccontextmanager
async def process(url: str, **changes: object) -> AsyncIterator[Services]:
    """Started services that watch connections."""
    chosen: dict[str, Any] = {"database_url": url, **changes}
    found = Services.build(Settings(**chosen))
    await found.start()
    found.session_watch.start()
    try:
        yield found
    finally:
        await found.session_watch.stop()
        await found.stop()


async def log_in(services: Services, number: int = 1, *, idle: timedelta | None = None) -> Identity:
    """Creates a user with a session; returns the identity of its holder."""
    user = await store_user(services.database, a_user(email=f"user{number}@example.com"))
    login = Login(user=user, credentials_version=0, auth_time=now(), amr=("pwd",))
    secret = hash_secret(f"secret {number}")
    await services.sessions.create(
        login, SessionKind.SESSION, lifetime=Lifetime(DAY, idle), secret=secret
    )
    found = await services.sessions.identify_by_secret(
        secret, SessionKind.SESSION, strategy="session"
    )
    assert found is not None
    return found


def counted(watch: SessionWatch, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Returns the number of callers in each check from now on."""
    sizes: list[int] = []
    find = Liveness.find

    async def counting(self: Liveness, identities: Sequence[Identity]) -> Sequence[Any]:
        sizes.append(len(identities))
        return await find(self, identities)

    monkeypatch.setattr(Liveness, "find", counting)
    return sizes


async def checked(watch: SessionWatch) -> None:
    """Waits until no connection waits for a check."""
    async with asyncio.timeout(WITHIN):
        while any(item.unverified_since is not None for item in watch._all):  # noqa: ASYNC110  # polls a task
            await asyncio.sleep(0.001)


async def test_one_check_for_all_connections_of_a_change(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(database_url) as here, process(database_url) as there:
        watch, ends = here.session_watch, [Connection() for _ in range(200)]
        ending, staying = await log_in(here, 1), await log_in(here, 2)
        kept = Connection()
        sizes = counted(watch, monkeypatch)
        with ExitStack() as stack:
            for one in ends:
                stack.enter_context(watch.watching(ending, is_account=True, on_end=one.on_end))
            stack.enter_context(watch.watching(staying, is_account=True, on_end=kept.on_end))
            await checked(watch)
            assert sizes == [201]
            await there.sessions.logout(ending)
            assert {await one.wait() for one in ends} == {Ending.SESSION_ENDED}
            await checked(watch)
            assert sum(sizes) <= 201 + 201
            assert len(sizes) <= 3
            assert kept.ending is None
            assert len(watch) == 1
        assert len(watch) == 0


async def test_no_query_without_a_change(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(database_url) as here, process(database_url) as there:
        caller, other, one = await log_in(here, 1), await log_in(here, 2), Connection()
        with here.session_watch.watching(caller, is_account=True, on_end=one.on_end):
            await checked(here.session_watch)
            sizes = counted(here.session_watch, monkeypatch)
            for _ in range(20):
                here.session_watch._tick()
            await asyncio.sleep(0)
            assert sizes == []
            await here.sessions.logout(other)  # another user
            await checked(here.session_watch)
            assert sizes == []
            await there.sessions.logout(caller)
            assert await one.wait() is Ending.SESSION_ENDED


async def test_change_before_the_connection_is_watched_is_found(database_url: str) -> None:
    async with process(database_url) as here:
        caller, one = await log_in(here), Connection()
        await here.sessions.logout(caller)
        with here.session_watch.watching(caller, is_account=True, on_end=one.on_end):
            assert await one.wait() is Ending.SESSION_ENDED


@pytest.mark.parametrize("factor", ["first", "second"])
async def test_a_copied_cookie_that_was_replaced_before_the_connection_is_watched_is_found(
    database_url: str, factor: str
) -> None:
    async with process(database_url) as here:
        caller, one = await log_in(here), Connection()
        assert caller.session_id is not None
        renewed, at = hash_secret("renewed"), now()
        async with here.database.transaction() as store:
            await store.users.lock(caller.user.id)
            if factor == "first":
                await store.sessions.replace_secret(caller.session_id, renewed, auth_time=at)
            else:
                await store.sessions.set_mfa(
                    caller.session_id, mfa_at=at, amr=("pwd", "otp", "mfa"), secret=renewed
                )
        with here.session_watch.watching(caller, is_account=True, on_end=one.on_end):
            assert await one.wait() is Ending.SESSION_ENDED


async def test_process_without_notifications_checks_again(database_url: str) -> None:
    fast = {"identity_cache_max_staleness": "200ms"}
    async with (
        process(database_url, identity_cache_size=0, **fast) as here,
        process(database_url) as there,
    ):
        caller, one = await log_in(here), Connection()
        with here.session_watch.watching(caller, is_account=True, on_end=one.on_end):
            await checked(here.session_watch)
            await there.sessions.logout(caller)
            assert await one.wait() is Ending.SESSION_ENDED


async def test_row_that_is_changed_by_hand_is_found(database_url: str) -> None:
    fast = {"identity_cache_max_staleness": "100ms", "identity_cache_ttl": "200ms"}
    async with process(database_url, **fast) as here:
        caller, one = await log_in(here), Connection()
        with here.session_watch.watching(caller, is_account=True, on_end=one.on_end):
            await checked(here.session_watch)
            async with here.database.transaction() as store:
                assert caller.session_id is not None
                await store.sessions.end(caller.session_id)
                store.changed.clear()
            assert await one.wait() is Ending.SESSION_ENDED


async def test_expiry_ends_a_connection_without_a_query(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(sqlite_url) as here:
        caller, one = await log_in(here), Connection()
        soon = replace(caller, expires_at=now() + timedelta(milliseconds=300))
        with here.session_watch.watching(soon, is_account=True, on_end=one.on_end):
            await checked(here.session_watch)
            sizes = counted(here.session_watch, monkeypatch)
            assert await one.wait() is Ending.SESSION_ENDED
            assert sizes == []


async def test_idle_session_ends_unless_it_is_used(sqlite_url: str) -> None:
    fast = {"identity_cache_max_staleness": "100ms"}
    async with process(sqlite_url, **fast) as here:
        idle = timedelta(seconds=2)
        quiet, busy = await log_in(here, 1, idle=idle), await log_in(here, 2, idle=idle)
        one, two = Connection(), Connection()
        watch = here.session_watch
        with (
            watch.watching(quiet, is_account=True, on_end=one.on_end),
            watch.watching(busy, is_account=True, on_end=two.on_end) as used,
        ):
            await checked(watch)
            while one.ending is None:
                used.used_at = 0.0
                watch.record_use(used)
                await asyncio.sleep(0.01)
            assert one.ending is Ending.SESSION_ENDED
            assert two.ending is None
            assert await two.wait() is Ending.SESSION_ENDED


async def test_connection_that_cannot_be_checked_ends_after_a_while(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fast = {"identity_cache_max_staleness": "100ms", "identity_cache_ttl": "300ms"}
    async with process(sqlite_url, **fast) as here:
        caller, one = await log_in(here), Connection()

        async def unavailable(*_: object) -> Sequence[Any]:
            raise StorageUnavailable

        with here.session_watch.watching(caller, is_account=True, on_end=one.on_end):
            await checked(here.session_watch)
            monkeypatch.setattr(Liveness, "find", unavailable)
            here.session_watch.changed([caller.user.id])
            assert await one.wait() is Ending.UNVERIFIED
    assert sum("not checked" in record.message for record in caplog.records) == 1


async def test_stop_ends_connections_and_waits_for_them(sqlite_url: str) -> None:
    async with process(sqlite_url) as here:
        caller, one = await log_in(here), Connection()
        watch = here.session_watch
        with watch.watching(caller, is_account=True, on_end=one.on_end):
            await watch.stop()
            assert one.ended.is_set()
            assert one.ending is Ending.STOPPED
        with (
            pytest.raises(RuntimeError, match="has not started"),
            watch.watching(caller, is_account=True, on_end=one.on_end),
        ):
            pass
        watch.start()
        assert len(watch) == 0


async def test_users_of_another_issuer_end_at_their_expiry_only(sqlite_url: str) -> None:
    async with process(sqlite_url) as here:
        caller, one = await log_in(here), Connection()
        await here.sessions.logout(caller)
        foreign = replace(caller, expires_at=now() + timedelta(milliseconds=200))
        with here.session_watch.watching(foreign, is_account=False, on_end=one.on_end):
            here.session_watch.changed([caller.user.id])
            assert one.ending is None
            assert await one.wait() is Ending.SESSION_ENDED


async def test_caller_without_a_session_ends_with_the_password(database_url: str) -> None:
    async with process(database_url) as here:
        caller, one = replace(await log_in(here), session_id=None), Connection()
        with here.session_watch.watching(caller, is_account=True, on_end=one.on_end):
            await here.sessions.end_all(caller.user.id)
            await checked(here.session_watch)
            assert one.ending is None
            await here.accounts.passwords.set(caller.user.id, "a new and long enough one")
            assert await one.wait() is Ending.SESSION_ENDED


async def test_caller_without_a_session_ends_with_a_second_factor(database_url: str) -> None:
    # HTTP Basic proves one factor, which the account now refuses.
    async with process(database_url) as here:
        caller, one = replace(await log_in(here), session_id=None), Connection()
        with here.session_watch.watching(caller, is_account=True, on_end=one.on_end):
            await checked(here.session_watch)
            assert one.ending is None
            await Authenticator(lambda: here).enrol(caller.user)
            assert await one.wait() is Ending.SESSION_ENDED


async def test_signed_caller_ends_with_the_key(database_url: str) -> None:
    async with process(database_url) as here:
        key, *_ = await all_keys(here)
        caller, one = replace(await log_in(here), key_id=key), Connection()
        with here.session_watch.watching(caller, is_account=True, on_end=one.on_end):
            await checked(here.session_watch)
            assert one.ending is None
            async with here.database.transaction() as store:
                await store.signing_keys.remove(key)
            here.session_watch.changed([caller.user.id])
            assert await one.wait() is Ending.SESSION_ENDED


async def all_keys(services: Services) -> list[str]:
    """Returns the ids of the signing keys."""
    async with services.database.read() as store:
        return [key.kid for key in await store.signing_keys.all()]
