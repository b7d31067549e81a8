"""What follows the restore of a backup: ends of credentials, events again, and its detection."""

from authapi.services.restores.ending import AllSessions, Ended
from authapi.services.restores.lines import BadLine, RecordedEvent, merge_events, read_events
from authapi.services.restores.newest import RESOLVING, NewestEvent, describe_restore
from authapi.services.restores.reapplying import EventReplay, Replayed

__all__ = [
    "RESOLVING",
    "AllSessions",
    "BadLine",
    "Ended",
    "EventReplay",
    "NewestEvent",
    "RecordedEvent",
    "Replayed",
    "describe_restore",
    "merge_events",
    "read_events",
]
