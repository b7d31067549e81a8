"""A full queue makes room for networks with fewer entries, and serves all networks in turn."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from authapi.services.fair_queue import FairQueue


def drained(queue: FairQueue[str]) -> list[str]:
    """Entries in the order in which they are taken, each finished before the next."""
    found = []
    while (taken := queue.take()) is not None:
        entry, finish = taken
        found.append(entry)
        finish()
    return found


def test_one_network_may_use_the_whole_queue() -> None:
    queue = FairQueue[str](3)
    assert [queue.put("a", f"a{n}") for n in range(4)] == [(True, None)] * 3 + [(False, None)]
    assert drained(queue) == ["a0", "a1", "a2"]
    assert len(queue) == 0


def test_a_full_queue_drops_the_newest_entry_of_the_largest_network() -> None:
    queue = FairQueue[str](4)
    for entry in ("b0", "a0", "a1", "a2"):
        queue.put(entry[0], entry)
    assert queue.put("c", "c0") == (True, "a2")
    assert queue.put("c", "c1") == (False, None), (
        "with equal numbers of entries, the queue does not change"
    )
    assert queue.put("a", "a3") == (False, None)
    assert drained(queue) == ["b0", "a0", "c0", "a1"]


def test_taken_entry_counts_until_it_is_finished() -> None:
    queue = FairQueue[str](2)
    queue.put("a", "a0")
    taken = queue.take()
    assert taken is not None
    queue.put("a", "a1")
    assert len(queue) == 2
    assert queue.put("b", "b0") == (True, "a1")
    assert queue.put("c", "c0") == (False, None), "entries that were taken are not interrupted"
    taken[1]()
    assert queue.put("c", "c0") == (True, None)
    assert drained(queue) == ["b0", "c0"]


def test_removed_entry_frees_its_place_once() -> None:
    queue = FairQueue[str](2)
    queue.put("a", "a0")
    queue.put("a", "a1")
    assert queue.discard("a", "a0")
    assert not queue.discard("a", "a0")
    assert not queue.discard("b", "a1")
    assert len(queue) == 1
    assert drained(queue) == ["a1"]
    assert not queue.discard("a", "a1")
    assert len(queue) == 0


def test_clear_keeps_taken_entries() -> None:
    queue = FairQueue[str](5)
    for entry in ("a0", "a1", "b0"):
        queue.put(entry[0], entry)
    taken = queue.take()
    assert taken is not None
    assert sorted(queue.clear()) == ["a1", "b0"]
    assert len(queue) == 1
    taken[1]()
    assert len(queue) == 0


Step = tuple[str, str]
STEPS = st.tuples(st.sampled_from(["put", "take", "finish", "leave"]), st.sampled_from("abc"))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 6), st.lists(STEPS))
def test_queue_stays_within_capacity_and_fair(capacity: int, steps: list[Step]) -> None:
    queue = FairQueue[int](capacity)
    waiting: dict[int, str] = {}
    taken: list[tuple[str, object]] = []
    for number, (step, network) in enumerate(steps):
        held = Counter([*waiting.values(), *(name for name, _ in taken)])
        if step == "put":
            is_admitted, removed = queue.put(network, number)
            if is_admitted:
                waiting[number] = network
            if removed is not None:
                assert held[waiting.pop(removed)] > held[network] + 1
            # Rejected only if the queue is full, and no network with waiting entries has two more.
            assert is_admitted or held.total() == capacity
            most = max((held[name] for name in waiting.values()), default=0)
            assert is_admitted or most <= held[network] + 1
        elif step == "take" and (found := queue.take()) is not None:
            taken.append((waiting.pop(found[0]), found[1]))
        elif step == "finish" and taken:
            finish = taken.pop()[1]
            assert callable(finish)
            finish()
        elif step == "leave" and waiting:
            entry, owner = waiting.popitem()
            assert queue.discard(owner, entry)
        assert len(queue) == len(waiting) + len(taken) <= capacity
