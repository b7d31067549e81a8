"""A bounded queue that one network cannot fill while others wait.

It is the longest-queue-drop policy with round-robin service (Suter et al., "Buffer management
schemes for supporting TCP in gigabit routers with per-flow queueing", 1999). A network alone may
use the whole queue. When the queue is full and another network has fewer entries, the newest
waiting entry of the network with most entries makes room. Networks are served in turn.
"""

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Entries that wait, and entries that were taken and are not finished, by network.

    Threads take entries; the event loop puts them.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._entries: Counter[str] = Counter()
        """Entries of each network, waiting and taken. Their sum is at most `capacity`."""
        self._total = 0

    def __len__(self) -> int:
        """Entries that wait or were taken and are not finished."""
        return self._total

    def put(self, network: str, entry: T) -> tuple[bool, T | None]:
        """Add `entry` of `network`: whether it is admitted, and the entry removed to make room.

        `network` is the key of `authapi.identity.network_of`.
        """
        with self._lock:
            removed = None
            if self._total >= self._capacity:
                largest = self._largest()
                if largest is None or self._entries[largest] <= self._entries[network] + 1:
                    return False, None
                removed = self._waiting[largest].pop()
                self._left(largest)
            self._waiting.setdefault(network, deque()).append(entry)
            self._entries[network] += 1
            self._total += 1
            return True, removed

    def take(self) -> tuple[T, Callable[[], None]] | None:
        """The oldest entry of the network whose turn it is, and a function to call once it is done.

        None if no entry waits.
        """
        with self._lock:
            if not self._waiting:
                return None
            network, entries = self._waiting.popitem(last=False)
            entry = entries.popleft()
            if entries:
                self._waiting[network] = entries

        def finish() -> None:
            with self._lock:
                self._count_down(network)

        return entry, finish

    def discard(self, network: str, entry: T) -> bool:
        """Remove `entry` if it still waits; whether it did."""
        with self._lock:
            entries = self._waiting.get(network)
            if entries is None or entry not in entries:
                return False
            entries.remove(entry)
            self._left(network)
            return True

    def clear(self) -> Sequence[T]:
        """Remove the entries that wait, and return them."""
        with self._lock:
            removed = []
            while self._waiting:
                network = next(iter(self._waiting))
                removed.append(self._waiting[network].popleft())
                self._left(network)
            return removed

    def _largest(self) -> str | None:
        # Only networks with waiting entries: what was taken is not interrupted.
        return max(self._waiting, key=self._entries.__getitem__, default=None)

    def _left(self, network: str) -> None:
        if not self._waiting[network]:
            del self._waiting[network]
        self._count_down(network)

    def _count_down(self, network: str) -> None:
        self._total -= 1
        self._entries[network] -= 1
        if not self._entries[network]:
            del self._entries[network]
