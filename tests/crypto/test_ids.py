"""UUIDv7: the layout of RFC 9562, and the sort order."""

import os
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from authapi.crypto.ids import new_id, new_ids

MOMENT = datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)


def test_example_of_rfc_9562(monkeypatch: pytest.MonkeyPatch) -> None:
    # RFC 9562, A.6: rand_a is 0xCC3, rand_b 0x18C4DC0C0C07398F.
    monkeypatch.setattr(os, "urandom", lambda _: bytes.fromhex("0cc318c4dc0c0c07398f"))
    with time_machine.travel(MOMENT, tick=False):
        assert str(new_id()) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@pytest.mark.parametrize("fill", [b"\x00", b"\xff"])
def test_version_and_variant_are_set(fill: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda size: fill * size)
    made = new_id()
    assert (made.version, made.variant) == (7, uuid.RFC_4122)


def test_74_bits_are_random() -> None:
    with time_machine.travel(MOMENT, tick=False):
        made = [new_id().int for _ in range(200)]
    varying = 0
    for number in made:
        varying |= number ^ made[0]
    # 128 bits without 48 of time, 4 of version and 2 of variant.
    assert varying == (0xFFF << 64) | (1 << 62) - 1
    assert len(set(made)) == 200


def test_id_contains_the_millisecond() -> None:
    with time_machine.travel(MOMENT + timedelta(milliseconds=123, microseconds=999), tick=False):
        milliseconds = new_id().int >> 80
    assert milliseconds == int(MOMENT.timestamp()) * 1000 + 123


def test_ids_sort_by_time() -> None:
    made = []
    with time_machine.travel(MOMENT, tick=False) as traveller:
        for step in (1, 1, 7, 1000, 60_000, 86_400_000, 10 * 365 * 86_400_000):
            made.append(new_id())
            traveller.shift(timedelta(milliseconds=step))
        made.append(new_id())
    assert sorted(made) == made
    assert sorted(made, key=str) == made
    assert sorted(made, key=lambda found: found.bytes) == made


def test_time_beyond_48_bits_changes_no_other_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: (1 << 60) * 1_000_000)
    assert new_id().version == 7


def test_several_ids_are_as_random_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made = new_ids(1000)
    assert len(set(made)) == 1000
    assert {(one.version, one.variant) for one in made} == {(7, uuid.RFC_4122)}
    assert new_ids(0) == []
    monkeypatch.setattr(os, "urandom", lambda size: bytes(range(size)))
    with time_machine.travel(MOMENT, tick=False):
        first, second = new_ids(2)
        monkeypatch.setattr(os, "urandom", lambda _: bytes(range(10)))
        assert new_id() == first
        monkeypatch.setattr(os, "urandom", lambda _: bytes(range(10, 20)))
        assert new_id() == second
