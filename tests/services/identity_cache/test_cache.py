"""The identity cache: bounded in size and time, and never older than a change."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.services.identity_cache import cache as cache_module
from authapi.services.identity_cache.cache import CachedIdentity, IdentityCache
from authapi.storage.notifications import ALL_USERS
from tests.storage.rows import AT, a_user

MINUTE = timedelta(minutes=1)

ALICE, BOB, CAROL = (a_user(email=f"{name}@example.com") for name in ("alice", "bob", "carol"))


class Clock:
    """Replaces the module `time`. It has only the monotonic clock, which tests advance."""

    def __init__(self) -> None:
        self.at = 1000.0

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(cache_module, "time", clock)
    return clock


def cached_identity(user: User) -> CachedIdentity:
    return CachedIdentity(
        identity=Identity(
            user=user,
            strategy="session",
            session_id=uuid4(),
            scopes=frozenset(),
            auth_time=AT,
            amr=("pwd",),
            expires_at=AT + timedelta(days=1),
        ),
        session_id=uuid4(),
        expires_at=AT + timedelta(days=1),
        idle=None,
        last_seen_at=AT,
    )


def make_cache(*, size: int = 10, ttl: timedelta = MINUTE) -> IdentityCache:
    return IdentityCache(size=size, ttl=ttl)


def put(cache: IdentityCache, credential: bytes, user: User) -> CachedIdentity:
    cached = cached_identity(user)
    cache.put(credential, cached, snapshot=cache.snapshot())
    return cached


def test_get_returns_the_entry_of_exactly_that_credential() -> None:
    cache = make_cache()
    first, second = put(cache, b"1", ALICE), put(cache, b"2", ALICE)
    assert cache.get(b"1") is first
    assert cache.get(b"1") is first
    assert cache.get(b"2") is second
    assert cache.get(b"3") is None
    assert cache.get(b"") is None


def test_put_replaces_an_earlier_entry() -> None:
    cache = make_cache()
    put(cache, b"1", ALICE)
    later = put(cache, b"1", BOB)
    assert cache.get(b"1") is later
    assert len(cache) == 1
    cache.invalidate([ALICE.id])
    assert cache.get(b"1") is later
    cache.invalidate([BOB.id])
    assert cache.get(b"1") is None


def test_a_full_cache_evicts_the_oldest_entry() -> None:
    cache = make_cache(size=3)
    for credential in (b"1", b"2", b"3"):
        put(cache, credential, ALICE)
    # A repeated put moves the entry to the end, and evicts no other entry.
    put(cache, b"1", ALICE)
    assert [cache.get(key) is not None for key in (b"1", b"2", b"3")] == [True] * 3
    put(cache, b"4", BOB)
    assert len(cache) == 3
    assert [cache.get(key) is not None for key in (b"1", b"2", b"3", b"4")] == [
        *(True, False, True, True)
    ]
    for number in range(100):
        put(cache, b"%d" % number, ALICE)
        assert len(cache) == 3


def test_size_0_disables_the_cache() -> None:
    cache = make_cache(size=0)
    put(cache, b"1", ALICE)
    assert cache.get(b"1") is None
    assert len(cache) == 0
    cache.invalidate([ALICE.id])
    cache.clear()
    put(cache, b"1", ALICE)
    assert cache.get(b"1") is None


def test_an_entry_expires_after_the_ttl(clock: Clock) -> None:
    cache = make_cache(ttl=MINUTE)
    first = put(cache, b"1", ALICE)
    clock.at += 30
    second = put(cache, b"2", ALICE)
    clock.at += 30
    assert cache.get(b"1") is first
    clock.at += 0.001
    assert cache.get(b"1") is None
    assert cache.get(b"2") is second
    assert len(cache) == 1, "the expired entry is removed"


def test_put_renews_the_ttl_and_get_does_not(clock: Clock) -> None:
    cache = make_cache(ttl=MINUTE)
    put(cache, b"1", ALICE)
    for _ in range(6):
        clock.at += 10
        assert cache.get(b"1") is not None
    put(cache, b"1", ALICE)
    clock.at += 60
    assert cache.get(b"1") is not None
    clock.at += 0.001
    assert cache.get(b"1") is None


def test_invalidate_removes_the_entries_of_these_users_only() -> None:
    cache = make_cache()
    put(cache, b"1", ALICE)
    put(cache, b"2", ALICE)
    bob, carol = put(cache, b"3", BOB), put(cache, b"4", CAROL)
    cache.invalidate([ALICE.id])
    assert cache.get(b"1") is None
    assert cache.get(b"2") is None
    assert cache.get(b"3") is bob
    cache.invalidate([BOB.id, ALICE.id])
    assert cache.get(b"3") is None
    assert cache.get(b"4") is carol


def test_a_put_with_a_snapshot_from_before_a_change_is_ignored() -> None:
    cache = make_cache()
    snapshot = cache.snapshot()
    cache.invalidate([ALICE.id])
    cache.put(b"1", cached_identity(ALICE), snapshot=snapshot)
    assert cache.get(b"1") is None
    assert len(cache) == 0
    # A later change of another user makes the snapshot no better.
    cache.invalidate([BOB.id])
    cache.put(b"1", cached_identity(ALICE), snapshot=snapshot)
    assert cache.get(b"1") is None


def test_a_late_put_from_before_a_change_does_not_replace_a_newer_entry() -> None:
    cache = make_cache()
    snapshot = cache.snapshot()
    cache.invalidate([ALICE.id])
    later = put(cache, b"1", ALICE)
    cache.put(b"1", cached_identity(ALICE), snapshot=snapshot)
    assert cache.get(b"1") is later


def test_a_put_with_a_snapshot_from_after_a_change_is_stored() -> None:
    cache = make_cache()
    put(cache, b"1", ALICE)
    cache.invalidate([ALICE.id])
    assert cache.get(b"1") is None
    again = put(cache, b"1", ALICE)
    assert cache.get(b"1") is again


def test_a_put_with_a_snapshot_from_before_a_change_of_another_user_is_stored() -> None:
    cache = make_cache()
    snapshot = cache.snapshot()
    cache.invalidate([BOB.id])
    cached = cached_identity(ALICE)
    cache.put(b"1", cached, snapshot=snapshot)
    assert cache.get(b"1") is cached


def test_each_change_invalidates_not_only_the_first() -> None:
    cache = make_cache()
    for _ in range(5):
        snapshot = cache.snapshot()
        put(cache, b"1", ALICE)
        cache.invalidate([ALICE.id])
        assert cache.get(b"1") is None
        cache.put(b"1", cached_identity(ALICE), snapshot=snapshot)
        assert cache.get(b"1") is None


def test_get_removes_an_invalidated_entry() -> None:
    cache = make_cache()
    put(cache, b"1", ALICE)
    put(cache, b"2", BOB)
    cache.invalidate([ALICE.id])
    assert cache.get(b"1") is None
    assert len(cache) == 1


def test_clear_removes_all_entries_and_rejects_reads_in_progress() -> None:
    cache = make_cache()
    put(cache, b"1", ALICE)
    put(cache, b"2", BOB)
    snapshot = cache.snapshot()
    cache.clear()
    assert len(cache) == 0
    for credential, user in ((b"1", ALICE), (b"2", BOB), (b"3", CAROL)):
        assert cache.get(credential) is None
        cache.put(credential, cached_identity(user), snapshot=snapshot)
        assert cache.get(credential) is None
    after = put(cache, b"1", ALICE)
    assert cache.get(b"1") is after


def test_a_change_before_clear_does_not_affect_reads_after_it() -> None:
    cache = make_cache()
    cache.invalidate([ALICE.id])
    cache.clear()
    after = put(cache, b"1", ALICE)
    assert cache.get(b"1") is after


def overflow_one_by_one(cache: IdentityCache) -> None:
    for _ in range(5):
        cache.invalidate([uuid4()])


def overflow_at_once(cache: IdentityCache) -> None:
    cache.invalidate([uuid4() for _ in range(5)])


@pytest.mark.parametrize("overflow", [overflow_one_by_one, overflow_at_once])
def test_too_many_changed_users_clear_the_cache_once(
    monkeypatch: pytest.MonkeyPatch, overflow: Callable[[IdentityCache], None]
) -> None:
    monkeypatch.setattr(cache_module, "_MAX_USER_VERSIONS", 4)
    cache = make_cache()
    snapshot = cache.snapshot()
    put(cache, b"1", ALICE)
    cache.invalidate([BOB.id])
    cache.invalidate([CAROL.id, CAROL.id, BOB.id])
    assert cache.get(b"1") is not None
    overflow(cache)
    assert cache.get(b"1") is None
    # Snapshots from before the overflow are rejected, whether the user's version was stored or not.
    for user in (ALICE, BOB, CAROL):
        cache.put(b"1", cached_identity(user), snapshot=snapshot)
        assert cache.get(b"1") is None
    # From here on the cache works as at the beginning.
    alice, bob = put(cache, b"1", ALICE), put(cache, b"2", BOB)
    cache.invalidate([CAROL.id])
    assert cache.get(b"1") is alice
    cache.invalidate([BOB.id])
    assert cache.get(b"1") is alice
    assert cache.get(b"2") is not bob


def test_the_versions_of_users_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_MAX_USER_VERSIONS", 4)
    cache = make_cache()
    for _ in range(100):
        cache.invalidate([uuid4(), uuid4()])
        assert len(cache._user_versions) <= 4


def test_invalidating_all_users_clears_the_cache() -> None:
    cache = make_cache()
    snapshot = cache.snapshot()
    put(cache, b"1", ALICE)
    cache.invalidate([BOB.id, ALL_USERS])
    assert cache.get(b"1") is None
    assert snapshot < cache.flushed_at <= cache.snapshot()
    cache.put(b"1", cached_identity(ALICE), snapshot=snapshot)
    assert cache.get(b"1") is None, "read before the change"
    assert put(cache, b"1", ALICE) is cache.get(b"1")


def test_invalidating_no_user_changes_nothing() -> None:
    cache = make_cache()
    alice = put(cache, b"1", ALICE)
    users: list[UUID] = []
    cache.invalidate(users)
    assert cache.get(b"1") is alice
