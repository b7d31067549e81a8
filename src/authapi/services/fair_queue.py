"""A bounded queue that is shared fairly by the networks of clients.

The queue implements the longest-queue-drop policy with round-robin service (Suter et al., "Buffer
management schemes for supporting TCP in gigabit routers with per-flow queueing", 1999). A single
network may use the whole queue. If the queue is full, an entry of a network with fewer entries
replaces the newest waiting entry of the network with the most. Networks are served in turn.
"""

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Waiting entries, and the number of entries that were taken and are not finished, by network.

    All methods are thread-safe: the event loop puts entries, and worker threads take them.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._entries: Counter[str] = Counter()
        """Number of entries of each network, waiting and taken. The sum is at most `capacity`."""
        self._total = 0

    def __len__(self) -> int:
        """The number of entries that wait, or were taken and are not finished."""
        return self._total

    def put(self, network: str, entry: T) -> tuple[bool, T | None]:
        """Adds an entry. Returns whether it was admitted, and the entry that it replaced, if any.

        `network` is a result of `authapi.domain.client.network_of`.
        """
        with self._lock:
            removed = None
            if self._total >= self._capacity:
                largest = self._largest_network()
                if largest is None or self._entries[largest] <= self._entries[network] + 1:
                    return False, None
                removed = self._waiting[largest].pop()
                self._entry_removed(largest)
            self._waiting.setdefault(network, deque()).append(entry)
            self._entries[network] += 1
            self._total += 1
            return True, removed

    def take(self) -> tuple[T, Callable[[], None]] | None:
        """Takes the oldest entry of the next network. Returns None if no entry waits.

        The caller calls the returned function when the entry is finished.
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
        """Removes `entry` if it still waits. Returns whether it did."""
        with self._lock:
            entries = self._waiting.get(network)
            if entries is None or entry not in entries:
                return False
            entries.remove(entry)
            self._entry_removed(network)
            return True

    def clear(self) -> Sequence[T]:
        """Removes and returns all waiting entries."""
        with self._lock:
            removed = []
            while self._waiting:
                network = next(iter(self._waiting))
                removed.append(self._waiting[network].popleft())
                self._entry_removed(network)
            return removed

    def _largest_network(self) -> str | None:
        # Only networks with waiting entries: entries that were taken are not interrupted.
        return max(self._waiting, key=self._entries.__getitem__, default=None)

    def _entry_removed(self, network: str) -> None:
        if not self._waiting[network]:
            del self._waiting[network]
        self._count_down(network)

    def _count_down(self, network: str) -> None:
        self._total -= 1
        self._entries[network] -= 1
        if not self._entries[network]:
            del self._entries[network]
