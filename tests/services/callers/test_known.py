"""Known callers: few, not for long, and never out of what was read before a change."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from authapi.identity import Identity, User
from authapi.services.callers import known as module
from authapi.services.callers.known import Known, KnownCallers
from authapi.storage.changes import EVERYBODY
from tests.storage.rows import AT, a_user

MINUTE = timedelta(minutes=1)

ALICE, BOB, CAROL = (a_user(email=f"{name}@example.com") for name in ("alice", "bob", "carol"))


class Clock:
    """`time`, standing still until it is moved; the wall clock, which jumps, is not there."""

    def __init__(self) -> None:
        self.at = 1000.0

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


def known_of(user: User) -> Known:
    return Known(
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


def callers(*, size: int = 10, longest: timedelta = MINUTE) -> KnownCallers:
    return KnownCallers(size=size, longest=longest)


def remember(found: KnownCallers, credential: bytes, user: User) -> Known:
    known = known_of(user)
    found.remember(credential, known, number=found.number())
    return known


def test_whoever_is_remembered_is_recalled_by_that_credential_only() -> None:
    found = callers()
    first, second = remember(found, b"1", ALICE), remember(found, b"2", ALICE)
    assert found.recall(b"1") is first
    assert found.recall(b"1") is first
    assert found.recall(b"2") is second
    assert found.recall(b"3") is None
    assert found.recall(b"") is None


def test_what_was_read_later_replaces_what_was_read_before() -> None:
    found = callers()
    remember(found, b"1", ALICE)
    later = remember(found, b"1", BOB)
    assert found.recall(b"1") is later
    assert len(found) == 1
    found.changed([ALICE.id])
    assert found.recall(b"1") is later
    found.changed([BOB.id])
    assert found.recall(b"1") is None


def test_they_are_never_more_than_the_size_and_who_was_read_first_goes() -> None:
    found = callers(size=3)
    for credential in (b"1", b"2", b"3"):
        remember(found, credential, ALICE)
    # One that is read again comes last, and takes the place of nobody.
    remember(found, b"1", ALICE)
    assert [found.recall(key) is not None for key in (b"1", b"2", b"3")] == [True] * 3
    remember(found, b"4", BOB)
    assert len(found) == 3
    assert [found.recall(key) is not None for key in (b"1", b"2", b"3", b"4")] == [
        *(True, False, True, True)
    ]
    for number in range(100):
        remember(found, b"%d" % number, ALICE)
        assert len(found) == 3


def test_of_size_0_nobody_is_known() -> None:
    found = callers(size=0)
    remember(found, b"1", ALICE)
    assert found.recall(b"1") is None
    assert len(found) == 0
    found.changed([ALICE.id])
    found.forget()
    remember(found, b"1", ALICE)
    assert found.recall(b"1") is None


def test_nobody_is_known_for_longer_than_the_longest(clock: Clock) -> None:
    found = callers(longest=MINUTE)
    first = remember(found, b"1", ALICE)
    clock.at += 30
    second = remember(found, b"2", ALICE)
    clock.at += 30
    assert found.recall(b"1") is first
    clock.at += 0.001
    assert found.recall(b"1") is None
    assert found.recall(b"2") is second
    assert len(found) == 1, "what is over is not kept"


def test_a_recall_does_not_make_it_last_longer_but_a_new_read_does(clock: Clock) -> None:
    found = callers(longest=MINUTE)
    remember(found, b"1", ALICE)
    for _ in range(6):
        clock.at += 10
        assert found.recall(b"1") is not None
    remember(found, b"1", ALICE)
    clock.at += 60
    assert found.recall(b"1") is not None
    clock.at += 0.001
    assert found.recall(b"1") is None


def test_after_a_change_nothing_of_that_user_is_recalled_and_all_of_others() -> None:
    found = callers()
    remember(found, b"1", ALICE)
    remember(found, b"2", ALICE)
    bob, carol = remember(found, b"3", BOB), remember(found, b"4", CAROL)
    found.changed([ALICE.id])
    assert found.recall(b"1") is None
    assert found.recall(b"2") is None
    assert found.recall(b"3") is bob
    found.changed([BOB.id, ALICE.id])
    assert found.recall(b"3") is None
    assert found.recall(b"4") is carol


def test_a_read_from_before_a_change_is_never_used_though_it_arrives_after() -> None:
    found = callers()
    number = found.number()
    found.changed([ALICE.id])
    found.remember(b"1", known_of(ALICE), number=number)
    assert found.recall(b"1") is None
    assert len(found) == 0
    # Later changes of somebody else make it no better.
    found.changed([BOB.id])
    found.remember(b"1", known_of(ALICE), number=number)
    assert found.recall(b"1") is None


def test_a_late_read_from_before_a_change_does_not_displace_what_was_read_after() -> None:
    found = callers()
    number = found.number()
    found.changed([ALICE.id])
    later = remember(found, b"1", ALICE)
    found.remember(b"1", known_of(ALICE), number=number)
    assert found.recall(b"1") is later


def test_a_read_that_began_after_a_change_is_used() -> None:
    found = callers()
    remember(found, b"1", ALICE)
    found.changed([ALICE.id])
    assert found.recall(b"1") is None
    again = remember(found, b"1", ALICE)
    assert found.recall(b"1") is again


def test_a_read_from_before_the_change_of_another_is_used() -> None:
    found = callers()
    number = found.number()
    found.changed([BOB.id])
    known = known_of(ALICE)
    found.remember(b"1", known, number=number)
    assert found.recall(b"1") is known


def test_each_change_counts_not_only_the_first() -> None:
    found = callers()
    for _ in range(5):
        number = found.number()
        remember(found, b"1", ALICE)
        found.changed([ALICE.id])
        assert found.recall(b"1") is None
        found.remember(b"1", known_of(ALICE), number=number)
        assert found.recall(b"1") is None


def test_what_a_change_killed_is_removed_when_it_is_asked_for() -> None:
    found = callers()
    remember(found, b"1", ALICE)
    remember(found, b"2", BOB)
    found.changed([ALICE.id])
    assert found.recall(b"1") is None
    assert len(found) == 1


def test_to_forget_is_to_forget_everybody_and_every_read_under_way() -> None:
    found = callers()
    remember(found, b"1", ALICE)
    remember(found, b"2", BOB)
    number = found.number()
    found.forget()
    assert len(found) == 0
    for credential, user in ((b"1", ALICE), (b"2", BOB), (b"3", CAROL)):
        assert found.recall(credential) is None
        found.remember(credential, known_of(user), number=number)
        assert found.recall(credential) is None
    after = remember(found, b"1", ALICE)
    assert found.recall(b"1") is after


def test_changes_from_before_a_forgetting_are_no_hindrance_after_it() -> None:
    found = callers()
    found.changed([ALICE.id])
    found.forget()
    after = remember(found, b"1", ALICE)
    assert found.recall(b"1") is after


def overflow_one_by_one(found: KnownCallers) -> None:
    for _ in range(5):
        found.changed([uuid4()])


def overflow_at_once(found: KnownCallers) -> None:
    found.changed([uuid4() for _ in range(5)])


@pytest.mark.parametrize("overflow", [overflow_one_by_one, overflow_at_once])
def test_more_changed_users_than_are_kept_forget_everybody_once(
    monkeypatch: pytest.MonkeyPatch, overflow: Callable[[KnownCallers], None]
) -> None:
    monkeypatch.setattr(module, "_GENERATIONS", 4)
    found = callers()
    number = found.number()
    remember(found, b"1", ALICE)
    found.changed([BOB.id])
    found.changed([CAROL.id, CAROL.id, BOB.id])
    assert found.recall(b"1") is not None
    overflow(found)
    assert found.recall(b"1") is None
    # What was read before is out, whether its user's generation was forgotten or never there.
    for user in (ALICE, BOB, CAROL):
        found.remember(b"1", known_of(user), number=number)
        assert found.recall(b"1") is None
    # And from there on all is as at the beginning.
    alice, bob = remember(found, b"1", ALICE), remember(found, b"2", BOB)
    found.changed([CAROL.id])
    assert found.recall(b"1") is alice
    found.changed([BOB.id])
    assert found.recall(b"1") is alice
    assert found.recall(b"2") is not bob


def test_the_generations_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GENERATIONS", 4)
    found = callers()
    for _ in range(100):
        found.changed([uuid4(), uuid4()])
        assert len(found._generations) <= 4


def test_a_change_of_everybody_forgets_everybody() -> None:
    found = callers()
    number = found.number()
    remember(found, b"1", ALICE)
    found.changed([BOB.id, EVERYBODY])
    assert found.recall(b"1") is None
    assert number < found.floor <= found.number()
    found.remember(b"1", known_of(ALICE), number=number)
    assert found.recall(b"1") is None, "read before"
    assert remember(found, b"1", ALICE) is found.recall(b"1")


def test_a_change_of_nobody_changes_nobody() -> None:
    found = callers()
    alice = remember(found, b"1", ALICE)
    nobody: list[UUID] = []
    found.changed(nobody)
    assert found.recall(b"1") is alice
