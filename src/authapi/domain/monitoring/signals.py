"""What services report to the metrics. This class ignores it; the metrics override its methods."""

from collections.abc import Iterable


class Signals:
    """Takes note of what happens. No argument has a value that a client can choose."""

    def hashed(self, seconds: float) -> None:
        """A password hash took this long in its thread."""

    def throttled(self, limit: str) -> None:
        """An attempt exceeded a rate limit. `limit` is the first part of the key of its counter."""

    def breach_asked(self, outcome: str) -> None:
        """A new password was looked up among breached ones: `breached`, `unknown` or `failed`."""

    def attempted(self, kind: str, outcome: str) -> None:
        """An attempt to deliver an entry of the outbox ended: `delivered`, `failed`, `given_up`."""

    def cleanup_started(self, chores: Iterable[str]) -> None:
        """The process will run these tasks of the cleanup."""

    def cleaned(self, chore: str, rows: int) -> None:
        """A task of the cleanup has succeeded, and deleted this many rows."""
