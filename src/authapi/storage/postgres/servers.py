"""Which server the connections of a process reach. During a fail-over it is not always the same.

Two servers behind one address, or behind two, exchange no notifications. If the old primary still
runs after a standby was promoted, a connection that stays on it hears nothing of what commits on
the new one.
"""

from dataclasses import dataclass
from typing import Final

SERVER: Final = "extract(epoch FROM pg_postmaster_start_time())"
"""An expression of SQL that differs between servers, and after each restart."""


@dataclass(slots=True)
class ReachedServer:
    """The value of `SERVER` on the newest connection, or in the newest transaction, of a pool."""

    started: object = None
    """None before the first one."""
