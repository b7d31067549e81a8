"""Which server the connections of a process reach. During a fail-over it is not always the same.

Two servers behind one address, or behind two, exchange no notifications. If the old primary still
runs after a standby was promoted, a connection that stays on it hears nothing of what commits on
the new one.
"""

from dataclasses import dataclass, field
from typing import Final

SERVER: Final = "extract(epoch FROM pg_postmaster_start_time())"
"""An expression of SQL that differs between servers, and after each restart."""

TIMELINE: Final = (
    "SELECT system_identifier::text, CASE WHEN pg_is_in_recovery() THEN 0 ELSE"
    " ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint END"
    " FROM pg_control_system()"
)
"""A statement with the columns of `Timeline`. The name of a file of the log begins with it."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The history of a server. Each promotion begins a timeline with the next number."""

    system: str
    """The same for a server and its copies."""
    number: int
    """0 for a standby."""


@dataclass(slots=True)
class ReachedServer:
    """The value of `SERVER` on the newest connection, or in the newest transaction, of a pool.

    If there are several hosts, also the newest timeline that was reached. A server with an older
    one was a primary until another was promoted. It accepts connections as long as it does not
    know that, for example after it was frozen, and its rows are old: what was revoked since is
    valid there.
    """

    started: object = None
    """None before the first one."""
    _newest: dict[str, int] = field(default_factory=dict)

    def note(self, found: Timeline) -> None:
        """Records that a server was reached."""
        self._newest[found.system] = max(found.number, self._newest.get(found.system, 0))

    def is_outdated(self, found: Timeline) -> bool:
        """Returns whether another server has been promoted since `found` was the timeline."""
        return 0 < found.number < self._newest.get(found.system, 0)
